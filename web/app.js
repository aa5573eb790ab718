// Starts the page, and shows what its address asks for: `/` the way in, `/r/{room}` a room, `/recordings` what was
// recorded.

import { startTexts, t } from '/i18n.js';
import { LocalMedia } from '/local_media.js';
import { clearMessages } from '/notices.js';
import { Session } from '/session.js';
import { recall, remember } from '/settings.js';
import { startTheme } from '/theme.js';
import { endedView } from '/views/ended.js';
import { homeView } from '/views/home.js';
import { lobbyView } from '/views/lobby.js';
import { recordingsPage } from '/views/recordings_page.js';
import { roomView } from '/views/room.js';

const RECENT_ROOMS = 4;
const CODECS = ['vp8', 'h264', 'vp9', 'av1'];

let view = null;
let session = null;
let media = null;

await startTexts();
startTheme();
addEventListener('popstate', route);
addEventListener('pagehide', keepTicket);
document.addEventListener('click', followLink);
route();

function route() {
  const room = roomOfAddress();
  if (session) session.leave();
  if (room) showLobby(room);
  else if (/^\/recordings\/?$/.test(location.pathname)) showRecordings();
  else showHome();
}

/** The room that `/r/{room}` names, or null. */
function roomOfAddress() {
  const [, name] = location.pathname.match(/^\/r\/([^/]+)\/?$/) ?? [];
  try {
    return name ? decodeURIComponent(name) : null;
  } catch {
    return null;
  }
}

function go(path) {
  history.pushState(null, '', path);
  route();
}

// Links within the app keep the page, so that devices stay open and nothing is loaded twice.
function followLink(event) {
  const link = event.target.closest?.('a[href="/"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go('/');
}

// The view is made after the last one has cleared up: what it has to say at once is not wiped away.
function show(makeView, title) {
  view?.close();
  clearMessages();
  view = makeView();
  document.title = title ? `${title} · Salon` : 'Salon';
  document.getElementById('app').replaceChildren(view.element);
  view.focus();
}

function showHome() {
  closeMedia();
  show(() => homeView((room) => go(`/r/${encodeURIComponent(room)}`)), '');
}

function showRecordings() {
  closeMedia();
  show(recordingsPage, t('recordings.page'));
}

function showLobby(room) {
  media ??= new LocalMedia();
  show(() => lobbyView(room, media, (wish) => enter(room, wish)), room);
  const ticket = takeTicket(room);
  const opened = media.open();
  if (ticket) opened.then(() => comeBack(ticket)).catch(() => {});
}

async function enter(room, wish) {
  const next = new Session({ ...wish, room, codec: wantedCodec() }, media);
  await next.enter();
  stay(next);
}

// The lobby stays as it is if this fails: the place was kept for a few seconds only.
async function comeBack({ resume, ...wish }) {
  const next = new Session({ ...wish, codec: wantedCodec() }, media);
  await next.reenter(resume);
  stay(next);
}

function stay(next) {
  session = next;
  const { room } = session;
  remember('recent-rooms', [room, ...recall('recent-rooms', []).filter((one) => one !== room)].slice(0, RECENT_ROOMS));
  session.addEventListener('ended', ({ detail }) => ended(room, detail));
  show(() => roomView(session, media), room);
}

function ended(room, detail) {
  session = null;
  closeMedia();
  show(() => endedView(detail, () => showLobby(room), () => go('/')), t(`ended.${detail.reason}`));
}

function closeMedia() {
  media?.close();
  media = null;
}

function wantedCodec() {
  const codec = new URLSearchParams(location.search).get('codec')?.toLowerCase();
  return CODECS.includes(codec) ? codec : null;
}

// A reload is no farewell: the next page comes back as the same participant. The ticket stays within this
// tab, is used once, and the server forgets it within seconds.
function keepTicket() {
  if (!session?.ticket) return;
  try {
    sessionStorage.setItem('salon.ticket', JSON.stringify(session.ticket));
  } catch {
    // Storage is forbidden: then a reload leads to the lobby.
  }
}

function takeTicket(room) {
  try {
    const ticket = JSON.parse(sessionStorage.getItem('salon.ticket'));
    sessionStorage.removeItem('salon.ticket');
    return ticket?.room === room ? ticket : null;
  } catch {
    return null;
  }
}
