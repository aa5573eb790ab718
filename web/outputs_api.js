// Receivers elsewhere that are sent a room's mix, over HTTP, for moderators.

import { callRoom } from '/cameras_api.js';

/** All of them, in the order they were added. */
export async function listOutputs(room, access) {
  return (await callRoom('GET', room, access, 'outputs')).json();
}

/** `uri`: `rtmp://host/app/key` or `srt://host:port?streamid=…`; `fingerprint`: of an `rtmps` receiver's own certificate,
 * or empty. Gives it as the server has it. */
export async function addOutput(room, access, uri, fingerprint) {
  return (await callRoom('POST', room, access, 'outputs', fingerprint ? { uri, fingerprint } : { uri })).json();
}

export async function removeOutput(room, access, id) {
  await callRoom('DELETE', room, access, `outputs/${encodeURIComponent(id)}`);
}
