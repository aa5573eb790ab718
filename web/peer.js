// One PeerConnection and its trickle: candidates wait, on both sides, until the other side can take
// them. Publications and subscriptions are built on it.

/** Events: `failed` (once), `shaky` (ICE lost touch and may recover), `connected`. */
export class Peer extends EventTarget {
  #signalling;
  #remote = [];
  #local = [];
  #announced = false;
  #described = false;
  #over = false;

  constructor(signalling, connection, iceServers) {
    super();
    this.#signalling = signalling;
    this.connection = connection;
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.pc.onicecandidate = ({ candidate }) => this.#found(candidate);
    this.pc.onconnectionstatechange = () => this.#changed();
  }

  get connected() {
    return this.pc.connectionState === 'connected';
  }

  /** The server knows the connection's name now: candidates may follow. */
  announce() {
    this.#announced = true;
    this.#local.splice(0).forEach((candidate) => this.#send(candidate));
  }

  async setRemote(type, sdp) {
    await this.pc.setRemoteDescription({ type, sdp });
    this.#described = true;
    await Promise.all(this.#remote.splice(0).map((candidate) => this.#add(candidate)));
  }

  /** A candidate of the server's, at any time. */
  addCandidate(candidate) {
    if (this.#described) return this.#add(candidate);
    this.#remote.push(candidate);
    return Promise.resolve();
  }

  close() {
    this.#over = true;
    this.pc.onicecandidate = null;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  fail() {
    if (this.#over) return;
    this.#over = true;
    this.dispatchEvent(new Event('failed'));
  }

  #found(candidate) {
    const plain = candidate?.candidate ? candidate.toJSON() : null;
    if (this.#announced) this.#send(plain);
    else this.#local.push(plain);
  }

  #send(candidate) {
    const wire = candidate && {
      candidate: candidate.candidate,
      sdpMid: candidate.sdpMid ?? undefined,
      sdpMLineIndex: candidate.sdpMLineIndex ?? undefined,
    };
    this.#signalling.send('candidate', { connection: this.connection, candidate: wire });
  }

  async #add(candidate) {
    try {
      await this.pc.addIceCandidate(candidate ?? undefined);
    } catch (error) {
      // One candidate that this browser cannot use (mDNS, IPv6, TCP) leaves the others.
      console.debug('salon: candidate not used', error.message);
    }
  }

  #changed() {
    const state = this.pc.connectionState;
    if (state === 'connected') this.dispatchEvent(new Event('connected'));
    if (state === 'disconnected') this.dispatchEvent(new Event('shaky'));
    if (state === 'failed') this.fail();
  }
}
