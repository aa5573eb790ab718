// The page at `/recordings`: all that one may see, without being in a room. A room's members come here with their
// room's key; the server's owner with the API secret, or at his own machine with nothing.

import { el } from '/dom.js';
import { textOfError } from '/messages.js';
import { clockAhead, ownerKey, participantKey } from '/recordings_api.js';
import { pageHeader } from '/views/chrome.js';
import { recordingList } from '/views/recordings.js';

const LOOK_EVERY_S = 5;
const STORE = 'salon.recordings-key';

export function recordingsPage() {
  let { key, mayRemove } = takeKey();
  const list = recordingList({
    key: () => key,
    ahead: clockAhead(),
    emptyKey: 'recordings.page.empty',
    mayRemove: () => mayRemove,
    liveOf: () => undefined,
    withRoom: true,
    everyS: LOOK_EVERY_S,
    refused: askForSecret,
  });
  const secret = el('input', { id: 'api-secret', type: 'password', autocomplete: 'current-password', required: true, testid: 'api-secret' });
  const failure = el('p', { class: 'form-error', role: 'alert', hidden: true });
  const form = el('form', { class: 'home-form secret-form', hidden: true, testid: 'secret-form', on: { submit } },
    el('p', { t: 'recordings.page.locked' }),
    el('label', { for: 'api-secret', t: 'recordings.page.secret' }), secret, failure,
    el('button', { type: 'submit', class: 'primary', t: 'recordings.page.unlock', testid: 'unlock' }));
  const heading = el('h1', { t: 'recordings.page', tabindex: '-1' });
  const element = el('div', { class: 'page' }, pageHeader(), el('main', { class: 'recordings-page' }, heading, form, list.element));

  function askForSecret() {
    list.element.hidden = true;
    if (!form.hidden) return;
    form.hidden = false;
    secret.focus();
  }

  async function submit(event) {
    event.preventDefault();
    failure.hidden = true;
    try {
      key = await ownerKey(secret.value);
      mayRemove = true;
      keepKey(key, mayRemove);
      form.hidden = true;
      list.element.hidden = false;
      list.refresh();
      heading.focus();
    } catch (error) {
      const [words, args] = [textOfError(error)].flat();
      failure.replaceChildren(el('span', { t: [words, args] }));
      failure.hidden = false;
    }
  }

  list.opened();
  return { element, focus: () => heading.focus({ preventScroll: true }), close: () => list.close() };
}

// From the address, which is cleared of it, or as it was kept in this tab.
function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1));
  const access = given.get('access');
  if (access) {
    history.replaceState(null, '', location.pathname);
    const taken = { key: participantKey(access), mayRemove: given.has('remove') };
    keepKey(taken.key, taken.mayRemove);
    return taken;
  }
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORE));
    if (kept?.key) return kept;
  } catch {
    // Storage is forbidden.
  }
  return { key: {}, mayRemove: true };
}

function keepKey(key, mayRemove) {
  try {
    sessionStorage.setItem(STORE, JSON.stringify({ key, mayRemove }));
  } catch {
    // Then a reload asks again.
  }
}
