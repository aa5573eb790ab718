// The dialog in which a moderator adds RTSP cameras to the room, sees how they stand, and removes them.

import { addCamera, listCameras, removeCamera, testCamera } from '/cameras_api.js';
import { el, iconButton, refill } from '/dom.js';
import { say, t } from '/i18n.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { openDialog } from '/views/chrome.js';

/** How often rates are measured while the dialog is open, in ms. */
const LOOK_MS = 2000;
const STATES = { connecting: 'cameras.connecting', live: 'cameras.live', waiting: 'cameras.waiting', idle: 'cameras.idle' };

export function openCameras(session) {
  const list = el('ul', { class: 'camera-list', testid: 'camera-list' });
  const form = addForm(session, load);
  const rates = new Rates();
  let asked = 0;

  // Answers may overtake each other: the last question counts.
  async function load() {
    const turn = ++asked;
    try {
      const cameras = await listCameras(session.room, session.access);
      if (turn === asked) refill(list, cameras.map((camera) => row(session, camera, rates.of(camera), load)), 'data-camera');
    } catch (error) {
      notify(textOfError(error), 'warning');
    }
  }

  const changed = ({ detail }) => {
    if (detail.participant?.ingest || detail.type === 'participant-left') load();
  };
  session.addEventListener('changed', changed);
  const dialog = openDialog('cameras', 'cameras-dialog', el('p', { class: 'muted', t: 'cameras.words' }), list, form);
  dialog.classList.add('wide');
  const looking = setInterval(load, LOOK_MS);
  dialog.addEventListener('close', () => {
    clearInterval(looking);
    session.removeEventListener('changed', changed);
  });
  load();
}

/** How much comes of each camera, between two looks at least a second apart. */
class Rates {
  #before = new Map();

  of({ id, state, video_frames: frames, video_bytes, audio_bytes }) {
    const [now, bytes] = [performance.now(), video_bytes + audio_bytes];
    const before = this.#before.get(id);
    if (before && now - before.now < 1000) return before.rate;
    const seconds = before && (now - before.now) / 1000;
    const rate = before && state === 'live'
      ? { kbps: Math.round((bytes - before.bytes) / 125 / seconds), fps: Math.round((frames - before.frames) / seconds) } : null;
    this.#before.set(id, { now, bytes, frames, rate });
    return rate;
  }
}

// Names that RTP has are known to nobody.
const NAMES = {
  H264: 'H.264', H265: 'H.265', JPEG: 'Motion JPEG', 'MP4V-ES': 'MPEG-4', MPV: 'MPEG-2', 'MPEG4-GENERIC': 'AAC', 'MP4A-LATM': 'AAC',
  PCMU: 'G.711', PCMA: 'G.711', OPUS: 'Opus', MPA: 'MP3', AC3: 'AC-3',
};

/** `H.264 1280×720 · AAC (transcoded) · TCP`. */
function mediaWords({ video, audio, transport }) {
  const stream = (media) => media && [
    `${NAMES[media.encoding] ?? media.encoding}${media.width ? ` ${media.width}×${media.height}` : ''}`,
    media.handling === 'transcoded' ? ` (${t('cameras.transcoded')})` : '',
  ].join('');
  return [stream(video), stream(audio), transport?.toUpperCase()].filter(Boolean).join(' · ');
}

function sinceWords({ since, reconnects }) {
  const time = new Date(since).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  return el('small', { class: 'muted', t: reconnects ? ['cameras.since-again', { time, reconnects }] : ['cameras.since', { time }], testid: 'camera-since' });
}

function row(session, camera, rate, done) {
  const { id, name, uri, state, detail } = camera;
  return el('li', { testid: 'camera-row', 'data-camera': id, 'data-state': state },
    el('span', { class: 'camera-words' },
      el('strong', {}, name),
      el('small', {}, uri),
      el('small', { t: STATES[state], testid: 'camera-state' }),
      el('small', { class: 'muted', testid: 'camera-media' }, mediaWords(camera)),
      rate && el('small', { class: 'muted', t: ['cameras.rate', rate], testid: 'camera-rate' }),
      sinceWords(camera),
      state === 'waiting' && detail ? el('small', { class: 'muted' }, detail) : null),
    iconButton('remove', ['cameras.remove', { name }], 'camera-remove', remove, { class: 'icon-button danger' }));

  async function remove() {
    try {
      await removeCamera(session.room, session.access, id);
    } catch (error) {
      notify(textOfError(error), 'warning');
    }
    done();
  }
}

function addForm(session, done) {
  const field = (name, properties = {}) => el('input', { id: `camera-${name}`, autocomplete: 'off', testid: `camera-${name}`, ...properties });
  const uri = field('uri', { required: true, maxlength: '2048', inputmode: 'url', spellcheck: 'false' });
  uri.placeholder = 'rtsp://192.168.1.20/stream1';
  const [name, user] = [field('name', { maxlength: '64' }), field('user', { maxlength: '256' })];
  const password = field('password', { type: 'password', maxlength: '256', autocomplete: 'new-password' });
  const problem = el('p', { class: 'form-error', role: 'alert', testid: 'camera-error', hidden: true });
  const add = el('button', { type: 'submit', class: 'primary', t: 'cameras.add', testid: 'camera-add' });
  const onDemand = el('input', { id: 'camera-on-demand', type: 'checkbox', testid: 'camera-on-demand' });
  const seen = el('div', { class: 'camera-seen', role: 'status', testid: 'camera-seen', hidden: true });
  const test = el('button', { type: 'button', t: 'cameras.test', testid: 'camera-test', on: { click: look } });
  const row = (key, input) => [el('label', { for: input.id, t: key }), input];
  const form = el('form', { class: 'camera-form', on: { submit } },
    row('cameras.uri', uri), row('cameras.name', name), row('cameras.user', user), row('cameras.password', password),
    el('div', { class: 'check' }, onDemand, el('label', { for: onDemand.id, t: 'cameras.on-demand' })), problem, seen,
    el('div', { class: 'buttons' }, test, add));

  function written() {
    const credentials = user.value || password.value ? { user: user.value, password: password.value } : undefined;
    return { uri: uri.value.trim(), name: name.value.trim() || undefined, credentials, on_demand: onDemand.checked };
  }

  async function look() {
    if (!uri.reportValidity()) return;
    problem.hidden = true;
    test.disabled = true;
    seen.hidden = false;
    seen.replaceChildren(el('p', { class: 'muted', t: 'cameras.looking' }));
    try {
      const found = await testCamera(session.room, session.access, written());
      const picture = found.snapshot && el('img', { src: found.snapshot, alt: '', testid: 'camera-snapshot' });
      const words = found.state === 'live' ? el('p', {}, mediaWords(found))
        : el('p', { class: 'form-error' }, found.detail ?? found.reason ?? found.state);
      seen.replaceChildren(...[picture, words].filter(Boolean));
    } catch (error) {
      seen.hidden = true;
      say(problem, ...textOfError(error));
      problem.hidden = false;
    } finally {
      test.disabled = false;
    }
  }

  async function submit(event) {
    event.preventDefault();
    problem.hidden = true;
    seen.hidden = true;
    add.disabled = true;
    try {
      await addCamera(session.room, session.access, written());
      form.reset();
      uri.focus();
    } catch (error) {
      say(problem, ...textOfError(error));
      problem.hidden = false;
    } finally {
      add.disabled = false;
    }
    done();
  }

  return form;
}
