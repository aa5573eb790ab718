// Playing what is received, where the browser may refuse sound until the person has clicked somewhere.

import { hideBanner, showBanner } from '/notices.js';

const blocked = new Set();

/** Plays `video` with sound; if that is refused, without, and a banner offers the click that mends it. */
export async function play(video, withSound) {
  video.muted = !withSound || blocked.has(video);
  try {
    await video.play();
  } catch (error) {
    // `AbortError`: a newer source took over, and its own `play` follows.
    if (error.name === 'NotAllowedError' && !video.muted) await playSilently(video);
  }
}

/** A video that is going away needs no click any more. */
export function forgetSound(video) {
  blocked.delete(video);
  if (!blocked.size) hideBanner('sound');
}

/** Where sound comes out; browsers without the choice keep the system's. */
export async function routeSound(video, speakerId) {
  if (!video.setSinkId || (video.sinkId ?? '') === (speakerId ?? '')) return;
  // The remembered speaker may be unplugged: the system's own is right then.
  await video.setSinkId(speakerId ?? '').catch(() => video.setSinkId('').catch(() => {}));
}

async function playSilently(video) {
  blocked.add(video);
  video.muted = true;
  await video.play().catch(() => {});
  showBanner('sound', ['banner.sound'], { t: 'banner.sound.action', run: unblock, testid: 'sound-on' });
}

function unblock() {
  const waiting = [...blocked];
  blocked.clear();
  hideBanner('sound');
  waiting.forEach((video) => play(video, true));
}

/** A short rising chime, to hear whether a speaker works. */
export async function chime(speakerId) {
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  [523, 659, 784].forEach((frequency, index) => note(context, out, frequency, context.currentTime + 0.05 + index * 0.14));
  const player = new Audio();
  player.srcObject = out.stream;
  await routeSound(player, speakerId);
  await player.play();
  setTimeout(() => context.close(), 1_200);
}

function note(context, out, frequency, at) {
  const oscillator = new OscillatorNode(context, { frequency });
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.setTargetAtTime(0.25, at, 0.01);
  volume.gain.setTargetAtTime(0, at + 0.14, 0.08);
  oscillator.connect(volume).connect(out);
  oscillator.start(at);
  oscillator.stop(at + 0.6);
}
