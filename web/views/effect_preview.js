// The picture in the drawer: as others see it, with what is put on it; a place in it is chosen by dragging.

import { el } from '/dom.js';
import { say } from '/i18n.js';
import { trackOf } from '/room_model.js';

/** `place(x, y)` is called with shares of the picture's sides while somebody drags on it. */
export function effectPreview(session, place) {
  let of = null;
  let own = null;
  const video = el('video', { playsinline: true, autoplay: true, tabindex: '-1', testid: 'effects-preview' });
  video.muted = true;
  const marker = el('span', { class: 'place-marker', 'aria-hidden': 'true', testid: 'place-marker', hidden: true });
  const words = el('p', { class: 'preview-words' });
  const frame = el('div', { class: 'effects-frame', on: { pointerdown } }, video, words, marker);
  const element = el('figure', { class: 'effects-preview' }, frame);
  session.preview.addEventListener('picture', ({ detail }) => { own = detail; showPicture(); });
  // The marker's place is one of the picture, so the frame has its shape.
  video.addEventListener('resize', () => {
    if (video.videoWidth) frame.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  });

  /** Of whom: a participant's id, `track:` and a track's id, `mix`, or null. */
  function show(next) {
    of = next;
    if (of === 'mix') session.preview.show({ mix: true });
    else session.preview.show(owner() === session.model.selfId && picture() ? { participant: owner(), track: picture().id } : null);
    showPicture();
  }

  function owner() {
    return trackOf(of) ? session.model.findTrack(trackOf(of))?.participant.id : of;
  }

  function picture() {
    if (trackOf(of)) return session.model.findTrack(trackOf(of))?.track ?? null;
    return cameraOf(of);
  }

  function cameraOf(whom) {
    const camera = session.model.participants.get(whom)?.tracks.find(({ kind, source }) => kind === 'video' && source !== 'screen');
    return camera && !camera.muted ? camera : null;
  }

  function showPicture() {
    const isOther = of && of !== 'mix' && owner() !== session.model.selfId;
    const track = isOther ? session.subscriptions.tracks.get(picture()?.id) ?? null : own;
    const shown = video.srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== track) video.srcObject = track && new MediaStream([track]);
    if (shown !== track && track) video.play().catch(() => {});
    words.hidden = Boolean(track);
    if (of && !track) say(words, of === 'mix' || picture() ? 'effects.preview.waiting' : 'effects.preview.none');
  }

  function pointerdown(event) {
    if (marker.hidden) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    const move = ({ clientX, clientY }) => {
      const { left, top, width, height } = frame.getBoundingClientRect();
      const share = (at, from, size) => Math.round(1_000 * Math.max(0, Math.min(1, (at - from) / size))) / 1_000;
      place(share(clientX, left, width), share(clientY, top, height));
    };
    move(event);
    frame.onpointermove = move;
    frame.onpointerup = frame.onpointercancel = () => { frame.onpointermove = null; };
  }

  return {
    element,
    show,
    /** `{ participant, track }` of the picture that effects would go on; one's own for the mix; null: there is none. */
    track() {
      const whose = of === 'mix' ? session.model.selfId : owner();
      const track = of === 'mix' ? cameraOf(whose) : picture();
      return whose && track && !track.muted ? { participant: whose, track: track.id } : null;
    },
    /** Where the effect is whose place can be dragged; null: there is none. */
    mark(params) {
      marker.hidden = !params;
      frame.classList.toggle('draggable', Boolean(params));
      if (params) Object.assign(marker.style, { left: `${100 * params.x}%`, top: `${100 * params.y}%` });
    },
  };
}
