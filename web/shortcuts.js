// Single-key shortcuts, silent while somebody types or a dialog is open.

/** `{ m: run, … }`; returns what switches them off. */
export function bindShortcuts(actions) {
  const listener = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    if (document.querySelector('dialog[open]')) return;
    const action = actions[event.key.toLowerCase()] ?? actions[byPlace(event.code)];
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener('keydown', listener);
  return () => document.removeEventListener('keydown', listener);
}

// With a Korean keyboard the key `m` gives `ㅡ`: its place on the keyboard still says what is meant.
function byPlace(code) {
  return /^Key[A-Z]$/.test(code) ? code.slice(3).toLowerCase() : null;
}

function isTyping(element) {
  return element.matches?.('input:not([type=checkbox]), textarea, select, [contenteditable]') ?? false;
}
