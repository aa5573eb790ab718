// One publication: what this page sends over one PeerConnection. The page offers, the server answers,
// nothing but its paths is renegotiated: later changes are `replaceTrack` and `mute`.

import { layersOf } from '/layers.js';
import { Peer } from '/peer.js';

// The server takes layers of these.
const LAYERED_CODECS = ['vp8', 'h264'];
const MAX_BITRATE = { camera: 1_500_000, screen: 2_500_000, microphone: 64_000 };

/** Events: those of `Peer`; `shaky` is for `lookElsewhere`. */
export class Publication extends Peer {
  #signalling;
  #senders = new Map();
  #ids = new Map();

  constructor(signalling, connection, iceServers) {
    super(signalling, connection, iceServers);
    this.#signalling = signalling;
  }

  /**
   * Publishes `[{ track, source, kind, muted }]` and resolves when the server has answered: false if it takes no layers,
   * then it is to be asked again without them. `track` may be the screen's sound: `source` is then `screen` and `kind`
   * `audio`.
   */
  async start(inputs, codec, layered) {
    const stream = new MediaStream();
    const transceivers = inputs.map((input) => [input, this.#add(input, stream, codec, layered)]);
    await this.pc.setLocalDescription(await this.pc.createOffer());
    const tracks = transceivers.map(([input, transceiver]) => (
      { mid: transceiver.mid, source: input.source, muted: input.muted }
    ));
    const asked = this.#signalling.request('publish', {
      connection: this.connection, sdp: this.pc.localDescription.sdp, tracks,
    });
    this.announce();
    const answer = await asked;
    if (this.pc.localDescription.sdp.includes('a=simulcast:') && !answer.sdp.includes('a=simulcast:')) return false;
    for (const [input, transceiver] of transceivers) {
      const published = answer.tracks.find(({ mid }) => mid === transceiver.mid);
      if (published) this.#ids.set(keyOf(input), published.id);
    }
    await this.setRemote('answer', answer.sdp);
    await Promise.all(transceivers.map(([input, transceiver]) => limitBitrate(transceiver.sender, input)));
    return true;
  }

  /** Looks for other paths on the same session: what is published stays what it is. */
  lookElsewhere() {
    return this.restart(async () => {
      const offer = await this.pc.createOffer({ iceRestart: true });
      // Not set before the server has taken it: else it goes on as it is.
      const { sdp } = await this.#signalling.request('restart', { connection: this.connection, sdp: offer.sdp });
      await this.pc.setLocalDescription(offer);
      await this.setRemote('answer', sdp);
    });
  }

  has(source, kind) {
    return this.#senders.has(keyOf({ source, kind }));
  }

  trackId(source, kind) {
    return this.#ids.get(keyOf({ source, kind }));
  }

  owns(trackId) {
    return [...this.#ids.values()].includes(trackId);
  }

  /** Sends another device, or nothing (`null`). */
  async replace(source, kind, track) {
    await this.#senders.get(keyOf({ source, kind }))?.replaceTrack(track);
  }

  #add(input, stream, codec, layered) {
    const transceiver = this.pc.addTransceiver(input.track, {
      direction: 'sendonly',
      streams: [stream],
      sendEncodings: layered ? encodings(input, codec) : [{ maxBitrate: maxBitrate(input) }],
    });
    this.#senders.set(keyOf(input), transceiver.sender);
    if (input.source === 'screen' && input.kind === 'video') input.track.contentHint = 'detail';
    if (codec && input.kind === 'video') preferCodec(transceiver, codec);
    return transceiver;
  }
}

function keyOf({ source, kind }) {
  return `${source}/${kind}`;
}

function maxBitrate({ source, kind }) {
  return kind === 'audio' ? MAX_BITRATE.microphone : MAX_BITRATE[source];
}

function encodings(input, codec) {
  const hasLayers = input.kind === 'video' && input.source === 'camera' && LAYERED_CODECS.includes((codec ?? 'vp8').toLowerCase());
  const height = hasLayers ? input.track.getSettings().height ?? 0 : 0;
  return layersOf(height, maxBitrate(input));
}

// Browsers differ in whether `sendEncodings` or `setParameters` takes the limit: ask both ways.
async function limitBitrate(sender, input) {
  const parameters = sender.getParameters();
  if (parameters.encodings?.length !== 1) return;
  parameters.encodings[0].maxBitrate = maxBitrate(input);
  await sender.setParameters(parameters).catch((error) => console.debug('salon: bitrate not limited', error.message));
}

/** Puts `codec` (`vp8`, `h264`, `vp9`, `av1`) before the browser's own order. */
function preferCodec(transceiver, codec) {
  const wanted = `video/${codec}`.toLowerCase();
  for (const side of [RTCRtpSender, RTCRtpReceiver]) {
    const all = side.getCapabilities?.('video')?.codecs ?? [];
    const first = all.filter(({ mimeType }) => mimeType.toLowerCase() === wanted);
    if (!first.length) continue;
    try {
      transceiver.setCodecPreferences?.([...first, ...all.filter((one) => !first.includes(one))]);
      return;
    } catch {
      // Browsers disagree on which side's list counts for a transceiver that only sends.
    }
  }
}
