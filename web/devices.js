// Devices as the browser gives them: constraints, lists, what went wrong, and how loud a microphone is.

const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * Tracks of the devices that `wanted` names, `{ camera?: id or null, microphone?: id or null }`, under the same
 * names. The device of an id is asked for as a condition (`exact`), because browsers may take another for a
 * wish (`ideal`); if it is gone, any will do.
 */
export async function openDevices(wanted) {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException('not a secure origin', 'InsecureOrigin');
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(constraintsFor(wanted, true));
  } catch (error) {
    if (error.name !== 'OverconstrainedError') throw error;
    stream = await navigator.mediaDevices.getUserMedia(constraintsFor(wanted, false));
  }
  return { camera: stream.getVideoTracks()[0], microphone: stream.getAudioTracks()[0] };
}

function constraintsFor({ camera, microphone }, exact) {
  const only = (id) => (id && exact ? { deviceId: { exact: id } } : {});
  return {
    video: camera !== undefined && { ...CAMERA, ...only(camera) },
    audio: microphone !== undefined && { ...MICROPHONE, ...only(microphone) },
  };
}

/** `{ video, audio? }` of the screen, window or tab that the person picks. */
export async function openScreen() {
  const stream = await navigator.mediaDevices.getDisplayMedia({
    video: { frameRate: { ideal: 15, max: 30 } },
    audio: true,
  });
  return { video: stream.getVideoTracks()[0], audio: stream.getAudioTracks()[0] };
}

export function canShareScreen() {
  return Boolean(navigator.mediaDevices?.getDisplayMedia);
}

export function canChooseSpeaker() {
  return 'setSinkId' in HTMLMediaElement.prototype;
}

/** `missing`, `denied`, `busy`, `insecure` or `unknown`: each has a text that says what to do. */
export function problemOf(error) {
  switch (error.name) {
    case 'NotFoundError': case 'OverconstrainedError': return 'missing';
    case 'NotAllowedError': case 'SecurityError': return 'denied';
    case 'NotReadableError': case 'AbortError': return 'busy';
    case 'InsecureOrigin': return 'insecure';
    default: return 'unknown';
  }
}

/** Devices by kind: `{ camera: [{ id, name }], microphone, speaker }`. Names are known once one was opened. */
export async function listDevices() {
  const kinds = { videoinput: 'camera', audioinput: 'microphone', audiooutput: 'speaker' };
  const lists = { camera: [], microphone: [], speaker: [] };
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  for (const { kind, deviceId, label } of all) {
    if (deviceId || label) lists[kinds[kind]].push({ id: deviceId, name: label });
  }
  return lists;
}

/**
 * Calls `show(level)` with 0…1, once a frame, with the loudness of an audio track; returns what stops it.
 * The scale is in decibels (−60 dBFS is 0), because ears are.
 */
export function watchLevel(track, show) {
  const context = new AudioContext();
  // Browsers may hold sound back until the person has touched the page.
  const wake = () => context.resume();
  if (context.state === 'suspended') addEventListener('pointerdown', wake, { once: true });
  const analyser = new AnalyserNode(context, { fftSize: 1024, smoothingTimeConstant: 0 });
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let frame = requestAnimationFrame(measure);
  function measure() {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const decibels = 10 * Math.log10(power + 1e-9);
    show(Math.min(1, Math.max(0, (decibels + 60) / 55)));
    frame = requestAnimationFrame(measure);
  }
  return () => {
    cancelAnimationFrame(frame);
    removeEventListener('pointerdown', wake);
    context.close();
    show(0);
  };
}
