// Recordings over HTTP. Who asks shows a `key`: `{ bearer, access }`, the one in a header, the other in the addresses
// of what the browser loads by itself. For a participant both are his access token; the server's owner at his own
// machine may need neither.

/** A participant's key. */
export function participantKey(access) {
  return { bearer: access, access };
}

/** The key of whoever has the API secret. Rejects if it is not that. */
export async function ownerKey(secret) {
  const { access } = await (await ask('POST', '/api/access', { bearer: secret })).json();
  return { bearer: secret, access };
}

/** All recordings that the key opens, newest first. Rejects with an `Error` if the server refuses. */
export async function listRecordings(key) {
  const body = await (await ask('GET', '/api/recordings', key)).json();
  const list = Array.isArray(body) ? body : body.recordings;
  return list.sort((a, b) => b.created_at.localeCompare(a.created_at));
}

/** Hides a recording at once; it can be restored for so many seconds, then it is gone. */
export async function removeRecording(id, key, undoS) {
  await ask('DELETE', `${pathOf(id)}?undo_s=${undoS}`, key);
}

export async function restoreRecording(id, key) {
  await ask('POST', `${pathOf(id)}/restore`, key);
}

/** Where a mix plays from; a player cannot set headers, so the token is in the address. */
export function fileUrl(id, key, download = false) {
  return besideUrl(id, 'file', key, download ? { download: '1' } : {});
}

/** What lies beside a recording: `thumbnail.jpg`, `thumbnails.vtt`, `sprite.jpg`, `chat.vtt`, `files/{name}`. */
export function besideUrl(id, name, { access }, query = {}) {
  return `${pathOf(id)}/${name}?${new URLSearchParams({ ...(access ? { access } : {}), ...query })}`;
}

/**
 * How far the server's clock is ahead of ours, in milliseconds, so that running times agree. HTTP dates have
 * whole seconds: half of one is the expected rounding.
 */
export async function clockAhead() {
  try {
    const asked = Date.now();
    const answer = await fetch('/healthz', { method: 'HEAD', cache: 'no-store' });
    const date = Date.parse(answer.headers.get('date'));
    const ahead = date + 500 - (asked + Date.now()) / 2;
    return Math.abs(ahead) > 1_500 ? ahead : 0;
  } catch {
    return 0;
  }
}

function pathOf(id) {
  return `/api/recordings/${encodeURIComponent(id)}`;
}

async function ask(method, path, { bearer }) {
  const headers = bearer ? { authorization: `Bearer ${bearer}` } : {};
  const answer = await fetch(path, { method, headers, cache: 'no-store' });
  if (answer.ok) return answer;
  const { code, message } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(message ?? `HTTP ${answer.status}`), { code, status: answer.status });
}
