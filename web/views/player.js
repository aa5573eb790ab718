// A recording in the page's player: the picture, a timeline to see and go by; chapters, chat and tracks beside it.
// Where there is no mix, its single tracks are played instead, one at a time.

import { clockText, el, iconButton } from '/dom.js';
import { t } from '/i18n.js';
import { icon } from '/icons.js';
import { besideUrl, fileUrl } from '/recordings_api.js';
import { openDialog } from '/views/chrome.js';
import { factsOf, hasMix, sizeText, titleOf, tracksOf } from '/views/recording_words.js';
import { chatReplay } from '/views/replay.js';
import { timeline } from '/views/timeline.js';

/** Opens the player for a recording that is ready, seen with a `key`. */
export function openPlayer(recording, key) {
  const { id } = recording;
  const title = titleOf(recording);
  const tracks = tracksOf(recording);
  const failed = el('p', { class: 'form-error', role: 'alert', t: 'recordings.unplayable', hidden: true });
  const video = el('video', {
    class: 'player', controls: true, autoplay: true, playsinline: true, testid: 'recording-player',
    'aria-label': t('recordings.play', { title }), on: { error: () => { failed.hidden = !video.getAttribute('src'); } },
  });
  // When the file that plays begins, in the recording's time.
  let beginsMs = 0;
  const goTo = (atMs) => {
    video.currentTime = Math.max(0, atMs - beginsMs) / 1000;
    video.play().catch(() => {});
  };
  const mix = hasMix(recording);
  const list = trackList(recording, key, tracks, mix ? null : (track) => playTrack(track));
  function playTrack(track) {
    beginsMs = track.offset_ms;
    failed.hidden = true;
    video.src = besideUrl(id, `files/${encodeURIComponent(track.name)}`, key);
    list.mark(track);
  }
  if (mix) video.src = fileUrl(id, key);
  else playTrack(tracks.find(({ track_kind: kind }) => kind === 'video') ?? tracks[0]);

  // They count from the mix's beginning.
  const markers = namedMarkers(recording.markers ?? []);
  const side = el('div', { class: 'player-side' }, mix ? chapters(video, markers, goTo) : null,
    mix && recording.has_chat ? chatReplay(video, id, key, goTo) : null, list.element);
  const dialog = openDialog('recordings.player', 'player-dialog',
    el('p', { class: 'muted' }, [title, factsOf(recording), (recording.participants ?? []).join(', ')].filter(Boolean).join(' · ')),
    mix ? null : el('p', { class: 'muted', t: 'recordings.no-mix', testid: 'no-mix' }),
    el('div', { class: side.hasChildNodes() ? 'player-columns' : '' },
      el('div', {}, video, failed, mix ? timeline(video, recording, markers, key, goTo) : null), side));
  dialog.classList.add('wide');
  // Ends the transfer too.
  dialog.addEventListener('close', () => { video.removeAttribute('src'); video.load(); });
}

// A marker without a note has its number for a title.
function namedMarkers(markers) {
  return markers.map(({ at_ms: atMs, title }, index) => (
    { atMs, words: title === String(index + 1) ? t('recordings.marker', { number: index + 1 }) : title }
  ));
}

// The markers, to go to; the one that is passing is marked.
function chapters(video, markers, goTo) {
  if (!markers.length) return null;
  const items = markers.map(({ atMs, words }) => {
    const button = el('button', { type: 'button', class: 'chapter', testid: 'chapter', on: { click: () => goTo(atMs) } },
      el('span', { class: 'chapter-time' }, clockText(atMs / 1000)), el('span', {}, words));
    return { atMs, button };
  });

  video.addEventListener('timeupdate', () => {
    const now = items.findLast(({ atMs }) => atMs / 1000 <= video.currentTime + 0.05);
    for (const item of items) {
      if (item === now) item.button.setAttribute('aria-current', 'true');
      else item.button.removeAttribute('aria-current');
    }
  });
  return el('section', { class: 'chapters', 'aria-labelledby': 'chapters-title' }, el('h3', { id: 'chapters-title', t: 'recordings.chapters' }),
    el('ol', { testid: 'chapters' }, items.map(({ button }) => el('li', {}, button))));
}

// The tracks as they came, each to keep; with `play`, each to play too.
function trackList({ id }, key, tracks, play) {
  if (!tracks.length) return { element: null, mark() {} };
  const items = tracks.map((track) => {
    const { name, participant, track_kind: kind, codec, bytes } = track;
    const words = [participant, codec].filter(Boolean).join(' · ');
    const button = play && iconButton('play', ['recordings.play', { title: words }], 'track-play', () => play(track));
    const link = el('a', { href: besideUrl(id, `files/${encodeURIComponent(name)}`, key, { download: '1' }), download: name, testid: 'file', label: ['recordings.download', { title: words }] },
      icon(kind === 'audio' ? 'mic' : 'camera'), el('span', {}, words), el('small', {}, sizeText(bytes)), icon('download'));
    return { track, element: el('li', { testid: 'track' }, button, link) };
  });
  return {
    element: el('section', { class: 'files', 'aria-labelledby': 'files-title' }, el('h3', { id: 'files-title', t: 'recordings.files' }),
      el('ul', { testid: 'files' }, items.map(({ element }) => element))),
    mark(playing) {
      for (const { track, element } of items) {
        if (track === playing) element.setAttribute('aria-current', 'true');
        else element.removeAttribute('aria-current');
      }
    },
  };
}
