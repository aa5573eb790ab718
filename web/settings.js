// What this browser remembers between visits: nickname, devices, panel width, language, theme.
// Storage may be forbidden (private windows, policies); then nothing is remembered and all works.

const PREFIX = 'salon.';

export function recall(key, otherwise = null) {
  try {
    const text = localStorage.getItem(PREFIX + key);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Nothing to do: see the head of this file.
  }
}
