// After a stay in a room: why it ended, and where to go from here.

import { el } from '/dom.js';
import { textOfError } from '/messages.js';
import { pageHeader } from '/views/chrome.js';

/** `end`: `{ reason, error? }` as the session told it. */
export function endedView({ reason, error }, again, home) {
  const button = el('button', { type: 'button', class: 'primary large', t: 'ended.again', testid: 'rejoin', on: { click: again } });
  const element = el('div', { class: 'page' }, pageHeader(),
    el('main', { class: 'ended', testid: 'ended', 'data-reason': reason },
      el('h1', { t: `ended.${reason}` }),
      el('p', { t: error ? textOfError(error) : `ended.${reason}.words` }),
      el('div', { class: 'buttons' }, button, el('button', { type: 'button', class: 'large', t: 'ended.home', testid: 'go-home', on: { click: home } }))));
  return { element, focus: () => button.focus(), close() {} };
}
