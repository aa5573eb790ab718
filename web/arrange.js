// Where tiles go: arithmetic only, in CSS pixels.

const ASPECT = 16 / 9;
const ALMOST = 0.9;
const STRIP_SHARE = 0.22;
const STRIP_LEAST = 132;
const STRIP_MOST = 300;

/**
 * The largest equal 16:9 tiles that fit, or nearly: `[{ left, top, width, height }]` for `count` of them in a
 * box. Rows that are not full are centred. Among grids whose tiles are almost as large as they can be, the
 * one that is nearest to a square wins: four small pictures one above the other look lost.
 */
export function fitGrid(count, box, gap) {
  const grids = Array.from({ length: count }, (_, index) => {
    const columns = index + 1;
    const rows = Math.ceil(count / columns);
    const byWidth = (box.width - gap * (columns - 1)) / columns;
    const byHeight = ((box.height - gap * (rows - 1)) / rows) * ASPECT;
    return { columns, width: Math.max(0, Math.min(byWidth, byHeight)), oblong: Math.abs(columns - rows) };
  });
  const largest = Math.max(...grids.map(({ width }) => width));
  const good = grids.filter(({ width }) => width >= ALMOST * largest);
  return place(count, box, gap, good.sort((a, b) => a.oblong - b.oblong || b.width - a.width)[0]);
}

function place(count, box, gap, { width, columns }) {
  const height = width / ASPECT;
  const rows = Math.ceil(count / columns);
  const usedHeight = rows * height + (rows - 1) * gap;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const usedWidth = inRow * width + (inRow - 1) * gap;
    return {
      left: box.left + (box.width - usedWidth) / 2 + (index - row * columns) * (width + gap),
      top: box.top + (box.height - usedHeight) / 2 + row * (height + gap),
      width,
      height,
    };
  });
}

/**
 * One tile large, the others in a strip: beside it in a wide box, below it in a tall one. `large` is the
 * index of the large one; it fills its part of the box, whatever its aspect.
 */
export function fitStage(count, large, box, gap) {
  if (count === 1) return [box];
  const [stage, strip] = box.width >= box.height * 1.1 ? splitBeside(box, gap) : splitBelow(box, gap);
  const small = fitGrid(count - 1, strip, gap);
  return Array.from({ length: count }, (_, index) => {
    if (index === large) return stage;
    return small[index < large ? index : index - 1];
  });
}

function splitBeside({ left, top, width, height }, gap) {
  const strip = clamp(width * STRIP_SHARE, STRIP_LEAST, STRIP_MOST);
  const stage = { left, top, width: width - strip - gap, height };
  return [stage, { left: left + stage.width + gap, top, width: strip, height }];
}

function splitBelow({ left, top, width, height }, gap) {
  const strip = clamp(height * STRIP_SHARE, STRIP_LEAST, STRIP_MOST);
  const stage = { left, top, width, height: height - strip - gap };
  return [stage, { left, top: top + stage.height + gap, width, height: strip }];
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
