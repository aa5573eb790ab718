// Which layer of each picture is asked for: the one that fits its tile. The server knows the layers; we say how
// high the tile is, in pixels of the screen.

const DEBOUNCE_MS = 300;
// The server bears ten requests a second, of all kinds.
const PAUSE_MS = 200;
const ALIKE = 0.1;
const AGAIN_MS = 1_000;

/** Asks in the background; what fails is asked again with the next change. */
export class Layers {
  #request;
  #wanted = new Map();
  #asked = new Map();
  #timer = null;
  #busy = false;

  /** `request(fields)` sends the verb `layer`. */
  constructor(request) {
    this.#request = request;
  }

  /** The tiles as they are: `[{ id, received, height }]`: a published track, what we receive of it, and pixels. */
  show(tiles) {
    this.#wanted = new Map(tiles.map((tile) => [tile.id, tile]));
    for (const id of this.#asked.keys()) if (!this.#wanted.has(id)) this.#asked.delete(id);
    this.#later();
  }

  close() {
    clearTimeout(this.#timer);
    this.#wanted.clear();
  }

  // Not later for what comes meanwhile: while somebody speaks there is always something.
  #later() {
    if (this.#busy || this.#timer !== null || !this.#next()) return;
    this.#timer = setTimeout(() => { this.#timer = null; this.#ask(); }, DEBOUNCE_MS);
  }

  async #ask() {
    this.#busy = true;
    const refused = new Set();
    for (let tile = this.#next(refused); tile; tile = this.#next(refused)) {
      this.#asked.set(tile.id, tile);
      try {
        await this.#request({ track: tile.id, height: tile.height });
      } catch (error) {
        this.#asked.delete(tile.id);
        // Its owner may have gone meanwhile.
        console.debug('salon: layer not changed', error.message);
        refused.add(tile.id);
      }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
    if (refused.size) await new Promise((done) => setTimeout(done, AGAIN_MS));
    this.#busy = false;
    this.#later();
  }

  /** The next to be asked for, but none of `refused`. */
  #next(refused) {
    const isNext = (tile) => !refused?.has(tile.id) && changes(this.#asked.get(tile.id), tile);
    return [...this.#wanted.values()].find(isNext);
  }
}

/** Whether a tile asks for something else than before; a new connection begins with the largest layer. */
export function changes(before, now) {
  if (!before || before.received !== now.received) return true;
  return Math.abs(now.height - before.height) > ALIKE * before.height;
}

/**
 * The layers that a camera of that height sends, smallest first, as `sendEncodings`: halves of it down to 180 lines,
 * three at most.
 */
export function layersOf(height, maxBitrate) {
  const count = height >= 720 ? 3 : height >= 360 ? 2 : 1;
  if (count === 1) return [{ maxBitrate }];
  return Array.from({ length: count }, (_, index) => {
    const scaleResolutionDownBy = 2 ** (count - 1 - index);
    return { rid: 'lmh'[index + (3 - count)], scaleResolutionDownBy, maxBitrate: Math.round(maxBitrate / scaleResolutionDownBy ** 1.5) };
  });
}
