// The recordings of a room over HTTP, seen with a participant's access token.

/** All recordings that the token may see, newest first. Rejects with an `Error` if the server refuses. */
export async function listRecordings(access) {
  const answer = await fetch('/api/recordings', { headers: { authorization: `Bearer ${access}` }, cache: 'no-store' });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const body = await answer.json();
  const list = Array.isArray(body) ? body : body.recordings;
  return list.sort((a, b) => b.created_at.localeCompare(a.created_at));
}

/** Where a recording plays from; a player cannot set headers, so the token is in the address. */
export function fileUrl(id, access, download = false) {
  const query = new URLSearchParams({ access });
  if (download) query.set('download', '1');
  return `/api/recordings/${encodeURIComponent(id)}/file?${query}`;
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
