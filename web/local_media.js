// This person's camera and microphone: opened, switched, chosen and given back. Shared by the lobby
// (preview, level meter) and the room (publication).

import { recall, remember } from '/settings.js';
import { openDevices, problemOf } from '/devices.js';

/**
 * `microphone` and `camera` are `{ track, on, deviceId }`. The microphone keeps its device open while it
 * is off, so that it is back at once; the camera gives its device back, so that its light goes out.
 *
 * Events: `change` (detail: `microphone` or `camera`), `problem` (detail: `{ kind, problem }`).
 */
export class LocalMedia extends EventTarget {
  constructor() {
    super();
    this.microphone = { track: null, on: recall('microphone-on', true), deviceId: recall('microphone') };
    this.camera = { track: null, on: recall('camera-on', true), deviceId: recall('camera') };
    this.speakerId = recall('speaker', '');
  }

  /** Opens what is switched on. What cannot be opened is switched off and told as a `problem`. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) {
      this.microphone.on = this.camera.on = false;
      return this.#tell('problem', { kind: 'both', problem: 'insecure' });
    }
    if (this.camera.on && !(await this.#openTogether())) {
      await this.#open('camera');
      await this.#open('microphone');
    } else if (!this.camera.on) {
      await this.#open('microphone');
    }
  }

  async setMicrophone(on) {
    this.microphone.on = on;
    remember('microphone-on', on);
    if (on && !this.microphone.track) return this.#open('microphone');
    if (this.microphone.track) this.microphone.track.enabled = on;
    this.#tell('change', 'microphone');
  }

  async setCamera(on) {
    this.camera.on = on;
    remember('camera-on', on);
    if (on) return this.#open('camera');
    this.#release('camera');
    this.#tell('change', 'camera');
  }

  async chooseMicrophone(deviceId) {
    await this.#choose('microphone', deviceId);
  }

  async chooseCamera(deviceId) {
    await this.#choose('camera', deviceId);
  }

  chooseSpeaker(deviceId) {
    this.speakerId = deviceId;
    remember('speaker', deviceId);
    this.#tell('change', 'speaker');
  }

  /** Gives all devices back; they can be opened again. */
  close() {
    this.#release('microphone');
    this.#release('camera');
  }

  async #choose(kind, deviceId) {
    this[kind].deviceId = deviceId;
    remember(kind, deviceId);
    if (kind === 'camera' && !this.camera.on) return;
    await this.#open(kind);
  }

  // Asked for together the browser shows one question instead of two. If either is missing the whole
  // request fails, and they are tried one by one to learn which.
  async #openTogether() {
    let tracks;
    try {
      tracks = await openDevices({ camera: this.camera.deviceId, microphone: this.microphone.deviceId });
    } catch {
      return false;
    }
    this.#take('camera', tracks.camera);
    this.#take('microphone', tracks.microphone);
    return true;
  }

  async #open(kind) {
    try {
      // Some systems open a camera once only: the old track has to go first.
      if (kind === 'camera') this.#release('camera');
      const tracks = await openDevices({ [kind]: this[kind].deviceId });
      this.#take(kind, tracks[kind]);
    } catch (error) {
      this.#giveUp(kind, problemOf(error));
    }
  }

  #take(kind, track) {
    const device = this[kind];
    if (kind === 'camera' && !device.on) return track.stop();
    this.#release(kind);
    device.track = track;
    device.deviceId = track.getSettings().deviceId ?? device.deviceId;
    track.enabled = device.on;
    // Fires when the device is unplugged or its permission withdrawn, not when we stop it.
    track.onended = () => this.#giveUp(kind, 'gone');
    this.#tell('change', kind);
  }

  #giveUp(kind, problem) {
    this.#release(kind);
    this[kind].on = false;
    this.#tell('change', kind);
    this.#tell('problem', { kind, problem });
  }

  #release(kind) {
    const { track } = this[kind];
    if (!track) return;
    track.onended = null;
    track.stop();
    this[kind].track = null;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
