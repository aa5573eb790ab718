// One stay in one room: joins, keeps the model true, hands events to what they are for, and comes back
// when the connection was lost. Views listen to it and call its verbs.

import { changedLayout } from '/layout.js';
import { Preview } from '/preview.js';
import { RoomModel, trackOf } from '/room_model.js';
import { Sending } from '/sending.js';
import { Signalling } from '/signalling.js';
import { Subscriptions } from '/subscriptions.js';

// Long enough for the event of our own `mute` to arrive, so that it is not taken for a moderator's.
const FOREIGN_MUTE_MS = 400;
// When the socket has changed: connections that heard nothing for so long have lost their network with it.
const SILENT_MS = 1_000;
// Errors of a join that pass by themselves: try again on the next socket.
const PASSING = ['connection_lost', 'shutting_down', 'room_busy', 'room_closed'];

/**
 * Events: `changed` (the model; detail: the event), `track` (a received track came or went), `chat`,
 * `connection` (detail: `lost`, `back`, `rejoined`), `recovering` and `recovered` (detail: participant's id),
 * `muted-by-moderator`, `problem`, `ended` (detail: `{ reason, error? }`).
 */
export class Session extends EventTarget {
  #wish;
  #media;
  #signalling;
  #resume = null;
  #ended = false;
  #isLost = false;
  #muteCheck = null;
  #backTimer = null;
  #silenceCheck = null;

  /**
   * `wish`: `{ room, name, pin?, viewer?, create?, codec? }`; `create` makes the room with that PIN.
   * `signalling` is given by tests.
   */
  constructor(wish, media, signalling = Signalling.ofThisPage()) {
    super();
    this.#wish = wish;
    this.#media = media;
    this.#signalling = signalling;
    this.model = new RoomModel();
    this.access = null;
    this.sending = new Sending(signalling, media, wish.codec);
    this.subscriptions = new Subscriptions(signalling);
    this.preview = new Preview(signalling);
    this.#listen();
  }

  /** Goes in; rejects with a `ProtocolError` if the room does not let us. */
  async enter() {
    try {
      await this.#signalling.connect();
      if (this.#wish.create) await this.#signalling.request('create', { room: this.#wish.room, pin: this.#wish.pin });
      await this.#join();
    } catch (error) {
      this.#signalling.close();
      throw error;
    }
    this.#startMedia();
  }

  /** Comes back as the participant that this page was before it was reloaded. */
  async reenter(resume) {
    try {
      await this.#signalling.connect();
      this.#welcome(await this.#signalling.request('join', { room: this.#wish.room, resume }));
    } catch (error) {
      this.#signalling.close();
      throw error;
    }
    this.#startMedia();
  }

  get room() {
    return this.model.name;
  }

  get mayPublish() {
    return this.model.self?.role !== 'viewer';
  }

  /** What a reloaded page needs to come back. */
  get ticket() {
    const { room, name, pin } = this.#wish;
    return this.#ended ? null : { room, name, pin, resume: this.#resume };
  }

  rename(name) {
    this.#wish.name = name;
    return this.#signalling.request('rename', { name });
  }

  /** `{ track, height }`: how high the picture is shown. */
  chooseLayer(fields) {
    return this.#signalling.request('layer', fields);
  }

  chat(text) {
    return this.#signalling.request('signal', { kind: 'chat', data: { text } });
  }

  /** `options`: what the server takes of a recording's settings; left out, its usual ones. */
  startRecording(options = {}) {
    return this.#signalling.request('record', { action: 'start', ...options });
  }

  pauseRecording(recording) {
    return this.#signalling.request('record', { action: 'pause', recording });
  }

  resumeRecording(recording) {
    return this.#signalling.request('record', { action: 'resume', recording });
  }

  /** Notes this moment in the recording; the title may be empty. */
  markRecording(recording, title) {
    return this.#signalling.request('record', { action: 'marker', recording, title: title || undefined });
  }

  stopRecording(recording) {
    return this.#signalling.request('record', { action: 'stop', recording });
  }

  /** Changes some fields of the room's layout; the others stay. */
  changeLayout(change) {
    return this.#signalling.request('layout', changedLayout(this.model.layout, change));
  }

  /** Replaces the effects of `of`: a participant's id, `mix`, or `track:` and a track's id. Gives them as the server has them. */
  async setEffects(of, effects) {
    const track = trackOf(of);
    const target = track ? { track } : of === 'mix' ? { mix: true } : of === this.model.selfId ? {} : { participant: of };
    return (await this.#signalling.request('effects', { ...target, effects })).effects;
  }

  muteOther(track, muted = true) {
    return this.#signalling.request('mute', { track, muted });
  }

  remove(participant) {
    return this.#signalling.request('remove', { participant });
  }

  leave() {
    this.#signalling.send('leave');
    this.#end('left');
  }

  #listen() {
    const { sending, subscriptions } = this;
    this.#signalling.addEventListener('frame', ({ detail }) => this.#frame(detail));
    this.#signalling.addEventListener('lost', () => {
      this.#isLost = true;
      this.#tell('connection', 'lost');
    });
    this.#signalling.addEventListener('back', () => this.#comeBack());
    sending.addEventListener('screen', () => this.#tell('changed', { type: 'own-screen' }));
    sending.addEventListener('problem', ({ detail }) => this.#tell('problem', detail));
    for (const source of [sending, subscriptions]) source.addEventListener('shaky', () => this.#signalling.probe());
    for (const name of ['track', 'gone']) {
      subscriptions.addEventListener(name, ({ detail }) => {
        // A new connection begins with what the server does not tell: nothing of it is paused.
        this.model.pausedTracks.delete(detail);
        this.#tell('track');
      });
    }
    for (const name of ['recovering', 'recovered']) {
      subscriptions.addEventListener(name, ({ detail }) => this.#tell(name, detail));
    }
  }

  async #join() {
    const { room, name, pin, viewer } = this.#wish;
    const role = viewer ? 'viewer' : undefined;
    this.#welcome(await this.#signalling.request('join', { room, name, pin: pin || undefined, role }));
  }

  #welcome({ participant, resume, access, ice_servers: iceServers, server, room }) {
    this.#resume = resume;
    this.access = access;
    /** Where players call over SRT: `{port, local}`, or nothing. */
    this.srt = server?.srt;
    this.sending.useIceServers(iceServers);
    this.subscriptions.useIceServers(iceServers);
    this.preview.useIceServers(iceServers);
    this.model.reset(room, participant);
    this.#tell('changed', { type: 'state' });
  }

  #startMedia() {
    this.#signalling.request('subscribe', { all: true }).catch((error) => this.#report(error));
    if (this.mayPublish) this.sending.start();
  }

  async #comeBack() {
    try {
      const joined = await this.#signalling.request('join', { room: this.#wish.room, resume: this.#resume });
      this.#welcome(joined);
      await this.#mend();
      // One socket may take another's place without a gap.
      if (this.#isLost) this.#tell('connection', 'back');
      this.#isLost = false;
    } catch (error) {
      if (error.code === 'resume_unknown') await this.#joinAfresh();
      else this.#comeBackFailed(error);
    }
  }

  // The PeerConnections lived on while the socket was away, or wait for other paths; only what happened meanwhile was
  // missed.
  async #mend() {
    this.subscriptions.keepOnly(new Set(this.model.others.map(({ id }) => id)));
    this.#revive();
    const missing = this.subscriptions.missing(this.model.others);
    await Promise.all(missing.map((participant) => (
      this.subscriptions.subscribe(participant).catch((error) => this.#report(error))
    )));
    if (this.mayPublish) this.sending.start();
  }

  // Those that have lost touch, also if the browser, which takes some seconds, has yet to find that; it may be too early
  // to tell.
  #revive() {
    const revive = () => [this.subscriptions, this.sending].forEach((part) => part.revive(SILENT_MS));
    revive();
    clearTimeout(this.#silenceCheck);
    this.#silenceCheck = setTimeout(revive, SILENT_MS);
  }

  async #joinAfresh() {
    this.sending.forget();
    this.subscriptions.clear();
    try {
      const { room, pin } = this.#wish;
      // The room itself may be gone, with the server's restart. Whoever is first makes it anew, and
      // not without the PIN that it had.
      if (this.model.hasPin && pin) {
        await this.#signalling.request('create', { room, pin }).catch((error) => {
          if (error.code !== 'room_exists') throw error;
        });
      }
      await this.#join();
      this.#startMedia();
      this.#isLost = false;
      this.#tell('connection', 'rejoined');
    } catch (error) {
      this.#comeBackFailed(error);
    }
  }

  #comeBackFailed(error) {
    if (!PASSING.includes(error.code)) return this.#end('refused', error);
    if (error.code === 'connection_lost') return;
    if (!this.#isLost) this.#tell('connection', 'lost');
    this.#isLost = true;
    clearTimeout(this.#backTimer);
    this.#backTimer = setTimeout(() => { if (this.#signalling.connected) this.#comeBack(); }, 1_000);
  }

  #frame(frame) {
    if (this.#ended) return;
    switch (frame.type) {
      case 'offer': return void (this.preview.offer(frame) || this.#offered(frame));
      case 'candidate': return void (this.sending.candidate(frame) || this.preview.candidate(frame) || this.subscriptions.candidate(frame));
      case 'connection-closed': return void (this.sending.closed(frame) || this.preview.closed(frame) || this.subscriptions.closed(frame));
      case 'signal': return void (frame.kind === 'chat' && this.#tell('chat', frame));
      case 'removed': return this.#end(frame.reason);
      case 'room-closed': return void (frame.reason !== 'shutdown' && this.#end('room-closed'));
      default: return this.#change(frame);
    }
  }

  // A page that was reloaded may be told of a preview that the last one asked for.
  #offered(frame) {
    if (!frame.mix && frame.participant !== this.model.selfId) this.subscriptions.offer(frame);
  }

  #change(event) {
    const before = this.model.participants.get(event.participant?.id ?? event.participant);
    if (!this.model.apply(event)) return;
    if (event.type === 'participant-left') {
      this.subscriptions.keepOnly(new Set(this.model.others.map(({ id }) => id)));
    }
    if (event.type === 'track-updated' && event.participant === this.model.selfId) this.#checkMutes();
    this.#tell('changed', { ...event, before });
  }

  // A moderator may mute us, and then our own buttons must say so.
  #checkMutes() {
    clearTimeout(this.#muteCheck);
    this.#muteCheck = setTimeout(() => {
      // What the server says may be what we told it before last.
      if (this.sending.isBusy) return this.#checkMutes();
      for (const { id, muted } of this.model.self?.tracks ?? []) {
        const device = this.sending.deviceOf(id);
        if (!muted || !device || !this.#media[device].on) continue;
        if (device === 'camera') this.#media.setCamera(false);
        else this.#media.setMicrophone(false);
        this.#tell('muted-by-moderator', device);
      }
    }, FOREIGN_MUTE_MS);
  }

  #report(error) {
    if (error.code !== 'connection_lost') this.#tell('problem', error);
  }

  #end(reason, error) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#muteCheck);
    clearTimeout(this.#backTimer);
    clearTimeout(this.#silenceCheck);
    this.sending.stop();
    this.preview.show(null);
    this.subscriptions.clear();
    this.#signalling.close();
    this.#tell('ended', { reason, error });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
