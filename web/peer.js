// One PeerConnection and its trickle: candidates wait, on both sides, until the other side can take
// them. Publications and subscriptions are built on it.

/**
 * Events: `connected`, `shaky` (ICE lost touch: other paths are to be looked for, by `restart`), `failed` (once: it is
 * over, or never came up).
 */
export class Peer extends EventTarget {
  #signalling;
  #remote = [];
  #local = [];
  #announced = false;
  #described = false;
  #over = false;
  #wasConnected = false;
  /** What came of looking for other paths since it was last connected: null, `asked`, `begun` or `refused`. */
  #restart = null;
  #restartedAt = -Infinity;
  /** Descriptions of the server's so far. */
  #remotes = 0;

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

  /** It was up, and is not now. */
  get isShaky() {
    return this.#wasConnected && !this.connected;
  }

  /** Does that if touch is lost: the browser says so, or nothing came for so long, nor for as long since it was done last. */
  async ifDead(silentMs, deed) {
    if (performance.now() - this.#restartedAt < 2 * silentMs) return;
    if (this.isShaky || (this.connected && await this.#isSilent(silentMs))) deed();
  }

  /** The server knows the connection's name now: candidates may follow. */
  announce() {
    this.#announced = true;
    this.#local.splice(0).forEach((candidate) => this.#send(candidate));
  }

  async setRemote(type, sdp) {
    this.#remotes += 1;
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

  /**
   * Looks for other paths on the same session; `ask` has the server begin. If the server could not be reached, that is
   * for the next time; if it refuses, the connection is over once it has failed.
   */
  async restart(ask) {
    if (this.#over || this.#restart === 'asked') return;
    const remotes = this.#remotes;
    this.#restart = 'asked';
    try {
      await ask();
      this.#restart = 'begun';
      this.#restartedAt = performance.now();
    } catch (error) {
      if (error.code === 'connection_lost') {
        this.#restart = null;
      } else if (remotes !== this.#remotes) {
        // It was asked before, and has begun by now.
        this.#restart = 'begun';
      } else {
        console.debug('salon: no other paths', error.message);
        this.#restart = 'refused';
        if (this.pc.connectionState === 'failed') this.fail();
      }
    }
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

  // Not every browser tells; then its own finding is waited for.
  async #isSilent(silentMs) {
    const reports = await this.pc.getStats();
    const { selectedCandidatePairId } = [...reports.values()].find(({ type, selectedCandidatePairId: id }) => type === 'transport' && id) ?? {};
    const { timestamp, lastPacketReceivedTimestamp: heard } = reports.get(selectedCandidatePairId) ?? {};
    return timestamp - heard >= silentMs;
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
    if (state === 'connected') {
      this.#wasConnected = true;
      this.#restart = null;
      this.dispatchEvent(new Event('connected'));
    } else if (state === 'failed' && (!this.#wasConnected || ['begun', 'refused'].includes(this.#restart))) {
      this.fail();
    } else if (state === 'disconnected' || state === 'failed') {
      this.dispatchEvent(new Event('shaky'));
    }
  }
}
