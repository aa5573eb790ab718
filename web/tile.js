// One picture of the room: a person's camera or screen, his name, and what state he is in.

import { el, iconButton, setIcon } from '/dom.js';
import { hueOf, initialsOf } from '/faces.js';
import { label, say } from '/i18n.js';
import { icon } from '/icons.js';
import { forgetSound, play, routeSound } from '/sound.js';

export class Tile {
  #stream = new MediaStream();
  #self;
  #source;

  /** `onPin(key)` is called when the person wants this tile large, or no longer. */
  constructor(key, participantId, source, self, onPin) {
    this.key = key;
    this.#self = self;
    this.#source = source;
    this.video = el('video', { playsinline: true, autoplay: true, tabindex: '-1' });
    this.video.disablePictureInPicture = self;
    this.initials = el('span', { class: 'initials', 'aria-hidden': 'true' });
    this.micBadge = el('span', { class: 'mic-badge', testid: 'tile-muted', label: 'tile.muted', role: 'img' }, icon('mic-off'));
    this.name = el('span', { class: 'name', testid: 'tile-name' });
    this.state = el('p', { class: 'tile-state', testid: 'tile-state' });
    this.pin = iconButton('pin', 'tile.pin', 'tile-pin', () => onPin(key));
    this.full = iconButton('expand', 'tile.fullscreen', 'tile-fullscreen', () => toggleFullscreen(this.root, this.video));
    this.root = el('article', {
      class: `tile ${source}${self ? ' self' : ''}`,
      testid: 'tile',
      'data-participant': participantId,
      'data-source': source,
      style: `--hue: ${hueOf(participantId)}`,
    },
    el('div', { class: 'slate' }, this.initials),
    this.video,
    el('div', { class: 'plate' }, this.micBadge, this.name),
    this.state,
    el('div', { class: 'tile-actions' }, this.pin, this.full));
    this.root.addEventListener('dblclick', () => onPin(key));
    for (const event of ['loadeddata', 'resize', 'emptied']) this.video.addEventListener(event, () => this.#pictureChanged());
    this.video.addEventListener('pause', () => { if (this.video.isConnected && this.#stream.active) this.#play(); });
  }

  /** `participant` as in the model; `tracks` are published tracks of this tile. */
  update(participant, tracks, { speaking, pinned, recovering, paused }) {
    const picture = tracks.find(({ kind }) => kind === 'video');
    const sound = tracks.find(({ kind, source }) => kind === 'audio' && source !== 'screen');
    const showsPicture = Boolean(picture) && !picture.muted;
    this.root.classList.toggle('picture', showsPicture);
    this.root.classList.toggle('speaking', speaking && this.#source === 'camera');
    this.root.classList.toggle('pinned', pinned);
    this.micBadge.hidden = this.#source === 'screen' || Boolean(sound && !sound.muted);
    this.initials.textContent = initialsOf(participant.name);
    this.#showName(participant.name);
    this.#showState(!participant.connected || recovering ? 'tile.reconnecting' : showsPicture && paused.has(picture.id) ? 'tile.paused' : null);
    label(this.pin, pinned ? 'tile.unpin' : 'tile.pin');
    this.pin.setAttribute('aria-pressed', String(pinned));
  }

  /** The live tracks to play, in place of those before. */
  show(tracks) {
    for (const old of this.#stream.getTracks()) if (!tracks.includes(old)) this.#stream.removeTrack(old);
    const added = tracks.filter((track) => !this.#stream.getTracks().includes(track));
    added.forEach((track) => this.#stream.addTrack(track));
    if (!added.length) return;
    // A new source object, because some browsers go on showing the old track of the same one.
    this.#stream = new MediaStream(this.#stream.getTracks());
    this.video.srcObject = this.#stream;
    this.#play();
  }

  useSpeaker(speakerId) {
    if (!this.#self) routeSound(this.video, speakerId);
  }

  /** Puts it at a place of the stage, in CSS pixels. */
  place({ left, top, width, height }) {
    const { style } = this.root;
    style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    style.width = `${Math.floor(width)}px`;
    style.height = `${Math.floor(height)}px`;
    this.root.classList.toggle('tiny', width < 200);
  }

  /** How high it is, in pixels of the screen. */
  pixels() {
    return Math.round(this.root.clientHeight * devicePixelRatio);
  }

  close() {
    this.video.srcObject = null;
    forgetSound(this.video);
    this.root.remove();
  }

  fullscreenChanged() {
    const on = document.fullscreenElement === this.root;
    setIcon(this.full, on ? 'shrink' : 'expand');
    label(this.full, on ? 'tile.fullscreen.end' : 'tile.fullscreen');
  }

  #play() {
    play(this.video, !this.#self);
  }

  #showName(name) {
    const key = this.#source === 'screen' ? 'tile.screen' : this.#self ? 'tile.you' : 'tile.name';
    say(this.name, key, { name });
    this.root.setAttribute('aria-label', this.name.textContent);
  }

  #showState(why) {
    this.root.classList.toggle('away', Boolean(why));
    if (why) say(this.state, why);
    else this.state.textContent = '';
  }

  #pictureChanged() {
    const { videoWidth, videoHeight } = this.video;
    this.root.classList.toggle('ready', videoWidth > 0);
    // A phone held upright: cutting it to 16:9 would cut the face.
    this.root.classList.toggle('upright', videoHeight > videoWidth);
  }
}

export function toggleFullscreen(element, video = null) {
  if (document.fullscreenElement === element) return document.exitFullscreen();
  if (element.requestFullscreen) return element.requestFullscreen().catch(() => {});
  // iPhones show only videos full screen.
  return video?.webkitEnterFullscreen?.();
}
