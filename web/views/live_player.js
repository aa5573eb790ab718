// The room's mix over HLS, in the page: some seconds late, and as viewers outside the call get it.

import { el } from '/dom.js';
import { say, t } from '/i18n.js';
import { openDialog } from '/views/chrome.js';

const HLS = 'application/vnd.apple.mpegurl';
// A broken piece is got over; a stream that is nothing but such is not.
const MOST_RECOVERIES = 3;
const STATES = { loading: 'live.loading', playing: 'live.playing', failed: 'live.failed', ended: 'live.ended', lost: 'live.lost' };

/** Opens the player. It begins without sound: the call is heard already. */
export function openLivePlayer(session) {
  const address = `/hls/${encodeURIComponent(session.room)}/mix.m3u8?${new URLSearchParams({ access: session.access })}`;
  const video = el('video', { class: 'player', controls: true, autoplay: true, playsinline: true, tabindex: '0', testid: 'live-player', 'aria-label': t('live') });
  video.muted = true;
  const status = el('p', { class: 'muted', role: 'status', testid: 'live-status' });
  const again = el('button', { type: 'button', class: 'primary', t: 'live.again', testid: 'live-again', hidden: true, on: { click: start } });
  let stop = null;
  let state = '';

  function show(next) {
    state = next;
    // Nobody sends anything: the mix is there, and is an empty picture.
    const isEmpty = state === 'playing' && ![...session.model.participants.values()].some(({ tracks }) => tracks.length > 0);
    status.dataset.state = isEmpty ? 'nobody' : state;
    say(status, isEmpty ? 'live.empty' : STATES[state]);
    again.hidden = !['failed', 'ended', 'lost'].includes(state);
  }

  async function start() {
    stop?.();
    show('loading');
    try {
      stop = await play(video, address, () => show(state === 'playing' ? 'lost' : 'failed'));
      if (!dialog.isConnected) stop();
    } catch {
      show('failed');
    }
  }

  // The list says when the stream is over; where nothing more comes without that, the loader fails.
  video.addEventListener('playing', () => show('playing'));
  video.addEventListener('ended', () => show('ended'));
  const changed = () => { if (state === 'playing') show(state); };
  session.addEventListener('changed', changed);
  const dialog = openDialog('live', 'live-dialog', el('p', { class: 'muted', t: 'live.words' }), video, status, el('div', { class: 'buttons' }, again));
  dialog.classList.add('wide');
  dialog.addEventListener('close', () => {
    session.removeEventListener('changed', changed);
    stop?.();
  });
  video.focus();
  start();
}

// Gives what ends it. `over` is called once nothing more can be had. Safari on phones has HLS of its own, and only that.
async function play(video, address, over) {
  await import('/vendor/hls.light.min.js');
  const { Hls } = globalThis;
  if (!Hls.isSupported()) return playNatively(video, address, over);
  // A worker from a blob is forbidden to the page, and the streams are small.
  const hls = new Hls({ enableWorker: false });
  let recoveries = 0;
  hls.on(Hls.Events.ERROR, (_, { fatal, type }) => {
    if (!fatal) return;
    if (type === Hls.ErrorTypes.MEDIA_ERROR && recoveries++ < MOST_RECOVERIES) return hls.recoverMediaError();
    hls.destroy();
    over();
  });
  hls.loadSource(address);
  hls.attachMedia(video);
  return () => hls.destroy();
}

function playNatively(video, address, over) {
  if (!video.canPlayType(HLS)) throw new Error('this browser plays no HLS');
  video.addEventListener('error', over);
  video.src = address;
  return () => {
    video.removeEventListener('error', over);
    video.removeAttribute('src');
    video.load();
  };
}
