// Messages over the page: notices, which pass, and banners, which stay while their cause stands.

import { el, iconButton } from '/dom.js';
import { icon } from '/icons.js';

const STAY_MS = { info: 5_000, warning: 10_000 };
const MOST = 4;

/**
 * Shows a notice: `text` is `[key, args]`; `kind` is `info` or `warning`; `action`, if given, is
 * `{ t, run, testid, stayMs }`, and passes with the notice.
 */
export function notify(text, kind = 'info', action = null) {
  const region = document.getElementById('notices');
  for (const same of region.querySelectorAll('.notice')) {
    if (same.dataset.text === JSON.stringify(text)) same.remove();
  }
  while (region.children.length >= MOST) region.firstElementChild.remove();
  const notice = el('div', { class: `notice ${kind}`, testid: 'notice', 'data-text': JSON.stringify(text) },
    icon(kind === 'warning' ? 'warning' : 'check'),
    el('p', { t: text }),
    action && el('button', {
      type: 'button', class: 'small', t: action.t, testid: action.testid, on: { click: () => { notice.remove(); action.run(); } },
    }),
    iconButton('close', 'dismiss', 'notice-dismiss', () => notice.remove()));
  region.append(notice);
  passAfter(notice, action?.stayMs ?? STAY_MS[kind]);
}

// Nobody should lose a message while reading it: the pointer or the focus on it holds it.
function passAfter(notice, time) {
  let timer = setTimeout(() => notice.remove(), time);
  const hold = () => clearTimeout(timer);
  const go = () => { hold(); timer = setTimeout(() => notice.remove(), time); };
  notice.addEventListener('pointerenter', hold);
  notice.addEventListener('focusin', hold);
  notice.addEventListener('pointerleave', go);
  notice.addEventListener('focusout', go);
}

/** Shows or replaces the banner `id`; `action`, if given, is `{ t, run, testid }`. */
export function showBanner(id, text, action = null, busy = false) {
  hideBanner(id);
  const button = action && el('button', { type: 'button', class: 'small', t: action.t, testid: action.testid, on: { click: action.run } });
  document.getElementById('banners').append(
    el('div', { class: `banner${busy ? ' busy' : ''}`, testid: 'banner', 'data-banner': id },
      busy ? el('span', { class: 'spinner', 'aria-hidden': 'true' }) : icon('warning'), el('p', { t: text }), button),
  );
}

export function hideBanner(id) {
  document.querySelector(`[data-banner="${id}"]`)?.remove();
}

export function clearMessages() {
  document.getElementById('banners').replaceChildren();
  document.getElementById('notices').replaceChildren();
}
