// One effect of a chain: its name, its place in the row, and an input for each of its parameters.

import { stepOf } from '/effect_chain.js';
import { el, iconButton } from '/dom.js';
import { t } from '/i18n.js';
import { icon } from '/icons.js';
import { wordsOf } from '/views/effect_gallery.js';

// Whoever types a text shall not see half of each word go by.
const TYPING_MS = 300;

/**
 * `one`: `{ key, name, params }`; `effect`: of the catalogue, if it is known; `actions`: `setParams(values)`,
 * `move(to)`, `remove()`, `touched()`, and for pictures `pictures()` (ids), `pictureUrl(id)` and `give(file)`, which
 * gives the id it has then.
 */
export function effectCard(one, effect, { index, count }, actions) {
  const title = effect ? wordsOf(effect.title) : one.name;
  const inputs = new Map((effect?.parameters ?? []).map((parameter) => [parameter.name, inputOf(one.key, parameter, actions)]));
  const step = (name, key, to) => iconButton(name, [key, { name: title }], `effect-${name}`, () => actions.move(to), { class: 'icon-button tiny', disabled: to < 0 || to >= count });
  const [up, down] = [step('up', 'effects.move.up', index - 1), step('down', 'effects.move.down', index + 1)];
  const remove = iconButton('close', ['effects.remove', { name: title }], 'effect-remove', actions.remove, { class: 'icon-button tiny' });
  const handle = el('span', { class: 'drag-handle', testid: 'effect-drag', 'aria-hidden': 'true', on: { pointerdown } }, icon('drag'));
  const cost = el('span', { class: 'effect-cost', role: 'note', testid: 'effect-cost', hidden: true });
  const element = el('li', { class: 'effect-card', testid: 'effect', 'data-effect': one.name, 'data-key': String(one.key), on: { focusin: actions.touched } },
    el('header', {}, handle, el('h3', {}, title), cost, up, down, remove),
    [...inputs.values()].map((input) => input.element));

  function show(params) {
    for (const [name, input] of inputs) if (name in params) input.show(params[name]);
  }

  // Of one picture, or one block of sound.
  function showCost(measured) {
    cost.hidden = !measured?.frames;
    if (cost.hidden) return;
    const ms = measured.cpu_ms_per_frame.toFixed(2);
    cost.textContent = `${ms} ms`;
    const words = t(effect?.kind === 'audio' ? 'effects.cost.audio' : 'effects.cost.video', { ms });
    cost.title = words;
    cost.setAttribute('aria-label', words);
  }

  // The card follows the pointer among its fellows, and is moved once where it is let go. Heard on the
  // window: an element that changes its place loses the pointer that it captured.
  function pointerdown(event) {
    event.preventDefault();
    element.classList.add('dragged');
    const middleOf = (card) => { const { top, height } = card.getBoundingClientRect(); return top + height / 2; };
    const follow = ({ clientY, pointerId }) => {
      if (pointerId !== event.pointerId || !element.isConnected) return;
      const others = [...element.parentElement.children].filter((card) => card !== element);
      const next = others.find((card) => clientY < middleOf(card)) ?? null;
      if (next !== element.nextElementSibling) element.parentElement.insertBefore(element, next);
    };
    const done = ({ pointerId }) => {
      if (pointerId !== event.pointerId) return;
      removeEventListener('pointermove', follow);
      for (const end of ['pointerup', 'pointercancel']) removeEventListener(end, done);
      element.classList.remove('dragged');
      if (element.isConnected) actions.move([...element.parentElement.children].indexOf(element));
    };
    addEventListener('pointermove', follow);
    for (const end of ['pointerup', 'pointercancel']) addEventListener(end, done);
  }

  show(one.params);
  return {
    key: one.key,
    element,
    show,
    showCost,
    focus: () => (element.querySelector('input, select') ?? remove).focus(),
    // At an end of the row one of the two buttons is of no use.
    focusMove: (way) => (way === 'up' ? (up.disabled ? down : up) : (down.disabled ? up : down)).focus(),
  };
}

const INPUTS = { number: slider, text: textField, toggle: checkbox, choice: menu, colour: colourField, picture: pictureField };

/** Whether the page has an input for each of its parameters: some effects are for programs. */
export function isForPeople({ parameters }) {
  return parameters.every(({ range }) => range.type in INPUTS);
}

function inputOf(key, parameter, actions) {
  const id = `effect-${key}-${parameter.name}`;
  const make = INPUTS[parameter.range.type];
  // A newer server may have kinds of parameters that this page does not know: they keep their defaults.
  if (!make) return { element: '', show() {} };
  return make({ id, testid: 'effect-param', 'data-param': parameter.name }, parameter, (value) => actions.setParams({ [parameter.name]: value }), actions);
}

function slider(properties, { title, range }, set) {
  const input = el('input', { ...properties, type: 'range', min: String(range.min), max: String(range.max), step: String(stepOf(range)), on: { input: () => { say(); set(Number(input.value)); } } });
  const value = el('output', { for: properties.id });
  const digits = Math.max(0, -Math.floor(Math.log10(stepOf(range))));
  function say() {
    const text = `${Number(input.value).toFixed(digits)}${range.unit ? ` ${range.unit}` : ''}`;
    value.textContent = text;
    input.setAttribute('aria-valuetext', text);
  }
  return {
    element: el('div', { class: 'effect-param' }, el('label', { for: properties.id }, wordsOf(title)), value, input),
    show(number) {
      if (Number(input.value) !== number) input.value = String(number);
      say();
    },
  };
}

function textField(properties, { title, range }, set) {
  let timer = null;
  const send = () => {
    clearTimeout(timer);
    if (timer !== null) set(input.value);
    timer = null;
  };
  const input = el('input', { ...properties, maxlength: String(range.max_chars), autocomplete: 'off', on: { change: send, input: () => { clearTimeout(timer); timer = setTimeout(send, TYPING_MS); } } });
  return {
    element: el('div', { class: 'effect-param' }, el('label', { for: properties.id }, wordsOf(title)), input),
    show(text) { if (timer === null && input.value !== text) input.value = text; },
  };
}

function checkbox(properties, { title }, set) {
  const input = el('input', { ...properties, type: 'checkbox', on: { change: () => set(input.checked) } });
  return {
    element: el('div', { class: 'effect-param check' }, input, el('label', { for: properties.id }, wordsOf(title))),
    show(on) { input.checked = on; },
  };
}

function menu(properties, { title, range }, set) {
  const select = el('select', { ...properties, on: { change: () => set(select.value) } },
    range.options.map(({ value, title: words }) => el('option', { value }, wordsOf(words))));
  return {
    element: el('div', { class: 'effect-param' }, el('label', { for: properties.id }, wordsOf(title)), select),
    show(value) { select.value = value; },
  };
}

function colourField(properties, { title }, set) {
  const input = el('input', { ...properties, type: 'color', on: { input: () => set(input.value) } });
  return {
    element: el('div', { class: 'effect-param colour' }, el('label', { for: properties.id }, wordsOf(title)), input),
    show(colour) { input.value = colour; },
  };
}

// One of every room's, or one of this room's own, or a file that becomes one.
function pictureField(properties, { title, range }, set, { pictures, pictureUrl, give }) {
  const select = el('select', { ...properties, on: { change: () => { showSample(); set(select.value); } } });
  const sample = el('img', { class: 'picture-sample', alt: '' });
  const file = el('input', { type: 'file', accept: 'image/png,image/jpeg,image/svg+xml', hidden: true, testid: 'picture-file', on: { change: upload } });
  const button = el('button', { type: 'button', class: 'small', t: 'effects.picture.upload', testid: 'picture-upload', on: { click: () => file.click() } });

  function fill() {
    select.replaceChildren(
      ...range.options.map(({ value, title: words }) => el('option', { value }, wordsOf(words))),
      ...pictures().map((id, index) => el('option', { value: id, t: ['effects.picture.own', { number: index + 1 }] })));
  }

  function showSample() {
    const isOwn = !range.options.some(({ value }) => value === select.value);
    sample.hidden = !isOwn;
    if (isOwn && select.value) sample.src = pictureUrl(select.value);
  }

  async function upload() {
    const [chosen] = file.files;
    file.value = '';
    if (!chosen) return;
    button.disabled = true;
    const id = await give(chosen);
    button.disabled = false;
    if (!id) return;
    fill();
    select.value = id;
    showSample();
    set(id);
  }

  fill();
  return {
    element: el('div', { class: 'effect-param picture' }, el('label', { for: properties.id }, wordsOf(title)), button, file,
      el('div', { class: 'picture-choice' }, sample, select)),
    show(value) {
      if (![...select.options].some((option) => option.value === value)) fill();
      if (![...select.options].some((option) => option.value === value)) select.append(el('option', { value, t: 'effects.picture.other' }));
      select.value = value;
      showSample();
    },
  };
}
