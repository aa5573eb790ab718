// Makes elements. Text goes in as text nodes only: nothing here, or anywhere else, parses markup.

import { label, placeholder, say } from '/i18n.js';
import { icon } from '/icons.js';

/**
 * `el('button', { class: 'primary', t: 'join', testid: 'join', on: { click } }, child, 'text')`.
 * `t`, `label` and `placeholder` are text keys, or `[key, args]`; other properties become attributes.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) apply(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SPECIAL = {
  class: (element, value) => { element.className = value; },
  testid: (element, value) => { element.dataset.testid = value; },
  t: (element, value) => say(element, ...[value].flat()),
  label: (element, value) => label(element, ...[value].flat()),
  placeholder: (element, value) => placeholder(element, ...[value].flat()),
  on: (element, value) => {
    for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
  },
};

function apply(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name in SPECIAL) SPECIAL[name](element, value);
  else element.setAttribute(name, value === true ? '' : value);
}

/** A button that shows an icon; its label is its accessible name and its tooltip. */
export function iconButton(name, labelKey, testid, click, extra = {}) {
  return el('button', { type: 'button', class: 'icon-button', label: labelKey, testid, on: { click }, ...extra }, icon(name));
}

/** Puts another icon into a button made by `iconButton`. */
export function setIcon(button, name) {
  const old = button.querySelector('svg');
  if (old?.dataset.icon !== name) old?.replaceWith(icon(name));
}

/**
 * Fills a list anew. The button that had the focus in an item keeps it in the item of the same `attribute`, so
 * that news do not throw a person out who goes through the list by keyboard.
 */
export function refill(list, items, attribute) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const item = focused?.closest(`[${attribute}]`)?.getAttribute(attribute);
  list.replaceChildren(...items);
  if (!focused) return;
  const same = items.find((one) => one.getAttribute(attribute) === item);
  const button = same?.querySelector(`[data-testid="${focused.dataset.testid}"]`) ?? same?.querySelector('button, a');
  button?.focus();
}

/** `3:07` or `1:02:45`. */
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts;
  const pad = (number) => String(number).padStart(2, '0');
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}
