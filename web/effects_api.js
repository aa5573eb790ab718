// The catalogue of effects, and a room's pictures for them, over HTTP.

import { ProtocolError } from '/signalling.js';

/** `{ effects, unavailable }` as the server has them. */
export async function listEffects(access) {
  return (await ask('GET', '/api/effects', access)).json();
}

/** `[{ name, frames, cpu_ms_per_frame }]` of effects that run: a participant's, one of his tracks', or the mix's. */
export async function listCosts(room, access, { participant, track }) {
  const whose = participant ? `/participants/${encodeURIComponent(participant)}` : '';
  const place = track ? `${whose}/tracks/${encodeURIComponent(track)}` : whose;
  return (await (await ask('GET', `/api/rooms/${encodeURIComponent(room)}${place}/effects`, access)).json()).costs;
}

/** A Blob: the track as it would look with the effect. */
export async function previewEffect(room, access, { participant, track }, name) {
  const [whose, which, effect] = [participant, track, name].map(encodeURIComponent);
  return (await ask('GET', `/api/rooms/${encodeURIComponent(room)}/participants/${whose}/tracks/${which}/effects/${effect}/preview.jpg`, access)).blob();
}

/** `[{ id, width, height }]`, in the order they came. */
export async function listPictures(room, access) {
  return (await ask('GET', picturesOf(room), access)).json();
}

/** Gives a PNG, JPEG or SVG (a `File`) to the room; what is wrong with it is in the error. */
export async function givePicture(room, access, file) {
  const answer = await ask('POST', picturesOf(room), access, { body: file, headers: { 'content-type': file.type || 'image/unknown' } });
  return answer.json();
}

/** Where a picture is seen; an `img` cannot set headers, so the token is in the address. */
export function pictureUrl(room, access, id) {
  return `${picturesOf(room)}/${encodeURIComponent(id)}?${new URLSearchParams({ access })}`;
}

function picturesOf(room) {
  return `/api/rooms/${encodeURIComponent(room)}/pictures`;
}

async function ask(method, path, access, { body, headers } = {}) {
  const answer = await fetch(path, { method, body, cache: 'no-store', headers: { ...headers, authorization: `Bearer ${access}` } }).catch(() => null);
  if (!answer) throw new ProtocolError('connection_lost');
  if (answer.ok) return answer;
  const { code, detail } = await answer.json().catch(() => ({}));
  throw new ProtocolError(code ?? 'other', detail ?? `HTTP ${answer.status}`);
}
