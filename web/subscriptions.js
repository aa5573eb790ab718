// What this page receives: one PeerConnection for each publication of the others. The server offers.
// A connection that fails is asked for again, a little later each time.

import { Peer } from '/peer.js';

const RETRY_MS = [500, 1_500, 4_000, 8_000];
const MAX_EARLY_CANDIDATES = 100;

/**
 * Events: `track` and `gone` (detail: the track's id), `recovering` and `recovered` (detail: the
 * participant's id), `shaky`.
 */
export class Subscriptions extends EventTarget {
  #signalling;
  #iceServers = [];
  #peers = new Map();
  #early = new Map();
  #retries = new Map();
  /** Participants who are seen as they publish, without their effects. */
  #clean = new Set();

  constructor(signalling) {
    super();
    this.#signalling = signalling;
    /** Received tracks, by the id of the published track. */
    this.tracks = new Map();
  }

  useIceServers(iceServers) {
    this.#iceServers = iceServers ?? [];
  }

  /** The server offers a connection with somebody's tracks, or, for one that we have, other paths. */
  async offer({ connection, participant, sdp, tracks }) {
    const known = this.#peers.get(connection);
    if (known) return void this.#accept(known.peer, sdp).catch((error) => this.#notTaken(known.peer, error));
    const peer = new Peer(this.#signalling, connection, this.#iceServers);
    this.#peers.set(connection, { peer, participant, tracks: tracks.map(({ id }) => id) });
    peer.pc.ontrack = ({ transceiver, track }) => this.#received(connection, tracks, transceiver.mid, track);
    peer.addEventListener('connected', () => this.#connected(participant));
    peer.addEventListener('shaky', () => {
      this.#tell('shaky');
      this.#lookElsewhere(connection);
    });
    peer.addEventListener('failed', () => this.#failed(connection));
    try {
      await this.#accept(peer, sdp);
    } catch (error) {
      this.#notTaken(peer, error);
    }
  }

  /** A candidate for one of ours; it may be ahead of its offer. */
  candidate({ connection, candidate }) {
    const known = this.#peers.get(connection);
    if (known) return void known.peer.addCandidate(candidate);
    const waiting = this.#early.get(connection) ?? [];
    if (waiting.length < MAX_EARLY_CANDIDATES) this.#early.set(connection, [...waiting, candidate]);
  }

  /** The server ended a connection. */
  closed({ connection, reason }) {
    const known = this.#peers.get(connection);
    this.#drop(connection);
    if (known && (reason === 'failed' || reason === 'timeout')) this.#askAgain(known.participant);
  }

  /** Whether somebody is seen without his effects. */
  isClean(participant) {
    return this.#clean.has(participant);
  }

  /** Asks for somebody's tracks anew, without their effects or with them. */
  async showClean(participant, clean) {
    const before = this.isClean(participant);
    this.#setClean(participant, clean);
    try {
      await this.subscribe(participant);
    } catch (error) {
      this.#setClean(participant, before);
      throw error;
    }
  }

  /** Asks for somebody's tracks, as they are wanted here. */
  subscribe(participant) {
    return this.#signalling.request('subscribe', this.isClean(participant) ? { participant, effects: false } : { participant });
  }

  /** Has the server find other paths where touch is lost: where nothing came for so long, in ms. */
  revive(silentMs) {
    for (const [connection, { peer }] of this.#peers) peer.ifDead(silentMs, () => this.#lookElsewhere(connection));
  }

  /** Participants who have tracks that no connection brings, or is about to bring. */
  missing(participants) {
    const brought = new Set();
    for (const { peer, tracks } of this.#peers.values()) {
      if (peer.connected || peer.isShaky || peer.pc.connectionState === 'connecting') tracks.forEach((id) => brought.add(id));
    }
    return participants.filter(({ tracks }) => tracks.some(({ id }) => !brought.has(id))).map(({ id }) => id);
  }

  /** Closes the connections of participants who are no longer there. */
  keepOnly(participantIds) {
    for (const [connection, { participant }] of [...this.#peers]) {
      if (!participantIds.has(participant)) this.#drop(connection);
    }
    for (const participant of [...this.#retries.keys()]) {
      if (!participantIds.has(participant)) this.#forgetRetry(participant);
    }
    for (const participant of this.#clean) if (!participantIds.has(participant)) this.#clean.delete(participant);
  }

  clear() {
    this.keepOnly(new Set());
    this.#early.clear();
  }

  async #accept(peer, sdp) {
    await peer.setRemote('offer', sdp);
    const early = this.#early.get(peer.connection) ?? [];
    this.#early.delete(peer.connection);
    early.forEach((candidate) => peer.addCandidate(candidate));
    await peer.pc.setLocalDescription(await peer.pc.createAnswer());
    const answered = this.#signalling.request('answer', { connection: peer.connection, sdp: peer.pc.localDescription.sdp });
    peer.announce();
    await answered;
  }

  #notTaken(peer, error) {
    // Closed meanwhile: a newer offer, or the publisher left.
    if (this.#peers.get(peer.connection)?.peer !== peer) return;
    // The server has the answer, or tells the offer again on the next socket.
    if (error.code === 'connection_lost') return;
    console.warn('salon: offer not taken', error.message);
    peer.fail();
  }

  #received(connection, tracks, mid, track) {
    const offered = tracks.find((one) => one.mid === mid);
    if (!offered || !this.#peers.has(connection)) return;
    this.tracks.set(offered.id, track);
    this.#tell('track', offered.id);
  }

  #drop(connection) {
    const known = this.#peers.get(connection);
    this.#early.delete(connection);
    if (!known) return;
    this.#peers.delete(connection);
    known.peer.close();
    const elsewhere = new Set([...this.#peers.values()].flatMap(({ tracks }) => tracks));
    for (const id of known.tracks.filter((one) => !elsewhere.has(one))) {
      this.tracks.delete(id);
      this.#tell('gone', id);
    }
  }

  // Our network may have changed. The offer of other paths comes as any offer does.
  #lookElsewhere(connection) {
    this.#peers.get(connection)?.peer.restart(() => this.#signalling.request('restart', { connection }));
  }

  #failed(connection) {
    const known = this.#peers.get(connection);
    if (!known) return;
    this.#drop(connection);
    this.#askAgain(known.participant);
  }

  #connected(participant) {
    if (!this.#retries.has(participant)) return;
    this.#forgetRetry(participant);
    this.#tell('recovered', participant);
  }

  #askAgain(participant) {
    const attempt = this.#retries.get(participant)?.attempt ?? 0;
    this.#forgetRetry(participant);
    const timer = setTimeout(() => this.#subscribe(participant), RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
    this.#retries.set(participant, { attempt: attempt + 1, timer });
    this.#tell('recovering', participant);
  }

  async #subscribe(participant) {
    try {
      await this.subscribe(participant);
    } catch (error) {
      if (error.code === 'no_such_participant') return void this.#forgetRetry(participant);
      // No moderator any more.
      if (error.code === 'not_allowed') this.#setClean(participant, false);
      // A lost socket is mended by the session, which then looks for what is missing.
      if (error.code !== 'connection_lost') this.#askAgain(participant);
    }
  }

  #setClean(participant, clean) {
    if (clean) this.#clean.add(participant);
    else this.#clean.delete(participant);
  }

  #forgetRetry(participant) {
    clearTimeout(this.#retries.get(participant)?.timer);
    this.#retries.delete(participant);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
