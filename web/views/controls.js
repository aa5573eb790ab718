// The bar of buttons below the stage. On a phone the less used ones are a sheet behind "more".

import { canShareScreen } from '/devices.js';
import { clockText, el, iconButton, setIcon } from '/dom.js';
import { label, say } from '/i18n.js';
import { icon } from '/icons.js';
import { recordedMs } from '/room_model.js';
import { showSwitch } from '/views/lobby.js';

/**
 * `actions`: what the buttons do, by name (`mic`, `camera`, `screen`, `record`, `recordOptions`, `pause`, `marker`, `chat`, `people`,
 * `recordings`, `layout`, `effects`, `invite`, `fullscreen`, `settings`, `help`, `leave`).
 */
export function controls(session, media, actions) {
  const mic = worded('mic', 'mic.off', 'mic', actions.mic);
  const camera = worded('camera', 'camera.off', 'camera', actions.camera);
  const screen = worded('screen', 'screen.on', 'screen', actions.screen);
  const record = worded('record', 'record.start', 'record', actions.record);
  const options = worded('chevron', 'record.options', 'record-options', actions.recordOptions, 'narrow');
  const pause = worded('pause', 'record.pause', 'pause', actions.pause);
  const marker = worded('marker', 'marker', 'marker', actions.marker);
  const layout = worded('layout', 'layout', 'layout', actions.layout);
  const effects = worded('sparkle', 'panel.effects', 'effects-toggle', actions.effects);
  const chat = worded('chat', 'panel.chat', 'chat-toggle', actions.chat);
  const people = worded('people', 'panel.people', 'people-toggle', actions.people);
  const recordings = worded('film', 'panel.recordings', 'recordings-toggle', actions.recordings);
  const fullscreen = worded('expand', 'fullscreen', 'fullscreen', actions.fullscreen);
  const unread = el('span', { class: 'count unread', testid: 'unread', hidden: true });
  const present = el('span', { class: 'count', testid: 'participant-count' });
  chat.append(unread);
  people.append(present);
  const rest = el('div', { class: 'bar-group rest', id: 'more-controls' },
    record, options, pause, marker, layout, effects, people, recordings,
    worded('invite', 'invite', 'invite', actions.invite),
    document.fullscreenEnabled ? fullscreen : null,
    worded('gear', 'settings', 'settings', actions.settings),
    worded('help', 'help', 'help', actions.help));
  const more = iconButton('more', 'more', 'more', () => setMore(!rest.classList.contains('open')), {
    class: 'icon-button more', 'aria-expanded': 'false', 'aria-controls': 'more-controls',
  });
  const leave = worded('leave', 'leave', 'leave', actions.leave, 'leave');
  const element = el('footer', { class: 'bar', label: 'controls' },
    el('div', { class: 'bar-group' }, mic, camera, canShareScreen() ? screen : null),
    rest,
    el('div', { class: 'bar-group' }, chat, more, leave));
  element.removeAttribute('title');
  rest.addEventListener('click', () => setMore(false));
  rest.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !rest.classList.contains('open')) return;
    setMore(false);
    more.focus();
  });

  function setMore(open) {
    rest.classList.toggle('open', open);
    more.setAttribute('aria-expanded', String(open));
    if (open) rest.querySelector('button:not([hidden])').focus();
  }

  function refresh() {
    const { model, sending, mayPublish } = session;
    for (const button of [mic, camera, screen]) button.hidden = !mayPublish;
    showSwitch(mic, 'mic', Boolean(media.microphone.on && media.microphone.track));
    showSwitch(camera, 'camera', Boolean(media.camera.on && media.camera.track));
    showSharing(screen, sending.sharing);
    showRecording(record, model);
    showOptions(options, model);
    showPause(pause, model);
    marker.hidden = pause.hidden;
    layout.hidden = !model.isModerator;
    effects.hidden = !mayPublish;
    const count = model.participants.size;
    present.textContent = String(count);
    label(people, 'panel.people.count', { count });
  }

  return {
    element,
    refresh,
    panelChanged(shown) {
      for (const [name, button] of Object.entries({ chat, people, recordings, effects })) {
        button.setAttribute('aria-expanded', String(name === shown));
        button.classList.toggle('active', name === shown);
      }
    },
    setUnread(count) {
      unread.hidden = count === 0;
      unread.textContent = count > 99 ? '99+' : String(count);
      label(chat, count ? 'panel.chat.unread' : 'panel.chat', { count });
    },
    fullscreenChanged() {
      const on = Boolean(document.fullscreenElement);
      setIcon(fullscreen, on ? 'shrink' : 'expand');
      label(fullscreen, on ? 'fullscreen.end' : 'fullscreen');
    },
  };
}

// Its words are seen in the phone's sheet only; elsewhere the icon and its tooltip are enough.
function worded(iconName, key, testid, run, extra = '') {
  const button = iconButton(iconName, key, testid, run, { class: `icon-button ${extra}` });
  button.append(el('span', { class: 'word', 'aria-hidden': 'true', t: `word.${testid}` }));
  return button;
}

function showSharing(button, sharing) {
  setIcon(button, sharing ? 'screen-off' : 'screen');
  label(button, sharing ? 'screen.off' : 'screen.on');
  button.setAttribute('aria-pressed', String(sharing));
  button.classList.toggle('active', sharing);
}

function showRecording(button, model) {
  const live = Boolean(model.liveRecording);
  setIcon(button, live ? 'stop' : 'record');
  button.classList.toggle('recording', live);
  button.setAttribute('aria-pressed', String(live));
  // Disabled in meaning, not in fact: a button that cannot be reached cannot say why.
  button.setAttribute('aria-disabled', String(!model.isModerator));
  label(button, !model.isModerator ? 'record.moderators-only' : live ? 'record.stop' : 'record.start');
}

// For who may record, while nothing is.
function showOptions(button, model) {
  const hidden = !model.isModerator || Boolean(model.liveRecording);
  if (hidden && button === document.activeElement) button.previousElementSibling.focus();
  button.hidden = hidden;
}

// For who may record, while there is something to pause.
function showPause(button, model) {
  const paused = model.liveRecording?.state === 'paused';
  const hidden = !model.isModerator || !['recording', 'paused'].includes(model.liveRecording?.state);
  // The focus does not fall out of the bar with the button.
  if (hidden && button === document.activeElement) button.previousElementSibling.focus();
  button.hidden = hidden;
  setIcon(button, paused ? 'resume' : 'pause');
  label(button, paused ? 'record.resume' : 'record.pause');
  say(button.querySelector('.word'), paused ? 'word.resume' : 'word.pause');
  button.classList.toggle('active', paused);
}

/** The badge that tells everybody that the room is recorded, with the running time. */
export function recordingBadge(session, clockAhead) {
  const time = el('time', { class: 'time', testid: 'record-time' });
  const words = el('span', { class: 'words' });
  const element = el('div', { class: 'recording-badge', role: 'status', testid: 'recording-badge', hidden: true },
    el('span', { class: 'dot', 'aria-hidden': 'true' }), words, el('span', { 'aria-hidden': 'true' }, time));
  let timer = null;

  function refresh() {
    const live = session.model.liveRecording;
    element.hidden = !live;
    clearInterval(timer);
    if (!live) return;
    say(words, `recording.${live.state}`);
    element.classList.toggle('paused', live.state === 'paused');
    time.hidden = live.state === 'starting';
    const tick = async () => {
      time.textContent = clockText(recordedMs(live, Date.now() + (await clockAhead)) / 1000);
    };
    tick();
    if (live.state !== 'paused') timer = setInterval(tick, 1_000);
  }

  return { element, refresh, close: () => clearInterval(timer) };
}

/** Everybody is told while the room's mix goes out to another service. */
export function outputBadge(session) {
  const element = el('div', { class: 'recording-badge sent-on', role: 'status', testid: 'output-badge', hidden: true },
    el('span', { class: 'dot', 'aria-hidden': 'true' }), el('span', { class: 'words', t: 'output.live' }));
  return { element, refresh: () => { element.hidden = !session.model.isSentOn; } };
}
