// The page at `/`: name a room, or have one named.

import { el, iconButton } from '/dom.js';
import { icon } from '/icons.js';
import { recall } from '/settings.js';
import { pageHeader } from '/views/chrome.js';

const FIRST = ['amber', 'bright', 'calm', 'clear', 'early', 'gentle', 'golden', 'green', 'kind', 'quiet', 'silver', 'warm'];
const SECOND = ['garden', 'harbour', 'hill', 'lake', 'lantern', 'maple', 'meadow', 'morning', 'orchard', 'river', 'terrace', 'window'];

/** `open(room)` goes to the room's lobby. */
export function homeView(open) {
  const input = el('input', {
    id: 'room-name', testid: 'room', autocomplete: 'off', spellcheck: 'false', maxlength: '64', required: true,
    placeholder: 'home.room.example',
  });
  const form = el('form', { class: 'home-form', on: { submit } },
    el('label', { for: 'room-name', t: 'home.room' }),
    el('div', { class: 'with-button' }, input, iconButton('dice', 'home.make-up', 'room-make-up', makeUp)),
    el('button', { class: 'primary large', testid: 'open-room' }, el('span', { t: 'home.open' }), icon('leave')),
    recentRooms(open));
  const element = el('div', { class: 'page' }, pageHeader(),
    el('main', { class: 'home' },
      el('div', { class: 'home-words' }, arches(), el('h1', { t: 'home.title' }), el('p', { t: 'home.words' })),
      el('div', { class: 'home-side' }, form, el('a', { class: 'quiet-link', href: '/recordings', testid: 'to-recordings' }, icon('film'), el('span', { t: 'recordings.page' })))));

  function submit(event) {
    event.preventDefault();
    const room = input.value.trim();
    if (room) open(room);
  }

  function makeUp() {
    input.value = `${pick(FIRST)}-${pick(SECOND)}-${10 + (random() % 90)}`;
    input.focus();
  }

  return { element, focus: () => input.focus(), close() {} };
}

// The mark's doorway, four times: one for each who comes.
function arches() {
  const tall = [92, 70, 82, 56];
  return el('div', { class: 'arches', 'aria-hidden': 'true' }, tall.map((height) => el('span', { style: `--tall: ${height}px` })));
}

function recentRooms(open) {
  const rooms = recall('recent-rooms', []);
  if (!rooms.length) return null;
  const links = rooms.map((room) => el('button', { type: 'button', class: 'chip', on: { click: () => open(room) } }, room));
  return el('div', { class: 'recent' }, el('span', { t: 'home.recent' }), links);
}

function pick(words) {
  return words[random() % words.length];
}

function random() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
