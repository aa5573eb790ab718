// What is in a media file, by decoding it with ffmpeg: a recording is judged by its colours, tones,
// flashes and beeps, not by its size. The patterns are those that client.js draws and sounds.

import { spawn } from 'node:child_process';
import { within } from './wait.mjs';

const DECODE_LIMIT_MS = 120_000;
export const SAMPLE_RATE = 48_000;

// Runs a program to its end and gives its output; a program that complains on stderr has failed,
// even with exit code 0: that is how ffmpeg tells of damaged frames.
export async function run(command, args, { limitMs = DECODE_LIMIT_MS, mayComplain = false } = {}) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const out = [];
    const complaints = [];
    child.stdout.on('data', (part) => out.push(part));
    child.stderr.on('data', (part) => complaints.push(part));
    const ended = new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code, signal) => resolve(code ?? signal));
    });
    try {
        const code = await within(`${command} ends`, limitMs, ended);
        const said = Buffer.concat(complaints).toString().trim();
        if (code !== 0 || (said && !mayComplain)) throw new Error(`${command} ${args.join(' ')}: ${code}: ${said}`);
        return Buffer.concat(out);
    } finally {
        child.kill('SIGKILL');
    }
}

const ffmpeg = (...args) => run('ffmpeg', ['-nostdin', '-v', 'error', '-xerror', ...args]);

// Streams, sizes, rates and duration, as ffprobe tells them.
export async function probe(file) {
    const text = await run('ffprobe', ['-v', 'error', '-show_streams', '-show_format', '-of', 'json', file]);
    const { streams, format } = JSON.parse(text);
    const video = streams.find((stream) => stream.codec_type === 'video');
    const audio = streams.find((stream) => stream.codec_type === 'audio');
    return { video, audio, duration: Number(format.duration), format };
}

// When each video frame is shown, in seconds, in order.
async function frameTimes(file) {
    const text = await run('ffprobe', ['-v', 'error', '-select_streams', 'v:0', '-show_entries', 'packet=pts_time', '-of', 'csv=p=0', file]);
    return text.toString().split('\n').map(parseFloat).filter(Number.isFinite).sort((a, b) => a - b);
}

// All frames, scaled down to `width`, each with its time. Everything is decoded; any error rejects.
export async function frames(file, { width = 320 } = {}) {
    const { video } = await probe(file);
    const height = 2 * Math.round((width * video.height) / video.width / 2);
    const size = width * height * 3;
    const [raw, times] = await Promise.all([
        ffmpeg('-i', file, '-map', '0:v:0', '-vf', `scale=${width}:${height}:flags=area`, '-fps_mode', 'passthrough', '-enc_time_base', '-1',
            '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-'),
        frameTimes(file),
    ]);
    const count = raw.length / size;
    if (count !== times.length) throw new Error(`${file}: ${times.length} frames in the file, ${count} decoded`);
    return times.map((time, index) => new Frame(raw.subarray(index * size, (index + 1) * size), width, height, time));
}

// One frame at its full size, at or after a time in seconds.
export async function still(file, time) {
    const { video: { width, height } } = await probe(file);
    const raw = await ffmpeg('-i', file, '-ss', String(time), '-map', '0:v:0', '-frames:v', '1', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-');
    if (raw.length !== width * height * 3) throw new Error(`${file} has no frame at ${time} s`);
    return new Frame(raw, width, height, time);
}

export class Frame {
    constructor(data, width, height, time) {
        Object.assign(this, { data, width, height, time });
    }

    // The mean colour around a place, given as fractions of the frame.
    at(x, y, radius = 1) {
        const sum = [0, 0, 0];
        let count = 0;
        const left = Math.min(this.width - 1, Math.floor(x * this.width));
        const top = Math.min(this.height - 1, Math.floor(y * this.height));
        for (let row = Math.max(0, top - radius); row <= Math.min(this.height - 1, top + radius); row++) {
            for (let column = Math.max(0, left - radius); column <= Math.min(this.width - 1, left + radius); column++) {
                const at = 3 * (row * this.width + column);
                for (let c = 0; c < 3; c++) sum[c] += this.data[at + c];
                count++;
            }
        }
        return sum.map((value) => Math.round(value / count));
    }

    // The same within a tile: `tile` is {x, y, width, height} in fractions of the frame.
    inTile(tile, x, y, radius) {
        return this.at(tile.x + x * tile.width, tile.y + y * tile.height, radius);
    }

    // The share of the picture that has this colour, wherever.
    share(colour, tolerance = 60) {
        let count = 0;
        for (let at = 0; at < this.data.length; at += 3) {
            if (near([this.data[at], this.data[at + 1], this.data[at + 2]], colour, tolerance)) count++;
        }
        return (3 * count) / this.data.length;
    }

    // The smallest rectangle that holds every pixel of a colour, in fractions; null if there is none.
    find(colour, tolerance = 60) {
        let [left, top, right, bottom] = [this.width, this.height, -1, -1];
        for (let y = 0; y < this.height; y++) {
            for (let x = 0; x < this.width; x++) {
                const at = 3 * (y * this.width + x);
                if (!near([this.data[at], this.data[at + 1], this.data[at + 2]], colour, tolerance)) continue;
                left = Math.min(left, x);
                right = Math.max(right, x);
                top = Math.min(top, y);
                bottom = Math.max(bottom, y);
            }
        }
        if (right < 0) return null;
        return {
            x: left / this.width, y: top / this.height,
            width: (right + 1 - left) / this.width, height: (bottom + 1 - top) / this.height,
        };
    }

    // The number that client.js drew into a tile: tenths of a second; null if none is to be read.
    counter(tile = WHOLE) {
        const bits = Array.from({ length: 16 }, (_, cell) => (luma(this.inTile(tile, 0.1 + (0.8 * (cell + 0.5)) / 16, 0.5)) > 127 ? 1 : 0));
        const value = (from, to) => bits.slice(from, to).reduce((sum, bit) => sum * 2 + bit, 0);
        const ones = bits.slice(0, 12).reduce((a, b) => a + b, 0);
        return (ones ^ 0b0101) === value(12, 16) ? value(0, 12) : null;
    }

    // Whether the patch in a tile that goes with the beep is lit.
    flash(tile = WHOLE) {
        return luma(this.inTile(tile, 0.5, 0.2)) > 127;
    }
}

const WHOLE = { x: 0, y: 0, width: 1, height: 1 };
const luma = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b;

// Whether two colours are the same to within what coding and colour ranges change.
export function near(colour, wanted, tolerance = 60) {
    return colour !== null && colour.every((value, channel) => Math.abs(value - wanted[channel]) <= tolerance);
}

// When flashes begin in a tile, in seconds.
export function flashes(list, tile) {
    return list.filter((frame, index) => frame.flash(tile) && index > 0 && !list[index - 1].flash(tile)).map((frame) => frame.time);
}

// All of the sound as one channel, −1…1. Starts at time 0 of the file: what is missing is silence.
export async function samples(file) {
    const raw = await ffmpeg('-i', file, '-map', '0:a:0', '-ac', '1', '-ar', String(SAMPLE_RATE),
        '-af', 'aresample=async=1:first_pts=0', '-f', 's16le', '-');
    const sound = new Float32Array(Math.floor(raw.length / 2));
    for (let at = 0; at < sound.length; at++) sound[at] = raw.readInt16LE(2 * at) / 32768;
    return sound;
}

// The strength of one frequency in a stretch of sound (Goertzel): the amplitude of a sine.
export function strength(sound, frequency, from = 0, to = sound.length) {
    const coefficient = 2 * Math.cos((2 * Math.PI * frequency) / SAMPLE_RATE);
    let [one, two] = [0, 0];
    for (let at = from; at < to; at++) [one, two] = [sound[at] + coefficient * one - two, one];
    const power = one * one + two * two - coefficient * one * two;
    return (2 * Math.sqrt(Math.max(0, power))) / Math.max(1, to - from);
}

// The strength of a frequency between two times in seconds.
export function tone(sound, frequency, from, to) {
    // In windows of a tenth of a second: a sound that is brought into step is half a per cent off its pitch meanwhile.
    const window = SAMPLE_RATE / 10;
    const levels = [];
    const end = Math.min(sound.length, Math.round(to * SAMPLE_RATE));
    for (let at = Math.round(from * SAMPLE_RATE); at + window <= end; at += window) levels.push(strength(sound, frequency, at, at + window));
    return levels.reduce((a, b) => a + b, 0) / levels.length;
}

// When beeps of a frequency begin, in seconds. Windows of 10 ms every 2 ms; a beep begins in the
// middle of the first window that holds half of what the loudest holds.
export function beeps(sound, frequency) {
    const [window, hop] = [0.01 * SAMPLE_RATE, 0.002 * SAMPLE_RATE];
    const curve = [];
    for (let at = 0; at + window <= sound.length; at += hop) curve.push(strength(sound, frequency, at, at + window));
    const loudest = curve.reduce((a, b) => Math.max(a, b), 0);
    if (loudest < 0.02) return [];
    const found = [];
    let quiet = 20; // hops: a beep begins after 40 ms without it, so that a ripple is not a beginning
    curve.forEach((value, index) => {
        if (value < loudest / 2) quiet++;
        else {
            if (quiet >= 20) found.push((index * hop + window / 2) / SAMPLE_RATE);
            quiet = 0;
        }
    });
    return found;
}

// Pairs each flash with the nearest beep within half a second: sound after picture is positive. `drawnLate` gives
// by how much the page drew the flash of that time too late, which is not the file's doing.
export function offsets(flashTimes, beepTimes, drawnLate = () => 0) {
    return flashTimes.flatMap((shown) => {
        const flash = shown - drawnLate(shown);
        const best = beepTimes.map((beep) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b))[0];
        return best !== undefined && Math.abs(best) < 0.5 ? [best] : [];
    });
}

export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
}
