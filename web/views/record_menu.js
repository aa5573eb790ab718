// What a moderator may choose before a recording begins.

import { el } from '/dom.js';
import { KINDS } from '/layout.js';
import { openDialog } from '/views/chrome.js';

const SIZES = [[1280, 720], [1920, 1080], [854, 480], [720, 1280]];
const MODES = ['composite', 'individual', 'both'];
const PARTS = { both: {}, audio: { video: false }, video: { audio: false } };

/** `start(options)` resolves to whether it was begun. */
export function openRecordMenu(start) {
  const modes = MODES.map((mode, index) => radio('record-mode', mode, `record.mode.${mode}`, index === 0));
  const parts = Object.keys(PARTS).map((part, index) => radio('record-parts', part, `record.parts.${part}`, index === 0));
  const layout = select('record-layout', [['', 'record.layout.room'], ...KINDS.map((kind) => [kind, `layout.kind.${kind}`])]);
  const size = select('record-size', SIZES.map(([width, height]) => [`${width}x${height}`, null]));
  const name = el('input', { id: 'record-name', maxlength: '128', autocomplete: 'off', testid: 'record-name' });
  const limit = el('input', { id: 'record-limit', type: 'number', min: '1', max: '1440', step: '1', inputmode: 'numeric', testid: 'record-limit' });
  const look = el('div', { class: 'record-look' }, field('record-layout', 'record.layout', layout), field('record-size', 'record.size', size));
  const form = el('form', { class: 'record-form', on: { submit, change: refresh } },
    group('record.mode', modes), group('record.parts', parts), look,
    el('div', { class: 'record-look' }, field('record-name', 'record.name', name), field('record-limit', 'record.limit', limit)),
    el('button', { type: 'submit', class: 'primary', t: 'record.start', testid: 'record-begin' }));
  const dialog = openDialog('record.options', 'record-dialog', form);
  refresh();
  chosen(modes).focus();

  // Where no picture is made there is no layout to choose.
  function refresh() {
    look.hidden = chosen(modes).value === 'individual' || chosen(parts).value === 'audio';
  }

  async function submit(event) {
    event.preventDefault();
    const [width, height] = size.value.split('x').map(Number);
    const options = { mode: chosen(modes).value, ...PARTS[chosen(parts).value] };
    if (!look.hidden) Object.assign(options, { width, height }, layout.value ? { layout: layout.value } : {});
    if (name.value.trim()) options.name = name.value.trim();
    if (limit.value) options.max_s = Number(limit.value) * 60;
    if (await start(options)) dialog.close();
  }
}

function radio(name, value, key, checked) {
  const input = el('input', { type: 'radio', name, value, checked, testid: `${name}-${value}` });
  return { input, element: el('label', { class: 'choice' }, input, el('span', { t: key })) };
}

function chosen(radios) {
  return radios.find(({ input }) => input.checked).input;
}

function group(key, radios) {
  return el('fieldset', {}, el('legend', { t: key }), radios.map(({ element }) => element));
}

function select(id, options) {
  return el('select', { id, testid: id }, options.map(([value, key]) => (
    key ? el('option', { value, t: key }) : el('option', { value }, value.replace('x', ' × '))
  )));
}

function field(id, key, input) {
  return el('div', { class: 'field' }, el('label', { for: id, t: key }), input);
}
