// A list of recordings: what is being taken, what is ready to play or keep, what failed and why. In a room it is a
// panel; outside, a page.

import { clockText, el, iconButton, refill } from '/dom.js';
import { t } from '/i18n.js';
import { icon } from '/icons.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { besideUrl, fileUrl, listRecordings, participantKey, removeRecording, restoreRecording } from '/recordings_api.js';
import { LIVE, recordedMs } from '/room_model.js';
import { openPlayer } from '/views/player.js';
import { factsOf, hasMix, titleOf, tracksOf } from '/views/recording_words.js';

const UNDO_S = 30;
const LOOK_AGAIN_S = 2;
/** The server takes its time for the pictures; a recording of sound alone gets none. */
const PICTURES_MS = 60_000;
/** What is in these states can be removed. */
const OVER = ['ready', 'failed'];

/** The panel of a room. `ahead` resolves to how far the server's clock is ahead of ours, in milliseconds. */
export function recordingsView(session, ahead) {
  const list = recordingList({
    key: () => participantKey(session.access),
    ahead,
    emptyKey: 'recordings.empty',
    mayRemove: () => session.model.isModerator,
    liveOf: ({ id }) => session.model.recordings.get(id),
  });
  const page = el('a', { class: 'all-recordings', href: '/recordings', target: '_blank', testid: 'recordings-page', t: 'recordings.page.open', on: { click: addKey } });
  const element = el('div', {}, list.element, page);

  // In the part of an address that no server and no log sees.
  function addKey() {
    page.href = `/recordings#${new URLSearchParams({ access: session.access, ...(session.model.isModerator ? { remove: '1' } : {}) })}`;
  }

  session.addEventListener('changed', ({ detail }) => { if (detail.type === 'recording' || detail.type === 'state') list.refresh(); });
  return { ...list, element };
}

/**
 * `key()`: what opens them; `mayRemove()`; `liveOf(recording)`: what is known better of one that is being taken;
 * `withRoom`: each says in which room it was made; `refused(error)`: the key does not open them.
 */
export function recordingList({ key, ahead, emptyKey, mayRemove, liveOf, withRoom = false, everyS = 0, refused = () => {} }) {
  let open = false;
  let asked = 0;
  let ticking = null;
  let ticks = 0;
  let unfinished = false;
  const live = new Map();
  const list = el('ul', { class: 'recordings-list', testid: 'recordings-list' });
  const problem = el('p', { class: 'empty', t: 'recordings.failed-to-load', hidden: true });
  const empty = el('p', { class: 'empty', t: emptyKey, hidden: true });
  const element = el('div', { class: 'recordings' }, problem, empty, list);

  async function refresh() {
    if (!open) return;
    const turn = ++asked;
    let recordings;
    try {
      recordings = await listRecordings(key());
    } catch (error) {
      if (turn !== asked) return;
      problem.hidden = false;
      if (error.status === 401 || error.status === 403) refused(error);
      return;
    }
    if (turn !== asked) return;
    problem.hidden = true;
    empty.hidden = recordings.length > 0;
    live.clear();
    for (const one of recordings) if (LIVE.includes(one.state)) live.set(one.id, one);
    refill(list, recordings.map((one) => row(withLiveState(one), { key: key(), withRoom, remove: mayRemove() ? remove : null })), 'data-recording');
    const shift = await ahead;
    unfinished = recordings.some(({ state, ended_at: ended, has_thumbnails: pictured }) => (
      state === 'finalising' || (state === 'ready' && !pictured && Date.now() + shift - Date.parse(ended) < PICTURES_MS)
    ));
    showTimes();
  }

  // The room's event may be ahead of the list that was on its way.
  function withLiveState(recording) {
    const known = liveOf(recording);
    return known ? { ...recording, state: known.state, reason: known.reason ?? recording.reason } : recording;
  }

  async function remove({ id }, title) {
    try {
      await removeRecording(id, key(), UNDO_S);
      notify(['recordings.removed', { title }], 'info', {
        t: 'recordings.undo', testid: 'recording-undo', stayMs: UNDO_S * 1_000 - 1_000, run: () => restore(id),
      });
    } catch (error) {
      notify(textOfError(error), 'warning');
    }
    refresh();
  }

  async function restore(id) {
    await restoreRecording(id, key()).catch((error) => notify(textOfError(error), 'warning'));
    refresh();
  }

  // No event tells how far the finishing of a recording is, nor that its pictures are there.
  function tick() {
    showTimes();
    const everyTicks = unfinished ? LOOK_AGAIN_S : everyS;
    if (everyTicks && ++ticks % everyTicks === 0) refresh();
  }

  // How long each that is being taken is by now.
  async function showTimes() {
    const now = Date.now() + (await ahead);
    for (const running of list.querySelectorAll('.running')) {
      const recording = live.get(running.closest('li').dataset.recording);
      const known = recording && (liveOf(recording) ?? recording);
      // Since when a pause lasts only the room knows.
      if (known?.started_at && (known.state !== 'paused' || known.paused_at)) running.textContent = clockText(recordedMs(known, now) / 1000);
    }
  }

  addEventListener('languagechanged', refresh);
  return {
    element,
    refresh,
    opened() {
      open = true;
      refresh();
      ticking = setInterval(tick, 1_000);
    },
    closed() {
      open = false;
      clearInterval(ticking);
    },
    close() {
      open = false;
      clearInterval(ticking);
      removeEventListener('languagechanged', refresh);
    },
  };
}

function row(recording, { key, withRoom, remove }) {
  const { id, room, state, reason, progress } = recording;
  const title = titleOf(recording);
  const live = LIVE.includes(state);
  return el('li', { testid: 'recording-item', 'data-recording': id, 'data-state': state },
    recording.has_thumbnails ? el('img', { class: 'poster', src: besideUrl(id, 'thumbnail.jpg', key), alt: '', loading: 'lazy', testid: 'recording-poster' }) : null,
    el('div', { class: 'recording-words' },
      el('strong', {}, title),
      el('span', { class: 'recording-facts' },
        el('span', { class: `chip state-${state}`, t: `recording.${state}`, testid: 'recording-state' }),
        live ? el('small', { class: 'running', testid: 'recording-running' }) : el('small', {}, factsOf(recording))),
      withRoom && room ? el('small', { t: ['recordings.in-room', { room }], testid: 'recording-room' }) : null,
      recording.participants?.length && !live ? el('small', {}, recording.participants.join(', ')) : null,
      state === 'finalising' && typeof progress === 'number' ? el('progress', { value: progress, max: 1, 'aria-label': t('recording.finalising') }) : null,
      reason ? el('small', { class: 'reason' }, reason) : null),
    actions(recording, title, key, remove));
}

function actions(recording, title, key, remove) {
  const { id, state } = recording;
  const ready = state === 'ready';
  const mix = hasMix(recording);
  const buttons = [
    ready && mix ? iconButton('play', ['recordings.play', { title }], 'recording-play', () => openPlayer(recording, key)) : null,
    // Without a mix there is nothing to play as it is: its tracks are offered.
    ready && !mix && tracksOf(recording).length
      ? iconButton('tracks', ['recordings.tracks', { title }], 'recording-tracks', () => openPlayer(recording, key))
      : null,
    ready && mix ? el('a', {
      class: 'icon-button', href: fileUrl(id, key, true), download: true, label: ['recordings.download', { title }], testid: 'recording-download',
    }, icon('download')) : null,
    remove && OVER.includes(state)
      ? iconButton('bin', ['recordings.remove', { title }], 'recording-remove', () => remove(recording, title), { class: 'icon-button danger' })
      : null,
  ].filter(Boolean);
  return buttons.length ? el('div', { class: 'recording-actions' }, buttons) : null;
}
