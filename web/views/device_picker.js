// Choosing camera, microphone and speaker, with a meter that shows that the microphone hears.

import { canChooseSpeaker, listDevices, watchLevel } from '/devices.js';
import { el } from '/dom.js';
import { t } from '/i18n.js';
import { icon } from '/icons.js';
import { chime } from '/sound.js';

/** An element with the three choices, and `close()`. */
export function devicePicker(media) {
  const camera = choice('camera', (id) => media.chooseCamera(id));
  const microphone = choice('microphone', (id) => media.chooseMicrophone(id));
  const speaker = canChooseSpeaker() ? choice('speaker', (id) => media.chooseSpeaker(id)) : null;
  const meter = levelMeter();
  microphone.row.append(meter.element);
  speaker?.row.append(el('button', {
    type: 'button', class: 'small', t: 'device.test', testid: 'speaker-test', on: { click: () => chime(media.speakerId) },
  }));
  const element = el('div', { class: 'device-picker' }, camera.row, microphone.row, speaker?.row);

  async function refresh() {
    const lists = await listDevices();
    camera.fill(lists.camera, media.camera.deviceId);
    microphone.fill(lists.microphone, media.microphone.deviceId);
    speaker?.fill(lists.speaker, media.speakerId);
    meter.watch(media.microphone.on ? media.microphone.track : null);
  }

  media.addEventListener('change', refresh);
  navigator.mediaDevices?.addEventListener('devicechange', refresh);
  addEventListener('languagechanged', refresh);
  refresh();

  function close() {
    media.removeEventListener('change', refresh);
    navigator.mediaDevices?.removeEventListener('devicechange', refresh);
    removeEventListener('languagechanged', refresh);
    meter.watch(null);
  }
  return { element, close };
}

function choice(kind, choose) {
  const select = el('select', { testid: `${kind}-select`, label: `device.${kind}`, on: { change: () => choose(select.value) } });
  const row = el('div', { class: 'device-choice' }, icon(kind === 'microphone' ? 'mic' : kind === 'speaker' ? 'sound' : 'camera'), select);
  const fill = (devices, chosen) => {
    const named = devices.map(({ id, name }, index) => el('option', { value: id }, name || t('device.numbered', { number: index + 1 })));
    select.replaceChildren(...(named.length ? named : [el('option', { value: '' }, t(`device.${kind}.none`))]));
    select.disabled = !named.length;
    if (devices.some(({ id }) => id === chosen)) select.value = chosen;
  };
  return { row, fill };
}

function levelMeter() {
  const bar = el('span', { class: 'meter-bar' });
  const element = el('span', { class: 'meter', role: 'meter', testid: 'mic-level', label: 'device.level', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': '0' }, bar);
  let watched = null;
  let stop = () => {};
  const show = (level) => {
    bar.style.transform = `scaleX(${level.toFixed(3)})`;
    element.setAttribute('aria-valuenow', String(Math.round(level * 100)));
  };
  return {
    element,
    watch(track) {
      if (track === watched) return;
      stop();
      watched = track;
      stop = track ? watchLevel(track, show) : () => {};
    },
  };
}
