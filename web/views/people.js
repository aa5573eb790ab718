// Who is here: names, roles, what is muted; one's own nickname; and what a moderator may do.

import { el, iconButton, refill } from '/dom.js';
import { hueOf, initialsOf } from '/faces.js';
import { icon } from '/icons.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { remember } from '/settings.js';
import { openCameras } from '/views/cameras.js';
import { openOutputs } from '/views/outputs.js';

export function peopleView(session) {
  const list = el('ul', { class: 'people-list', testid: 'people-list' });
  const form = renameForm(session);
  const cameras = el('button', { type: 'button', class: 'small', t: 'cameras', testid: 'cameras-open', on: { click: () => openCameras(session) } });
  const outputs = el('button', { type: 'button', class: 'small', t: 'outputs', testid: 'outputs-open', on: { click: () => openOutputs(session) } });
  const element = el('div', { class: 'people' }, form.element, list, el('div', { class: 'people-more' }, cameras, outputs));

  function refresh() {
    const { model } = session;
    const everyone = [...model.participants.values()];
    refill(list, everyone.map((one) => row(session, one)), 'data-participant');
    form.refresh(model.self?.name ?? '');
    cameras.hidden = !model.isModerator;
    outputs.hidden = !model.isModerator;
  }

  session.addEventListener('changed', ({ detail }) => { if (detail.type !== 'speaking') refresh(); });
  refresh();
  return { element, opened() {}, closed() {} };
}

function row(session, participant) {
  const { model } = session;
  const self = participant.id === model.selfId;
  const microphone = participant.tracks.find(({ source }) => source === 'microphone');
  const camera = participant.tracks.find(({ source }) => source === 'camera');
  const moderates = model.isModerator && !self;
  return el('li', { testid: 'person', 'data-participant': participant.id },
    el('span', { class: 'face', style: `--hue: ${hueOf(participant.id)}`, 'aria-hidden': 'true' }, initialsOf(participant.name)),
    el('span', { class: 'person-name' },
      self
        ? el('span', { class: 'name', title: participant.name, t: ['tile.you', { name: participant.name }] })
        : el('span', { class: 'name', title: participant.name }, participant.name),
      el('small', { t: standingOf(participant) })),
    // Nobody else can switch on again what the server fetches. One test id for both states: the focus is kept by it.
    moderates && participant.ingest && camera
      ? iconButton(isOn(camera) ? 'camera' : 'camera-off', [isOn(camera) ? 'people.hide' : 'people.show', { name: participant.name }], 'person-hide', () => act(session.muteOther(camera.id, isOn(camera))), { 'data-state': isOn(camera) ? 'on' : 'off' })
      : participant.role === 'viewer' ? null : state('camera', isOn(camera)),
    moderates && participant.ingest && microphone && !isOn(microphone)
      ? iconButton('mic-off', ['people.unmute', { name: participant.name }], 'person-mute', () => act(session.muteOther(microphone.id, false)), { 'data-state': 'off' })
      : moderates && isOn(microphone)
      ? iconButton('mic', ['people.mute', { name: participant.name }], 'person-mute', () => act(session.muteOther(microphone.id)), { 'data-state': 'on' })
      : participant.role === 'viewer' ? null : state('mic', isOn(microphone)),
    pin(session, participant),
    moderates
      ? iconButton('remove', ['people.remove', { name: participant.name }], 'person-remove', () => act(session.remove(participant.id)), { class: 'icon-button danger' })
      // Nobody removes himself; the buttons of all stand below each other.
      : model.isModerator ? el('span', { class: 'state' }) : null);
}

function standingOf({ connected, ingest, role }) {
  if (ingest) return `ingest.${ingest.state}`;
  return connected ? `role.${role}` : 'tile.reconnecting';
}

// Large in the recording, for a moderator; the stage here has pins of its own.
function pin(session, { id, name, role }) {
  const { model } = session;
  if (!model.isModerator || role === 'viewer') return null;
  const pinned = model.layout.pinned === id;
  return iconButton('pin', [pinned ? 'people.unpin' : 'people.pin', { name }], 'person-pin',
    () => act(session.changeLayout({ pinned: pinned ? null : id })),
    { class: `icon-button${pinned ? ' pinned' : ''}`, 'aria-pressed': String(pinned) });
}

function isOn(track) {
  return Boolean(track && !track.muted);
}

function state(kind, on) {
  return el('span', { class: `state${on ? '' : ' off'}`, role: 'img', label: `people.${kind}.${on ? 'on' : 'off'}` }, icon(on ? kind : `${kind}-off`));
}

function renameForm(session) {
  const input = el('input', { id: 'rename', maxlength: '64', required: true, autocomplete: 'nickname', testid: 'rename-input' });
  const element = el('form', { class: 'rename', on: { submit } },
    el('label', { for: 'rename', t: 'people.rename' }),
    el('div', { class: 'with-button' }, input, iconButton('check', 'people.rename.save', 'rename-save', null, { type: 'submit' })));

  async function submit(event) {
    event.preventDefault();
    const name = input.value.trim();
    if (!name || name === session.model.self?.name) return;
    if (await act(session.rename(name))) {
      remember('nickname', name);
      input.blur();
    }
  }

  return { element, refresh: (name) => { if (document.activeElement !== input) input.value = name; } };
}

async function act(request) {
  try {
    await request;
    return true;
  } catch (error) {
    notify(textOfError(error), 'warning');
    return false;
  }
}
