// Before entering: see yourself, choose devices, say your name.

import { el, iconButton, setIcon } from '/dom.js';
import { label, say } from '/i18n.js';
import { icon } from '/icons.js';
import { textOfError, textOfProblem } from '/messages.js';
import { recall, remember } from '/settings.js';
import { pageHeader } from '/views/chrome.js';
import { devicePicker } from '/views/device_picker.js';

const PIN_ERRORS = ['pin_required', 'wrong_pin', 'pin_locked'];
const NAME_ERRORS = ['bad_name', 'name_too_long'];

/**
 * `enter({ name, pin, viewer, create })` resolves when the person is in, and rejects with the error to show.
 */
export function lobbyView(room, media, enter) {
  const preview = previewPane(media);
  const picker = devicePicker(media);
  const form = entryForm(room, enter);
  const element = el('div', { class: 'page' }, pageHeader(),
    el('main', { class: 'lobby' },
      preview.element, form.element,
      el('section', { class: 'lobby-devices', label: 'lobby.devices' }, picker.element)));
  for (const region of element.querySelectorAll('section')) region.removeAttribute('title');
  return {
    element,
    focus: form.focus,
    close() {
      preview.close();
      picker.close();
    },
  };
}

function previewPane(media) {
  const video = el('video', { class: 'mirrored', autoplay: true, playsinline: true, muted: true, testid: 'preview' });
  video.muted = true;
  const slate = el('p', { class: 'preview-slate', t: 'lobby.camera-off' });
  const mic = iconButton('mic', 'mic.off', 'mic', () => media.setMicrophone(!media.microphone.on));
  const camera = iconButton('camera', 'camera.off', 'camera', () => media.setCamera(!media.camera.on));
  const problems = el('div', { class: 'problems', role: 'alert', testid: 'device-problem' });
  const element = el('div', { class: 'preview-block' },
    el('div', { class: 'preview' }, slate, video, el('div', { class: 'preview-buttons' }, mic, camera)), problems);

  function refresh() {
    const { track } = media.camera;
    if (track !== video.srcObject?.getTracks()[0]) video.srcObject = track ? new MediaStream([track]) : null;
    video.hidden = !track;
    showSwitch(mic, 'mic', media.microphone.on);
    showSwitch(camera, 'camera', media.camera.on);
    if (media.camera.on && track) forget('camera');
    if (media.microphone.on && media.microphone.track) forget('microphone');
  }

  function problem({ detail }) {
    forget(detail.kind);
    problems.append(el('p', { class: 'problem', 'data-kind': detail.kind }, icon('warning'), el('span', { t: textOfProblem(detail) })));
  }

  function forget(kind) {
    problems.querySelector(`[data-kind="${kind}"]`)?.remove();
  }

  media.addEventListener('change', refresh);
  media.addEventListener('problem', problem);
  refresh();
  return {
    element,
    close() {
      media.removeEventListener('change', refresh);
      media.removeEventListener('problem', problem);
      video.srcObject = null;
    },
  };
}

/** Shows whether a microphone or camera is on, in a button that switches it. */
export function showSwitch(button, kind, on) {
  setIcon(button, on ? kind : `${kind}-off`);
  label(button, on ? `${kind}.off` : `${kind}.on`);
  button.setAttribute('aria-pressed', String(on));
  button.classList.toggle('off', !on);
}

function entryForm(room, enter) {
  const name = field('text', 'name', 'nickname', { maxlength: '64', required: true, autocomplete: 'nickname' });
  name.input.value = recall('nickname', '');
  const pin = field('text', 'pin', 'pin', { maxlength: '32', inputmode: 'numeric', autocomplete: 'off' });
  pin.element.hidden = true;
  const newPin = field('text', 'new-pin', 'new-pin', { maxlength: '32', autocomplete: 'off' });
  const viewer = el('input', { type: 'checkbox', testid: 'viewer' });
  const error = el('p', { class: 'form-error', role: 'alert', testid: 'lobby-error', hidden: true });
  const join = el('button', { class: 'primary large', testid: 'join' }, el('span', { t: 'lobby.join' }));
  const element = el('form', { class: 'card entry', on: { submit }, novalidate: true },
    el('div', {}, el('p', { class: 'eyebrow', t: 'lobby.room' }), el('h1', { testid: 'room-name' }, room)),
    name.element, pin.element,
    el('details', { testid: 'options' }, el('summary', { t: 'lobby.options' }),
      el('label', { class: 'check' }, viewer, el('span', {}, el('span', { t: 'lobby.viewer' }), el('small', { t: 'lobby.viewer.hint' }))),
      newPin.element, el('small', { t: 'lobby.new-pin.hint' })),
    error, join);

  async function submit(event) {
    event.preventDefault();
    const nickname = name.input.value.trim();
    if (!nickname) return fail({ code: 'bad_name' });
    remember('nickname', nickname);
    setBusy(true);
    error.hidden = true;
    const wanted = newPin.input.value.trim();
    try {
      await enter({ name: nickname, pin: wanted || pin.input.value.trim(), viewer: viewer.checked, create: Boolean(wanted) });
    } catch (problem) {
      setBusy(false);
      fail(problem);
    }
  }

  function fail(problem) {
    if (PIN_ERRORS.includes(problem.code)) pin.element.hidden = false;
    say(error, ...textOfError(problem));
    error.dataset.code = problem.code ?? '';
    error.hidden = false;
    const wrong = PIN_ERRORS.includes(problem.code) ? pin.input : NAME_ERRORS.includes(problem.code) ? name.input : null;
    for (const { input } of [name, pin]) input.setAttribute('aria-invalid', String(input === wrong));
    wrong?.focus();
    wrong?.select();
  }

  function setBusy(busy) {
    join.disabled = busy;
    say(join.firstElementChild, busy ? 'lobby.joining' : 'lobby.join');
  }

  return { element, focus: () => (name.input.value ? join : name.input).focus() };
}

function field(type, key, testid, attributes) {
  const id = `field-${key}`;
  const input = el('input', { type, id, testid, ...attributes });
  return { input, element: el('div', { class: 'field' }, el('label', { for: id, t: `lobby.${key}` }), input) };
}
