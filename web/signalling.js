// The WebSocket: requests as promises, events as they come, and a new socket whenever one is lost.
// It knows frames, not rooms: what to say on a new socket is the session's business.
//
// A socket dies with the network that it was opened on, and a browser takes minutes to notice. So a socket that is
// silent is asked for a sign of life; if none comes soon, another one is opened beside it, and the first that works is
// used. If that is the new one, what is on its way on the old one is lost, as with any socket that is.

const REQUEST_TIMEOUT_MS = 10_000;
const OPEN_TIMEOUT_MS = 8_000;
const BEAT_MS = 500;
const QUIET_MS = 1_500;
const SPARE_AFTER_MS = 1_000;
const PROBE_TIMEOUT_MS = 4_000;
// An attempt that is older than this, when the network has changed, began on another one.
const STALE_ATTEMPT_MS = 1_000;
const BACKOFF_MS = [200, 500, 1_000, 2_000, 4_000];

/** The server said no, or could not be asked. `code` is the protocol's, or `connection_lost`. */
export class ProtocolError extends Error {
  constructor(code, message, field) {
    super(message ?? code);
    this.code = code;
    this.field = field;
  }
}

/** Events: `frame` (detail: a frame without id), `lost`, `back` (a new socket is open; the old one may not have been lost). */
export class Signalling extends EventTarget {
  #url;
  #socket = null;
  #pending = new Map();
  #nextId = 1;
  #ended = false;
  #attempt = 0;
  #retry = null;
  #opened = 0;
  #heard = 0;
  #beat = null;
  #probing = false;
  #spare = null;
  #networkChanged = () => (this.#probing ? this.#openSpare() : this.probe());

  constructor(url) {
    super();
    this.#url = url;
  }

  static ofThisPage() {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    return new Signalling(`${scheme}//${location.host}/ws`);
  }

  /** Opens the first socket. Only if this succeeds are lost sockets replaced. */
  async connect() {
    await this.#open();
    this.#beat = setInterval(() => { if (this.connected && performance.now() - this.#heard > QUIET_MS) this.probe(); }, BEAT_MS);
    addEventListener('online', this.#networkChanged);
    navigator.connection?.addEventListener('change', this.#networkChanged);
  }

  get connected() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Asks, and resolves with the answer; rejects with a `ProtocolError`. */
  request(type, fields = {}, timeout = REQUEST_TIMEOUT_MS) {
    if (!this.connected) return Promise.reject(new ProtocolError('connection_lost'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      // A server that does not answer is a connection that does not work: replace it.
      const timer = setTimeout(() => this.#drop(), timeout);
      this.#pending.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...fields, id, type }));
    });
  }

  /** Says something that needs no answer; it is lost if the socket is. */
  send(type, fields = {}) {
    if (this.connected) this.#socket.send(JSON.stringify({ ...fields, type }));
  }

  /** Finds out whether the socket still works, also when media or the browser says that the network has changed. */
  async probe() {
    if (!this.connected) return this.#reopenNow();
    if (this.#probing) return;
    this.#probing = true;
    const spare = setTimeout(() => this.#openSpare(), SPARE_AFTER_MS);
    // Any answer will do.
    await this.request('ping', {}, PROBE_TIMEOUT_MS).catch(() => {});
    clearTimeout(spare);
    this.#closeSpare();
    this.#probing = false;
  }

  /** Ends for good. What was said before still goes out. */
  close() {
    this.#ended = true;
    clearInterval(this.#beat);
    removeEventListener('online', this.#networkChanged);
    navigator.connection?.removeEventListener('change', this.#networkChanged);
    clearTimeout(this.#retry);
    this.#socket?.close();
    this.#failPending();
  }

  #open() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#opened = performance.now();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => socket.close(), OPEN_TIMEOUT_MS);
      socket.onopen = () => {
        clearTimeout(timer);
        this.#use(socket);
        resolve();
      };
      socket.onclose = () => {
        clearTimeout(timer);
        reject(new ProtocolError('connection_lost'));
      };
    });
  }

  #use(socket) {
    this.#heard = performance.now();
    socket.onclose = () => this.#lost(socket);
    socket.onmessage = (message) => { if (socket === this.#socket) this.#take(message.data); };
  }

  // While the socket is asked for a sign of life.
  #openSpare() {
    if (this.#ended || (this.#spare && performance.now() - this.#opened < STALE_ATTEMPT_MS)) return;
    this.#closeSpare();
    const spare = new WebSocket(this.#url);
    this.#spare = spare;
    this.#opened = performance.now();
    spare.onclose = () => { if (spare === this.#spare) this.#spare = null; };
    spare.onopen = () => {
      if (spare !== this.#spare) return;
      this.#spare = null;
      const old = this.#socket;
      this.#socket = spare;
      this.#use(spare);
      old?.close();
      this.#failPending();
      this.#tell('back');
    };
  }

  #closeSpare() {
    const spare = this.#spare;
    this.#spare = null;
    spare?.close();
  }

  #take(text) {
    this.#heard = performance.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return console.warn('salon: a frame that is not JSON');
    }
    const waiting = this.#pending.get(frame.id);
    if (!waiting) return this.#tell('frame', frame);
    this.#pending.delete(frame.id);
    clearTimeout(waiting.timer);
    if (frame.type === 'error') waiting.reject(new ProtocolError(frame.code, frame.message, frame.field));
    else waiting.resolve(frame);
  }

  // Not `socket.close()` alone: on a dead network its `close` event comes only after a long time-out.
  #drop() {
    const socket = this.#socket;
    socket?.close();
    if (socket) this.#lost(socket);
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#failPending();
    if (this.#ended) return;
    this.#tell('lost');
    this.#attempt = 0;
    this.#scheduleReopen();
  }

  #scheduleReopen() {
    const pause = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)];
    this.#attempt += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#reopen(), pause * (0.8 + 0.4 * Math.random()));
  }

  #reopenNow() {
    if (this.#ended || (this.#socket && performance.now() - this.#opened < STALE_ATTEMPT_MS)) return;
    const stale = this.#socket;
    clearTimeout(this.#retry);
    this.#reopen();
    stale?.close();
  }

  async #reopen() {
    const opening = this.#open();
    const socket = this.#socket;
    try {
      await opening;
    } catch {
      // Another one may have taken its place.
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (!this.#ended) this.#scheduleReopen();
      return;
    }
    if (this.#ended || socket !== this.#socket) socket.close();
    else this.#tell('back');
  }

  #failPending() {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new ProtocolError('connection_lost'));
    }
    this.#pending.clear();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
