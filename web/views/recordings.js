// This room's recordings: what is being taken, what is ready to play or keep, what failed and why.

import { clockText, el, iconButton, refill } from '/dom.js';
import { currentLanguage, t } from '/i18n.js';
import { icon } from '/icons.js';
import { fileUrl, listRecordings } from '/recordings_api.js';
import { LIVE } from '/room_model.js';
import { openDialog } from '/views/chrome.js';

export function recordingsView(session) {
  let open = false;
  let asked = 0;
  const list = el('ul', { class: 'recordings-list', testid: 'recordings-list' });
  const problem = el('p', { class: 'empty', t: 'recordings.failed-to-load', hidden: true });
  const empty = el('p', { class: 'empty', t: 'recordings.empty', hidden: true });
  const element = el('div', { class: 'recordings' }, problem, empty, list);

  async function refresh() {
    if (!open) return;
    const turn = ++asked;
    let recordings;
    try {
      recordings = await listRecordings(session.access);
    } catch {
      if (turn === asked) problem.hidden = false;
      return;
    }
    if (turn !== asked) return;
    problem.hidden = true;
    empty.hidden = recordings.length > 0;
    refill(list, recordings.map((one) => row(session, withLiveState(session, one))), 'data-recording');
  }

  session.addEventListener('changed', ({ detail }) => { if (detail.type === 'recording' || detail.type === 'state') refresh(); });
  addEventListener('languagechanged', refresh);
  return {
    element,
    opened() { open = true; refresh(); },
    closed() { open = false; },
    close() { removeEventListener('languagechanged', refresh); },
  };
}

// The room's event may be ahead of the list that was on its way.
function withLiveState(session, recording) {
  const live = session.model.recordings.get(recording.id);
  return live ? { ...recording, state: live.state, reason: live.reason ?? recording.reason } : recording;
}

function row(session, recording) {
  const { id, state, reason, spec } = recording;
  const ready = state === 'ready';
  const title = spec?.name || dateText(recording.started_at ?? recording.created_at);
  return el('li', { testid: 'recording-item', 'data-recording': id, 'data-state': state },
    el('div', { class: 'recording-words' },
      el('strong', {}, title),
      el('span', { class: 'recording-facts' },
        el('span', { class: `chip state-${state}`, t: `recording.${state}`, testid: 'recording-state' }), el('small', {}, facts(recording))),
      recording.participants?.length && !LIVE.includes(state) ? el('small', {}, recording.participants.join(', ')) : null,
      reason ? el('small', { class: 'reason' }, reason) : null),
    ready ? iconButton('play', ['recordings.play', { title }], 'recording-play', () => openPlayer(session, recording, title)) : null,
    ready ? el('a', {
      class: 'icon-button', href: fileUrl(id, session.access, true), download: true, label: ['recordings.download', { title }], testid: 'recording-download',
    }, icon('download')) : null);
}

function facts({ duration_ms: duration, bytes, state }) {
  if (LIVE.includes(state)) return '';
  const parts = [];
  if (duration) parts.push(clockText(duration / 1000));
  if (bytes) parts.push(sizeText(bytes));
  return parts.join(' · ');
}

function dateText(time) {
  return new Date(time).toLocaleString(currentLanguage(), { dateStyle: 'medium', timeStyle: 'short' });
}

function sizeText(bytes) {
  const format = new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: bytes < 1e7 ? 1 : 0 });
  return bytes < 1e9 ? `${format.format(bytes / 1e6)} MB` : `${format.format(bytes / 1e9)} GB`;
}

function openPlayer(session, { id, markers = [] }, title) {
  const failed = el('p', { class: 'form-error', role: 'alert', t: 'recordings.unplayable', hidden: true });
  const video = el('video', {
    class: 'player', controls: true, autoplay: true, playsinline: true, src: fileUrl(id, session.access), testid: 'recording-player',
    'aria-label': t('recordings.play', { title }), on: { error: () => { failed.hidden = false; } },
  });
  const dialog = openDialog('recordings.player', 'player-dialog', el('p', { class: 'muted' }, title), video, failed, chapters(video, markers));
  dialog.classList.add('wide');
  // Ends the transfer too.
  dialog.addEventListener('close', () => { video.removeAttribute('src'); video.load(); });
}

// The markers, to go to; the one that is passing is marked.
function chapters(video, markers) {
  if (!markers.length) return null;
  const items = markers.map(({ at_ms: at, title }, index) => {
    const words = title || t('recordings.marker', { number: index + 1 });
    const button = el('button', { type: 'button', class: 'chapter', testid: 'chapter', on: { click: () => goTo(at) } },
      el('span', { class: 'chapter-time' }, clockText(at / 1000)), el('span', {}, words));
    return { at, button };
  });

  function goTo(at) {
    video.currentTime = at / 1000;
    video.play().catch(() => {});
  }

  video.addEventListener('timeupdate', () => {
    const now = items.findLast(({ at }) => at / 1000 <= video.currentTime + 0.05);
    for (const item of items) {
      if (item === now) item.button.setAttribute('aria-current', 'true');
      else item.button.removeAttribute('aria-current');
    }
  });
  return el('div', { class: 'chapters' }, el('h3', { id: 'chapters-title', t: 'recordings.chapters' }),
    el('ol', { 'aria-labelledby': 'chapters-title', testid: 'chapters' }, items.map(({ button }) => el('li', {}, button))));
}
