// Chains of effects as plain values: what a catalogue's effect begins with, how a chain changes, and
// which of its parameters are a place in the picture. No elements.

/** As the server takes them in one chain: so many on pictures, and so many on sound. */
export const MOST_OF_A_KIND = 8;

/** An effect as it is put on: `{ name, params }`, every parameter at its default. */
export function withDefaults({ name, parameters }) {
  return { name, params: Object.fromEntries(parameters.map((one) => [one.name, one.range.default])) };
}

/** Whether another of `kind` (`video`, `audio`) fits into the chain. */
export function hasRoom(chain, kind, catalogue) {
  const kinds = new Map(catalogue.map((effect) => [effect.name, effect.kind]));
  return chain.filter(({ name }) => kinds.get(name) === kind).length < MOST_OF_A_KIND;
}

/** The chain with the effect at `from` at place `to`; places outside are the ends. */
export function moved(chain, from, to) {
  const next = [...chain];
  const [one] = next.splice(from, 1);
  next.splice(Math.max(0, Math.min(next.length, to)), 0, one);
  return next;
}

export function without(chain, index) {
  return chain.filter((_, at) => at !== index);
}

/** The chain with one effect's parameters changed by `change` (`{ name: value }`). */
export function changed(chain, index, change) {
  return chain.map((one, at) => (at === index ? { ...one, params: { ...one.params, ...change } } : one));
}

/** Whether two chains ask for the same, whatever else their entries carry. */
export function same(a, b) {
  const plain = (chain) => JSON.stringify(chain.map(({ name, params }) => [name, Object.entries(params).sort(([x], [y]) => (x < y ? -1 : 1))]));
  return plain(a) === plain(b);
}

/** Whether the effect's place is set by its parameters `x` and `y`, shares of the picture's sides. */
export function hasPlace({ parameters }) {
  return ['x', 'y'].every((name) => parameters.some((one) => one.name === name && one.range.type === 'number' && one.range.min === 0 && one.range.max === 1));
}

/** How far a slider goes at a step where the catalogue does not say: a hundredth of its way, rounded to a power of ten. */
export function stepOf({ min, max, step }) {
  return step ?? 10 ** Math.floor(Math.log10((max - min) / 100));
}
