// Whether a text was drawn as it is written: the drawn pixels against what Chromium draws of the
// same words and of words that a careless server would have made of them.

const GRID = { width: 240, height: 24 };

// The bounding box of what is bright below `top` (a fraction), as a small greyscale picture.
export function brightBelow(frame, top, threshold = 170) {
    const bright = new Float32Array(frame.width * frame.height);
    for (let at = Math.floor(top * frame.height) * frame.width; at < bright.length; at++) {
        bright[at] = Math.min(frame.data[3 * at], frame.data[3 * at + 1], frame.data[3 * at + 2]) > threshold ? 1 : 0;
    }
    return crop(bright, frame.width, frame.height);
}

// The same of a text that Chromium draws in white on black.
export async function drawn(page, text) {
    const { pixels, width, height } = await page.evaluate((words) => {
        const canvas = new OffscreenCanvas(900, 60);
        const context = canvas.getContext('2d');
        context.fillStyle = 'black';
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.fillStyle = 'white';
        context.font = '28px "Noto Sans CJK KR"';
        context.fillText(words, 10, 40);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        return { pixels: Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]), width: canvas.width, height: canvas.height };
    }, text);
    return crop(Float32Array.from(pixels, (value) => (value > 170 ? 1 : 0)), width, height);
}

function crop(bright, width, height) {
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
            if (!bright[y * width + x]) continue;
            left = Math.min(left, x);
            right = Math.max(right, x);
            top = Math.min(top, y);
            bottom = Math.max(bottom, y);
        }
    }
    if (right < 0) return null;
    const [wide, high] = [right + 1 - left, bottom + 1 - top];
    // Each cell of the small picture is the mean of the pixels that fall into it.
    const cells = new Float32Array(GRID.width * GRID.height);
    const counts = new Float32Array(cells.length);
    const steps = 4; // finer than a cell on both sides, so that no cell stays empty
    for (let row = 0; row < GRID.height * steps; row++) {
        for (let column = 0; column < GRID.width * steps; column++) {
            const y = top + Math.floor((row * high) / (GRID.height * steps));
            const x = left + Math.floor((column * wide) / (GRID.width * steps));
            const cell = Math.floor(row / steps) * GRID.width + Math.floor(column / steps);
            cells[cell] += bright[y * width + x];
            counts[cell]++;
        }
    }
    return { ratio: wide / high, cells: cells.map((value, index) => value / counts[index]) };
}

// How alike two are: their correlation, less what their shapes differ.
export function likeness(one, other) {
    if (!one || !other) return 0;
    const mean = (cells) => cells.reduce((a, b) => a + b, 0) / cells.length;
    const [meanOne, meanOther] = [mean(one.cells), mean(other.cells)];
    let [product, squareOne, squareOther] = [0, 0, 0];
    one.cells.forEach((value, index) => {
        const [a, b] = [value - meanOne, other.cells[index] - meanOther];
        product += a * b;
        squareOne += a * a;
        squareOther += b * b;
    });
    return product / Math.sqrt(squareOne * squareOther) - Math.abs(Math.log(one.ratio / other.ratio));
}
