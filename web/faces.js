// What stands for a person whose camera is off: initials, and a colour that stays the same.

/** Up to two letters: `Ada Lovelace` → `AL`, `김철수` → `철수` (Korean given names come last). */
export function initialsOf(name) {
  const words = name.split(/[^\p{L}\p{N}\p{M}\p{So}\u200d]+/u).filter(Boolean);
  if (!words.length) return '?';
  if (/^\p{Script=Hangul}{2,4}$/u.test(words[0])) return [...words[0]].slice(-2).join('');
  const firsts = [words[0], ...words.slice(1).slice(-1)].map(firstLetter);
  return firsts.join('').toUpperCase();
}

// By grapheme: a flag or a family is several code points but one letter to the eye.
function firstLetter(word) {
  if (!Intl.Segmenter) return [...word][0];
  const [first] = new Intl.Segmenter().segment(word);
  return first.segment;
}

/** A hue in degrees, from a participant's id. */
export function hueOf(id) {
  let hash = 0;
  for (const letter of id) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  // Golden-angle steps keep neighbours apart on the wheel.
  return Math.round((hash % 360) * 137.5) % 360;
}
