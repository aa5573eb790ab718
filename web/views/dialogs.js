// The room's dialogs: invitation, settings, shortcuts.

import { canShareScreen } from '/devices.js';
import { el } from '/dom.js';
import { t } from '/i18n.js';
import { icon } from '/icons.js';
import { notify } from '/notices.js';
import { languageSelect, openDialog } from '/views/chrome.js';
import { devicePicker } from '/views/device_picker.js';
import { openLivePlayer } from '/views/live_player.js';

export function invitationLink(room) {
  return `${location.origin}/r/${encodeURIComponent(room)}`;
}

export function openInvitation(session) {
  const link = invitationLink(session.room);
  const input = el('input', { readonly: true, value: link, label: 'invite.link', testid: 'invite-link', on: { focus: () => input.select() } });
  const copy = el('button', { type: 'button', class: 'primary', testid: 'invite-copy', on: { click: () => copyLink(link, input) } }, icon('copy'), el('span', { t: 'invite.copy' }));
  const share = navigator.share && el('button', {
    type: 'button', testid: 'invite-share', on: { click: () => navigator.share({ title: t('invite.title', { room: session.room }), url: link }).catch(() => {}) },
  }, icon('share'), el('span', { t: 'invite.share' }));
  const watch = el('button', { type: 'button', t: 'invite.live', testid: 'invite-live', on: { click: () => { dialog.close(); openLivePlayer(session); } } });
  const dialog = openDialog('invite', 'invite-dialog',
    el('p', { t: session.model.hasPin ? 'invite.words-pin' : 'invite.words' }),
    input, el('div', { class: 'buttons' }, copy, share, watch, playlistButton(session), srtButton(session)), qrCode(link));
}

const isThisMachine = () => ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);

// For a phone that is held up to the screen. A page on localhost leads a phone to itself, and has none.
function qrCode(link) {
  if (isThisMachine()) return null;
  const picture = el('img', { src: `/api/qr.svg?${new URLSearchParams({ text: link })}`, alt: '', width: '180', height: '180', testid: 'invite-qr' });
  return el('figure', { class: 'qr' }, picture, el('figcaption', { class: 'muted', t: 'invite.qr' }));
}

// Players open a list of addresses as they open a file. The key in it is good while we are in the room.
function playlistButton({ room, access }) {
  const address = `${location.origin}/ts/${encodeURIComponent(room)}/mix.ts?${new URLSearchParams({ access })}`;
  const list = `#EXTM3U\n#EXTINF:-1,${room}\n${address}\n`;
  const download = () => el('a', { href: `data:audio/x-mpegurl;charset=utf-8,${encodeURIComponent(list)}`, download: `${room}.m3u` }).click();
  return el('button', { type: 'button', t: 'invite.vlc', testid: 'invite-vlc', on: { click: download } });
}

// What VLC and others take as an address. There is none if the page came from elsewhere and SRT is for this machine only.
function srtButton({ room, access, srt }) {
  if (!srt || (srt.local && !isThisMachine())) return null;
  const host = srt.local && location.hostname === 'localhost' ? '127.0.0.1' : location.hostname;
  const address = `srt://${host}:${srt.port}?streamid=${encodeURIComponent(room)}/mix/${access}`;
  return el('button', { type: 'button', t: 'invite.srt', testid: 'invite-srt', 'data-address': address, on: { click: () => copyLink(address) } });
}

/** The clipboard is closed to pages without a secure origin; then the link is selected, to be copied by hand. */
export async function copyLink(link, input = null) {
  try {
    await navigator.clipboard.writeText(link);
    notify(['invite.copied']);
  } catch {
    input?.select();
    notify(['invite.copy-failed'], 'warning');
  }
}

/** Asks for a note, and marks the moment at which it is saved. */
export function openMarker(mark) {
  const note = el('input', { id: 'marker-note', maxlength: '128', autocomplete: 'off', testid: 'marker-note' });
  const form = el('form', { class: 'marker-form', on: { submit } },
    el('label', { for: 'marker-note', t: 'marker.note' }), note,
    el('button', { type: 'submit', class: 'primary', t: 'marker.save', testid: 'marker-save' }));
  const dialog = openDialog('marker', 'marker-dialog', el('p', { class: 'muted', t: 'marker.words' }), form);
  note.focus();

  async function submit(event) {
    event.preventDefault();
    if (await mark(note.value.trim())) dialog.close();
  }
}

export function openSettings(media) {
  const picker = devicePicker(media);
  openDialog('settings', 'settings-dialog', picker.element, el('hr'), languageSelect()).addEventListener('close', () => picker.close());
}

const KEYS = [['M', 'help.m'], ['V', 'help.v'], ['S', 'help.s'], ['C', 'help.c'], ['P', 'help.p'], ['E', 'help.e'], ['F', 'help.f'], ['?', 'help.help']];

export function openHelp() {
  const keys = KEYS.filter(([key]) => key !== 'S' || canShareScreen());
  openDialog('help', 'help-dialog',
    el('dl', { class: 'keys' }, keys.map(([key, words]) => el('div', {}, el('dt', {}, el('kbd', {}, key)), el('dd', { t: words })))),
    el('p', { class: 'muted', t: 'help.words' }));
}
