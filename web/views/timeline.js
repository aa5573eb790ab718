// The whole of a recording at a glance: chapters, who spoke when, and what is to be seen there. The pointer goes
// anywhere on it; the keyboard has the player's own bar and the list of chapters.

import { clockText, el } from '/dom.js';
import { besideUrl } from '/recordings_api.js';

const MOST_SPEAKERS = 12;
const PREVIEW_WIDTH = 160;

/**
 * `markers`: `[{ atMs, words }]`; `goTo(atMs)`. Null if there is nothing to show but the time itself, which the
 * player shows.
 */
export function timeline(video, recording, markers, key, goTo) {
  const { duration_ms: durationMs, has_thumbnails: hasThumbnails } = recording;
  const speakers = speakersOf(recording.speakers ?? []);
  if (!durationMs || !(markers.length || speakers.length || hasThumbnails)) return null;

  const place = (atMs) => `${Math.min(100, Math.max(0, (100 * atMs) / durationMs))}%`;
  const span = ([fromMs, toMs]) => el('span', { class: 'timeline-speech', style: `left: ${place(fromMs)}; width: ${place(toMs - fromMs)}` });
  const head = el('span', { class: 'timeline-head' });
  const preview = hasThumbnails ? seekPreview(video, recording.id, key) : null;
  const strips = el('div', { class: 'timeline-strips', 'aria-hidden': 'true', on: { click, pointermove, pointerleave } },
    el('div', { class: 'timeline-strip', testid: 'timeline' },
      markers.map(({ atMs, words }) => el('span', { class: 'timeline-tick', style: `left: ${place(atMs)}`, title: words }))),
    speakers.map(({ spans }) => el('div', { class: 'timeline-strip speech' }, spans.map(span))),
    head, preview?.element);
  video.addEventListener('timeupdate', () => { head.style.left = place(1000 * video.currentTime); });

  function timeAt(clientX) {
    const { left, width } = strips.getBoundingClientRect();
    return Math.min(durationMs, Math.max(0, ((clientX - left) / width) * durationMs));
  }
  function click({ clientX }) { goTo(timeAt(clientX)); }
  function pointermove({ clientX }) { preview?.show(timeAt(clientX), clientX - strips.getBoundingClientRect().left); }
  function pointerleave() { preview?.hide(); }

  const names = el('ul', { class: 'timeline-names', testid: 'speakers' }, el('li', {}),
    speakers.map(({ name, totalMs }) => el('li', { testid: 'speaker' }, el('span', { class: 'name' }, name), el('small', {}, clockText(totalMs / 1000)))));
  return el('div', { class: `timeline${speakers.length ? ' with-names' : ''}` }, speakers.length ? names : null, strips);
}

// `[{ name, totalMs, spans: [[fromMs, toMs]] }]`, who spoke most first.
function speakersOf(speeches) {
  const byName = new Map();
  for (const { participant, from_ms: fromMs, to_ms: toMs } of speeches) {
    const one = byName.get(participant) ?? { name: participant, totalMs: 0, spans: [] };
    one.totalMs += toMs - fromMs;
    one.spans.push([fromMs, toMs]);
    byName.set(participant, one);
  }
  return [...byName.values()].sort((a, b) => b.totalMs - a.totalMs).slice(0, MOST_SPEAKERS);
}

// A small picture of the place below the pointer. The browser reads the WebVTT: each of its cues names a part
// of the sprite sheet.
function seekPreview(video, id, key) {
  const track = el('track', { kind: 'metadata', src: besideUrl(id, 'thumbnails.vtt', key) });
  video.append(track);
  track.track.mode = 'hidden';
  const picture = el('span', { class: 'preview-picture' });
  const time = el('span', { class: 'preview-time' });
  const element = el('div', { class: 'timeline-preview', testid: 'seek-preview', hidden: true }, picture, time);
  picture.style.backgroundImage = `url("${besideUrl(id, 'sprite.jpg', key)}")`;

  function show(atMs, left) {
    const cue = [...(track.track.cues ?? [])].find(({ startTime, endTime }) => startTime <= atMs / 1000 && atMs / 1000 < endTime);
    const part = cue?.text.match(/#xywh=(\d+),(\d+),(\d+),(\d+)/);
    element.hidden = !part;
    if (!part) return;
    const [x, y, width, height] = part.slice(1).map(Number);
    Object.assign(picture.style, { width: `${width}px`, height: `${height}px`, backgroundPosition: `-${x}px -${y}px`, zoom: String(PREVIEW_WIDTH / width) });
    time.textContent = clockText(atMs / 1000);
    element.style.left = `${left}px`;
  }
  return { element, show, hide: () => { element.hidden = true; } };
}
