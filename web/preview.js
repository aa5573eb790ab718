// A picture of the room that this page asks for on its own: one's own camera, or the mix, as others see it.
// One at a time, and only while somebody looks.

import { Peer } from '/peer.js';

const RETRY_MS = 1_500;

/** Events: `picture` (detail: a track to show, or null). */
export class Preview extends EventTarget {
  #signalling;
  #iceServers = [];
  #wanted = null;
  #turn = 0;
  #connections = [];
  #peer = null;
  #retry = null;

  constructor(signalling) {
    super();
    this.#signalling = signalling;
  }

  useIceServers(iceServers) {
    this.#iceServers = iceServers ?? [];
  }

  /** `{ participant, track }` shows a published track, `{ mix: true }` the mix, null nothing. */
  show(wanted) {
    if (JSON.stringify(wanted) === JSON.stringify(this.#wanted)) return;
    this.#wanted = wanted;
    this.#end();
    if (wanted) this.#ask();
  }

  /** Takes an offer that answers what was asked for here; false for any other. */
  offer({ connection, sdp }) {
    if (!this.#connections.includes(connection)) return false;
    this.#take(connection, sdp);
    return true;
  }

  candidate({ connection, candidate }) {
    if (!this.#connections.includes(connection)) return false;
    this.#peer?.addCandidate(candidate);
    return true;
  }

  /** The server ended it: the camera was turned off, or the connection failed. */
  closed({ connection }) {
    if (!this.#connections.includes(connection)) return false;
    this.#connections = [];
    this.#drop();
    this.#askAgain();
    return true;
  }

  async #ask() {
    const turn = ++this.#turn;
    const { participant, track, mix } = this.#wanted;
    try {
      const asked = mix ? { mix: true } : { participant, tracks: [track] };
      const { connections } = await this.#signalling.request('subscribe', asked);
      if (turn === this.#turn) this.#connections = connections;
      else connections.forEach((connection) => this.#unsubscribe(connection));
    } catch {
      // The track went, or the socket did: asked for again while it is wanted.
      if (turn === this.#turn) this.#askAgain();
    }
  }

  async #take(connection, sdp) {
    this.#drop();
    const peer = new Peer(this.#signalling, connection, this.#iceServers);
    this.#peer = peer;
    peer.pc.ontrack = ({ track }) => {
      if (track.kind === 'video' && this.#peer === peer) this.#tell(track);
    };
    // It is not worth looking for other paths.
    peer.addEventListener('shaky', () => { if (peer.pc.connectionState === 'failed') peer.fail(); });
    peer.addEventListener('failed', () => {
      if (this.#peer !== peer) return;
      this.#end();
      this.#askAgain();
    });
    try {
      await peer.setRemote('offer', sdp);
      await peer.pc.setLocalDescription(await peer.pc.createAnswer());
      const answered = this.#signalling.request('answer', { connection, sdp: peer.pc.localDescription.sdp });
      peer.announce();
      await answered;
    } catch {
      peer.fail();
    }
  }

  #askAgain() {
    clearTimeout(this.#retry);
    const turn = this.#turn;
    this.#retry = setTimeout(() => { if (this.#wanted && turn === this.#turn) this.#ask(); }, RETRY_MS);
  }

  #end() {
    this.#turn += 1;
    clearTimeout(this.#retry);
    this.#connections.splice(0).forEach((connection) => this.#unsubscribe(connection));
    this.#drop();
  }

  #drop() {
    this.#peer?.close();
    this.#peer = null;
    this.#tell(null);
  }

  #unsubscribe(connection) {
    this.#signalling.send('unsubscribe', { connection });
  }

  #tell(track) {
    this.dispatchEvent(new CustomEvent('picture', { detail: track }));
  }
}
