// The room: stage, panel, bar, and the messages that tell what happens.

import { el, iconButton } from '/dom.js';
import { icon } from '/icons.js';
import { textOfError, textOfProblem } from '/messages.js';
import { hideBanner, notify, showBanner } from '/notices.js';
import { clockAhead } from '/recordings_api.js';
import { bindShortcuts } from '/shortcuts.js';
import { toggleFullscreen } from '/tile.js';
import { Tiles } from '/tiles.js';
import { chatView } from '/views/chat.js';
import { preferences, wordmark } from '/views/chrome.js';
import { controls, outputBadge, recordingBadge } from '/views/controls.js';
import { copyLink, invitationLink, openHelp, openInvitation, openMarker, openSettings } from '/views/dialogs.js';
import { effectsView } from '/views/effects.js';
import { openLayoutPicker } from '/views/layout_picker.js';
import { panel } from '/views/panel.js';
import { peopleView } from '/views/people.js';
import { openRecordMenu } from '/views/record_menu.js';
import { recordingsView } from '/views/recordings.js';

export function roomView(session, media) {
  const actions = roomActions(session, media, (name) => side.toggle(name));
  const bar = controls(session, media, actions);
  const ahead = clockAhead();
  const recordings = recordingsView(session, ahead);
  const effects = effectsView(session);
  const chat = chatView(session, (count) => bar.setUnread(count));
  const side = panel({ chat, people: peopleView(session), recordings, effects }, bar.panelChanged);
  const badge = recordingBadge(session, ahead);
  const sentOn = outputBadge(session);
  const alone = aloneCard(session);
  const stage = el('div', { class: 'stage', testid: 'stage' });
  const element = el('div', { class: 'room' },
    el('header', { class: 'top' }, wordmark(true), el('h1', { testid: 'room-title', tabindex: '-1' }, session.room), badge.element, sentOn.element, preferences()),
    el('main', { class: 'middle' }, el('div', { class: 'stage-frame' }, stage, alone.element), side.separator, side.element),
    bar.element);
  const tiles = new Tiles(stage, session, media);
  const unbind = bindShortcuts({
    m: actions.mic, v: actions.camera, s: actions.screen, c: actions.chat, p: actions.people, e: actions.effects, f: actions.fullscreen, '?': actions.help,
  });

  function refresh() {
    bar.refresh();
    badge.refresh();
    sentOn.refresh();
    alone.refresh();
  }

  const problem = ({ detail }) => notify(textOfProblem(detail), 'warning');
  session.addEventListener('changed', ({ detail }) => { if (detail.type !== 'speaking') refresh(); });
  tellWhatHappens(session);
  media.addEventListener('change', bar.refresh);
  media.addEventListener('problem', problem);
  document.addEventListener('fullscreenchange', bar.fullscreenChanged);
  refresh();
  if (session.model.liveRecording) notify(['notice.being-recorded']);

  return {
    element,
    // Not a button: the space bar that somebody still presses would do what it says.
    focus: () => element.querySelector('[data-testid="room-title"]').focus({ preventScroll: true }),
    close() {
      unbind();
      tiles.close();
      badge.close();
      recordings.close();
      effects.close();
      media.removeEventListener('change', bar.refresh);
      media.removeEventListener('problem', problem);
      document.removeEventListener('fullscreenchange', bar.fullscreenChanged);
      if (document.fullscreenElement) document.exitFullscreen();
      document.querySelectorAll('dialog').forEach((dialog) => dialog.close());
    },
  };
}

function roomActions(session, media, togglePanel) {
  const ifPublisher = (run) => () => (session.mayPublish ? run() : notify(['notice.viewer'], 'warning'));
  return {
    mic: ifPublisher(() => media.setMicrophone(!(media.microphone.on && media.microphone.track))),
    camera: ifPublisher(() => media.setCamera(!(media.camera.on && media.camera.track))),
    screen: ifPublisher(() => (session.sending.sharing ? session.sending.stopScreen() : session.sending.startScreen())),
    record: () => toggleRecording(session),
    recordOptions: () => openRecordMenu((options) => tryTo(() => session.startRecording(options))),
    pause: () => pauseOrResume(session),
    marker: () => openMarker((title) => mark(session, title)),
    layout: () => openLayoutPicker(session),
    chat: () => togglePanel('chat'),
    people: () => togglePanel('people'),
    recordings: () => togglePanel('recordings'),
    effects: ifPublisher(() => togglePanel('effects')),
    invite: () => openInvitation(session),
    fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : toggleFullscreen(document.documentElement)),
    settings: () => openSettings(media),
    help: openHelp,
    leave: () => session.leave(),
  };
}

async function toggleRecording(session) {
  if (!session.model.isModerator) return notify(['record.moderators-only'], 'warning');
  const live = session.model.liveRecording;
  await tryTo(() => (live ? session.stopRecording(live.id) : session.startRecording()));
}

async function pauseOrResume(session) {
  const live = session.model.liveRecording;
  if (live) await tryTo(() => (live.state === 'paused' ? session.resumeRecording(live.id) : session.pauseRecording(live.id)));
}

async function mark(session, title) {
  const live = session.model.liveRecording;
  if (!live) {
    notify(['error.not_recording'], 'warning');
    return false;
  }
  const marked = await tryTo(() => session.markRecording(live.id, title));
  if (marked) notify(['notice.marked']);
  return marked;
}

async function tryTo(request) {
  try {
    await request();
    return true;
  } catch (error) {
    notify(textOfError(error), 'warning');
    return false;
  }
}

function tellWhatHappens(session) {
  let wasModerator = session.model.isModerator;
  const states = new Map([...session.model.recordings.values()].map(({ id, state }) => [id, state]));
  session.addEventListener('changed', ({ detail }) => {
    if (detail.type === 'recording') tellRecording(detail.recording, states);
    if (detail.type === 'effects-failed') tellFailedEffects(session.model, detail);
    const isModerator = session.model.isModerator;
    if (isModerator && !wasModerator) notify(['notice.moderator']);
    wasModerator = isModerator;
  });
  session.addEventListener('connection', ({ detail }) => {
    if (detail === 'lost') return showBanner('connection', ['banner.lost'], null, true);
    hideBanner('connection');
    notify([`notice.${detail}`]);
  });
  session.addEventListener('recovering', ({ detail: id }) => {
    const name = session.model.participants.get(id)?.name;
    if (name) notify(['notice.recovering', { name }], 'warning');
  });
  session.addEventListener('muted-by-moderator', ({ detail: kind }) => notify([`notice.muted-${kind}`], 'warning'));
  session.addEventListener('problem', ({ detail }) => {
    notify(detail.problem ? textOfProblem(detail) : textOfError(detail), 'warning');
  });
}

function tellFailedEffects({ selfId, isModerator, participants }, { participant, reason }) {
  const name = participants.get(participant)?.name;
  if (!participant) notify(['notice.effects-failed.mix', { reason }], 'warning');
  else if (participant === selfId) notify(['notice.effects-failed.own', { reason }], 'warning');
  else if (isModerator && name) notify(['notice.effects-failed', { name, reason }], 'warning');
}

function tellRecording({ id, state, reason }, states) {
  // News of its markers are no news of its state.
  if (states.get(id) === state) return;
  states.set(id, state);
  if (state === 'paused') notify(['notice.recording-paused']);
  if (state === 'recording') notify(['notice.being-recorded']);
  if (state === 'ready') notify(['notice.recording-ready']);
  if (state === 'failed') notify(['notice.recording-failed', { reason: reason ?? '' }], 'warning');
}

// Nobody else is here: the one thing to do is to ask somebody in.
function aloneCard(session) {
  let dismissed = false;
  const element = el('div', { class: 'alone card', testid: 'alone' },
    iconButton('close', 'dismiss', 'alone-dismiss', () => { dismissed = true; element.hidden = true; }),
    el('strong', { t: 'alone.title' }), el('p', { t: 'alone.words' }),
    el('button', { type: 'button', class: 'primary', testid: 'alone-copy', on: { click: () => copyLink(invitationLink(session.room)) } },
      icon('copy'), el('span', { t: 'invite.copy' })));
  return { element, refresh: () => { element.hidden = dismissed || session.model.others.length > 0; } };
}
