// The room's layout, which decides what recordings show: its kinds, small drawings of them, and how one is
// changed. Plain values, no elements.

/** What can be chosen here; `custom` is drawn by programs, over the API. */
export const KINDS = ['grid', 'speaker', 'presentation', 'pip', 'audio-only'];

/**
 * Each kind as `[x, y, width, height, what]` on a canvas of 64 × 36, what lies nearest last. `what` is
 * `person`, `main` (who speaks, or is pinned), `screen` or `name` (no picture).
 */
export const DRAWINGS = {
  grid: [[2, 2, 29, 15, 'person'], [33, 2, 29, 15, 'person'], [2, 19, 29, 15, 'person'], [33, 19, 29, 15, 'person']],
  speaker: [[9, 2, 46, 22, 'main'], [9, 26, 14, 8, 'person'], [25, 26, 14, 8, 'person'], [41, 26, 14, 8, 'person']],
  presentation: [[2, 2, 46, 32, 'screen'], [50, 2, 12, 9.3, 'person'], [50, 13.3, 12, 9.3, 'person'], [50, 24.7, 12, 9.3, 'person']],
  pip: [[2, 2, 60, 32, 'screen'], [43, 21, 16, 10, 'main']],
  'audio-only': [[2, 2, 29, 15, 'name'], [33, 2, 29, 15, 'name'], [2, 19, 29, 15, 'name'], [33, 19, 29, 15, 'name']],
};

/**
 * `layout` with `change` in it, as the verb `layout` takes it: the whole of it, for what is left out there
 * is set back. A kind of ours has no regions; `pinned: null` pins nobody, `logo: null` shows none.
 */
export function changedLayout(layout, change) {
  const { regions, pinned, logo, ...next } = { ...layout, ...change };
  return {
    ...next,
    ...(pinned ? { pinned } : {}),
    ...(logo ? { logo } : {}),
    ...(next.kind === 'custom' ? { regions } : {}),
  };
}
