// The chat of a recording, as it went: what had been written by the moment that is playing.

import { clockText, el } from '/dom.js';
import { t } from '/i18n.js';
import { besideUrl } from '/recordings_api.js';

/** A section that follows `video`; `goTo(atMs)`. The chat is also a subtitle track of the player. */
export function chatReplay(video, id, key, goTo) {
  const track = el('track', { kind: 'subtitles', label: t('panel.chat'), src: besideUrl(id, 'chat.vtt', key) });
  const list = el('ol', { class: 'replay-list', testid: 'replay', tabindex: '0', 'aria-labelledby': 'replay-title' });
  const early = el('p', { class: 'muted', t: 'recordings.chat.early' });
  let messages = [];

  track.addEventListener('load', () => {
    messages = [...track.track.cues].map((cue) => message(cue, goTo));
    list.replaceChildren(...messages.map(({ element }) => element));
    follow();
  });
  video.addEventListener('timeupdate', follow);
  video.append(track);
  // Without it nothing is loaded; shown it is when the person asks the player for it.
  track.track.mode = 'hidden';

  function follow() {
    const shown = list.querySelectorAll('li:not([hidden])').length;
    for (const { at, element } of messages) element.hidden = at > video.currentTime + 0.05;
    const now = [...list.querySelectorAll('li:not([hidden])')];
    early.hidden = now.length > 0;
    if (now.length !== shown) list.scrollTop = list.scrollHeight;
  }

  return el('section', { class: 'replay' }, el('h3', { id: 'replay-title', t: 'panel.chat' }), early, list);
}

// A cue's voice (`<v Name>`) is who wrote it.
function message(cue, goTo) {
  const words = cue.getCueAsHTML();
  const name = words.querySelector('span[title]')?.title ?? '';
  const at = cue.startTime;
  const element = el('li', { testid: 'replay-message', hidden: true },
    el('header', {}, el('strong', {}, name),
      el('button', { type: 'button', class: 'link', on: { click: () => goTo(1000 * at) } }, clockText(at))),
    el('p', {}, words.textContent.trim()));
  return { at, element };
}
