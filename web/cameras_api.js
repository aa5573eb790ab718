// The cameras of a room over HTTP, for moderators.

import { ProtocolError } from '/signalling.js';

/** All of them, in the order they were added. */
export async function listCameras(room, access) {
  return (await callRoom('GET', room, access, 'ingests')).json();
}

/** `camera`: `{ uri, name?, credentials?: { user, password }, transport?, fingerprint?, on_demand? }`. Gives it as the server has it. */
export async function addCamera(room, access, camera) {
  return (await callRoom('POST', room, access, 'ingests', camera)).json();
}

/** What it has, and a picture of it, without adding it: `{ state, reason?, detail?, video?, audio?, snapshot? }`. */
export async function testCamera(room, access, camera) {
  return (await callRoom('POST', room, access, 'ingests/test', camera)).json();
}

export async function removeCamera(room, access, id) {
  await callRoom('DELETE', room, access, `ingests/${encodeURIComponent(id)}`);
}

/** Asks for what is below a room. Rejects with a `ProtocolError`. */
export async function callRoom(method, room, access, path, body = null) {
  const answer = await fetch(`/api/rooms/${encodeURIComponent(room)}/${path}`, {
    method,
    cache: 'no-store',
    headers: { authorization: `Bearer ${access}`, ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const { code, detail } = await answer.json().catch(() => ({}));
  throw new ProtocolError(code ?? 'other', detail ?? `HTTP ${answer.status}`);
}
