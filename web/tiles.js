// The stage: makes a tile for every picture of the room, and lays them out to fit.

import { fitGrid, fitStage } from '/arrange.js';
import { Layers } from '/layers.js';
import { tilesOf } from '/room_model.js';
import { Tile } from '/tile.js';

const GAP = 10;

export class Tiles {
  #session;
  #media;
  #tiles = new Map();
  #pinned = null;
  #frame = null;
  #recovering = new Set();
  #observer;
  #layers;
  #sizes;
  #render = () => this.#schedule();
  #fullscreen = () => this.#tiles.forEach((tile) => tile.fullscreenChanged());

  /** Fills `stage` with the tiles of `session`; `media` gives the own picture. */
  constructor(stage, session, media) {
    this.stage = stage;
    this.#session = session;
    this.#media = media;
    this.#observer = new ResizeObserver(this.#render);
    this.#observer.observe(stage);
    this.#layers = new Layers((fields) => session.chooseLayer(fields));
    this.#sizes = new ResizeObserver(() => this.#askForLayers());
    for (const event of ['changed', 'track']) session.addEventListener(event, this.#render);
    session.addEventListener('recovering', ({ detail }) => this.#setRecovering(detail, true));
    session.addEventListener('recovered', ({ detail }) => this.#setRecovering(detail, false));
    media.addEventListener('change', this.#render);
    document.addEventListener('fullscreenchange', this.#fullscreen);
    this.#renderNow();
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#observer.disconnect();
    this.#sizes.disconnect();
    this.#layers.close();
    this.#media.removeEventListener('change', this.#render);
    document.removeEventListener('fullscreenchange', this.#fullscreen);
    this.#tiles.forEach((tile) => tile.close());
    this.#tiles.clear();
  }

  // Events come in bursts; one drawing a frame is enough for all of them. A page in the background gets no
  // frames, yet its sound has to play: then it is a timer.
  #schedule() {
    if (this.#frame !== null) return;
    const draw = () => { this.#frame = null; this.#renderNow(); };
    this.#frame = document.hidden ? setTimeout(draw, 50) : requestAnimationFrame(draw);
  }

  #renderNow() {
    const { model } = this.#session;
    const wanted = tilesOf(model);
    for (const [key, tile] of this.#tiles) {
      if (wanted.some((one) => one.key === key)) continue;
      this.#sizes.unobserve(tile.root);
      tile.close();
      this.#tiles.delete(key);
    }
    for (const one of wanted) this.#renderTile(one);
    if (!this.#tiles.has(this.#pinned)) this.#pinned = null;
    this.#layOut(wanted);
    this.#askForLayers();
  }

  // Of every picture, as its size says how important it is, and of those that come in layers, what fits their tiles. A
  // hidden page shows none, and leaves them as they are.
  #askForLayers() {
    if (document.hidden) return;
    const { model, subscriptions } = this.#session;
    const shown = tilesOf(model).flatMap(({ key, tracks }) => tracks.filter(({ kind }) => kind === 'video').map(({ id }) => (
      { id, received: subscriptions.tracks.get(id), height: this.#tiles.get(key)?.pixels() ?? 0 }
    )));
    this.#layers.show(shown.filter(({ received, height }) => received && height));
  }

  #renderTile({ key, participant, source, tracks }) {
    const self = participant.id === this.#session.model.selfId;
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = new Tile(key, participant.id, source, self, (pinned) => this.#pin(pinned));
      this.#tiles.set(key, tile);
      this.stage.append(tile.root);
      this.#sizes.observe(tile.root);
    }
    tile.update(participant, self ? this.#ownTracks(source, tracks) : tracks, {
      speaking: this.#session.model.speaking.has(participant.id),
      pinned: this.#pinned === key,
      recovering: this.#recovering.has(participant.id),
      paused: this.#session.model.pausedTracks,
    });
    tile.show(self ? this.#ownPicture(source) : this.#received(tracks));
    tile.useSpeaker(this.#media.speakerId);
  }

  // Our own tile shows what our devices do at once, not what the server has heard of it.
  #ownTracks(source, tracks) {
    if (source === 'screen') return tracks;
    const { camera, microphone } = this.#media;
    return [
      { kind: 'video', source: 'camera', muted: !(camera.on && camera.track) },
      { kind: 'audio', source: 'microphone', muted: !(microphone.on && microphone.track) },
    ];
  }

  #ownPicture(source) {
    const track = source === 'screen' ? this.#session.sending.screenTrack : this.#media.camera.track;
    return track ? [track] : [];
  }

  #received(tracks) {
    return tracks.map(({ id }) => this.#session.subscriptions.tracks.get(id)).filter(Boolean);
  }

  #layOut(wanted) {
    const { clientWidth, clientHeight } = this.stage;
    if (!wanted.length || !clientWidth || !clientHeight) return;
    const box = { left: 0, top: 0, width: clientWidth, height: clientHeight };
    const large = this.#largest(wanted);
    const places = large < 0 ? fitGrid(wanted.length, box, GAP) : fitStage(wanted.length, large, box, GAP);
    wanted.forEach(({ key }, index) => {
      const tile = this.#tiles.get(key);
      tile.place(places[index]);
      tile.root.classList.toggle('large', index === large);
    });
  }

  // What was pinned, else the newest screen of somebody else: one's own screen, shown large, would show
  // itself in itself.
  #largest(wanted) {
    const pinned = wanted.findIndex(({ key }) => key === this.#pinned);
    if (pinned >= 0) return pinned;
    return wanted.findLastIndex(({ source, participant }) => source === 'screen' && participant.id !== this.#session.model.selfId);
  }

  #pin(key) {
    this.#pinned = this.#pinned === key ? null : key;
    this.#schedule();
  }

  #setRecovering(participant, on) {
    if (on) this.#recovering.add(participant);
    else this.#recovering.delete(participant);
    this.#schedule();
  }
}
