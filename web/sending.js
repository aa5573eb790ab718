// Keeps what this person publishes in step with the devices: `main` carries microphone and camera,
// `screen` the shared screen. Changes are done one after the other.

import { openScreen, problemOf } from '/devices.js';
import { Publication } from '/publication.js';

const RETRY_MS = [500, 2_000, 5_000, 10_000];
const DEVICES = [['microphone', 'audio'], ['camera', 'video']];

/** Events: `screen` (it began or ended), `problem` (detail: a `ProtocolError` or `{ kind, problem }`), `shaky`. */
export class Sending extends EventTarget {
  #signalling;
  #media;
  #codec;
  /** Cameras are sent in layers, until the server says that it takes none. */
  #layered = true;
  #iceServers = [];
  #main = null;
  #screen = null;
  #screenTracks = null;
  #muted = new Map();
  #queue = Promise.resolve();
  #waiting = 0;
  #retry = null;
  #attempt = 0;
  #active = false;
  #mediaChanged = ({ detail: kind }) => { if (kind !== 'speaker') this.#enqueue(() => this.#syncMain()); };

  constructor(signalling, media, codec) {
    super();
    this.#signalling = signalling;
    this.#media = media;
    this.#codec = codec;
  }

  get sharing() {
    return this.#screenTracks !== null;
  }

  /** What is shown of one's own screen. */
  get screenTrack() {
    return this.#screenTracks?.video ?? null;
  }

  /** The server has yet to be told of what the devices have changed. */
  get isBusy() {
    return this.#waiting > 0;
  }

  useIceServers(iceServers) {
    this.#iceServers = iceServers ?? [];
  }

  /** Begins to publish, and follows the devices from now on. */
  start() {
    if (!this.#active) this.#media.addEventListener('change', this.#mediaChanged);
    this.#active = true;
    return this.refresh();
  }

  /** Makes the server's idea of what we send true again, after it may have missed something. */
  refresh() {
    this.#muted.clear();
    return this.#enqueue(async () => {
      await this.#syncMain();
      if (this.#screenTracks && !this.#screen) await this.#publishScreen();
    });
  }

  /** The server has forgotten us: what stood is gone, devices and the screen stay open. */
  forget() {
    this.#main?.close();
    this.#screen?.close();
    this.#main = this.#screen = null;
    this.#muted.clear();
  }

  /** Has the server find other paths where touch is lost: where nothing came for so long, in ms. */
  revive(silentMs) {
    for (const publication of [this.#main, this.#screen]) publication?.ifDead(silentMs, () => publication.lookElsewhere());
  }

  /** Ends it all. */
  stop() {
    this.#active = false;
    clearTimeout(this.#retry);
    this.#media.removeEventListener('change', this.#mediaChanged);
    this.forget();
    this.#releaseScreen();
  }

  async startScreen() {
    let tracks;
    try {
      tracks = await openScreen();
    } catch (error) {
      // Closing the browser's picker is a decision, not a fault.
      if (error.name !== 'NotAllowedError') this.#tell('problem', { kind: 'screen', problem: problemOf(error) });
      return;
    }
    if (!this.#active) return tracks.video.stop();
    this.#screenTracks = tracks;
    tracks.video.onended = () => this.stopScreen();
    this.#tell('screen');
    await this.#enqueue(() => this.#publishScreen());
  }

  async stopScreen() {
    this.#releaseScreen();
    this.#tell('screen');
    await this.#enqueue(() => this.#unpublish('screen'));
  }

  /** A candidate from the server; false if it is for none of ours. */
  candidate({ connection, candidate }) {
    const publication = this.#byName(connection);
    publication?.addCandidate(candidate);
    return connection === 'main' || connection === 'screen';
  }

  /** The server closed a connection; false if it is none of ours. */
  closed({ connection, reason }) {
    if (connection !== 'main' && connection !== 'screen') return false;
    if (reason === 'failed' || reason === 'timeout') this.#byName(connection)?.fail();
    return true;
  }

  /** Which of our devices a track carries: `microphone`, `camera` or null. */
  deviceOf(trackId) {
    return DEVICES.find(([source, kind]) => this.#main?.trackId(source, kind) === trackId)?.[0] ?? null;
  }

  async #syncMain() {
    const inputs = DEVICES.filter(([source]) => this.#media[source].track).map(([source, kind]) => (
      { source, kind, track: this.#media[source].track, muted: !this.#media[source].on }
    ));
    const covered = inputs.every(({ source, kind }) => this.#main?.has(source, kind));
    if (this.#main && covered) return this.#updateMain();
    if (!inputs.length) return;
    // Nothing is renegotiated: a source that came later takes a new publication with all of them, so that
    // picture and sound stay on one connection and in sync.
    if (this.#main) await this.#unpublish('main');
    await this.#publish('main', inputs);
    for (const { source, muted } of inputs) this.#muted.set(source, muted);
    // The devices may have moved on while the server answered.
    await this.#updateMain();
  }

  async #updateMain() {
    for (const [source, kind] of DEVICES) {
      if (!this.#main?.has(source, kind)) continue;
      const { track, on } = this.#media[source];
      const muted = !(on && track);
      if (!muted) await this.#main.replace(source, kind, track);
      if (this.#muted.get(source) !== muted) {
        await this.#signalling.request('mute', { track: this.#main.trackId(source, kind), muted });
        this.#muted.set(source, muted);
      }
      if (muted) await this.#main.replace(source, kind, track);
    }
  }

  async #publishScreen() {
    if (!this.#screenTracks) return;
    const { video, audio } = this.#screenTracks;
    const inputs = [{ source: 'screen', kind: 'video', track: video, muted: false }];
    if (audio) inputs.push({ source: 'screen', kind: 'audio', track: audio, muted: false });
    await this.#publish('screen', inputs);
  }

  async #publish(name, inputs) {
    const publication = new Publication(this.#signalling, name, this.#iceServers);
    publication.addEventListener('failed', () => this.#failed(publication));
    publication.addEventListener('shaky', () => {
      this.#tell('shaky');
      publication.lookElsewhere();
    });
    publication.addEventListener('connected', () => { this.#attempt = 0; });
    this.#set(name, publication);
    try {
      if (await publication.start(inputs, this.#codec, this.#layered)) return;
    } catch (error) {
      if (this.#byName(name) === publication) this.#set(name, null);
      publication.close();
      if (error.code !== 'connection_exists') throw error;
      // Left over from before a lost socket. Take its place.
      await this.#unpublish(name);
      return this.#scheduleRetry();
    }
    // It takes one layer alone.
    this.#layered = false;
    await this.#unpublish(name);
    await this.#publish(name, inputs);
  }

  async #unpublish(name) {
    this.#byName(name)?.close();
    this.#set(name, null);
    await this.#signalling.request('unpublish', { connection: name }).catch((error) => {
      if (error.code !== 'no_such_connection') throw error;
    });
  }

  #failed(publication) {
    if (this.#byName(publication.connection) !== publication) return;
    this.#enqueue(async () => {
      if (this.#byName(publication.connection) !== publication) return;
      await this.#unpublish(publication.connection);
      this.#scheduleRetry();
    });
  }

  #scheduleRetry() {
    clearTimeout(this.#retry);
    if (!this.#active) return;
    this.#retry = setTimeout(() => this.refresh(), RETRY_MS[Math.min(this.#attempt, RETRY_MS.length - 1)]);
    this.#attempt += 1;
  }

  // A lost socket is mended by the session, which then calls `refresh`. Everything else is for the person.
  #enqueue(step) {
    this.#waiting += 1;
    this.#queue = this.#queue.then(() => (this.#active ? step() : undefined)).catch((error) => {
      if (error.code !== 'connection_lost') this.#tell('problem', error);
    }).finally(() => { this.#waiting -= 1; });
    return this.#queue;
  }

  #releaseScreen() {
    if (!this.#screenTracks) return;
    const { video, audio } = this.#screenTracks;
    this.#screenTracks = null;
    video.onended = null;
    video.stop();
    audio?.stop();
  }

  #byName(name) {
    return name === 'main' ? this.#main : name === 'screen' ? this.#screen : null;
  }

  #set(name, publication) {
    if (name === 'main') this.#main = publication;
    else this.#screen = publication;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
