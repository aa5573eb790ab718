// Texts in the reader's language. Elements note which text they show, so that switching the language
// rewrites the page in place: playing videos are never rebuilt.

import { recall, remember } from '/settings.js';

export const LANGUAGES = { en: 'English', ko: '한국어' };

let language = 'en';
let texts = {};
let plural = new Intl.PluralRules('en');

/** Loads the remembered language, or the first one the browser asks for that we have. */
export async function startTexts() {
  const wanted = [recall('language'), ...(navigator.languages ?? [navigator.language])];
  const found = wanted.map((tag) => String(tag ?? '').slice(0, 2)).find((tag) => tag in LANGUAGES);
  await load(found ?? 'en');
}

/** Switches the language and everything that is on the page. */
export async function switchLanguage(tag) {
  await load(tag);
  remember('language', tag);
  retranslate(document);
  window.dispatchEvent(new Event('languagechanged'));
}

export function currentLanguage() {
  return language;
}

/**
 * The text of `key` with `{names}` filled in. With `args.count` the form `key_one` or `key_other` is
 * taken as the language's plural rules say. An unknown key shows itself: tests look for that.
 */
export function t(key, args = {}) {
  const counted = 'count' in args ? texts[`${key}_${plural.select(args.count)}`] ?? texts[`${key}_other`] : undefined;
  const text = counted ?? texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in args ? String(args[name]) : whole));
}

export function hasText(key) {
  return key in texts;
}

/** Shows a text in an element, and keeps it in the current language. */
export function say(element, key, args = {}) {
  return bind(element, 't', key, args);
}

/** Names an element for screen readers and for the pointer that rests on it. */
export function label(element, key, args = {}) {
  return bind(element, 'tLabel', key, args);
}

export function placeholder(element, key, args = {}) {
  return bind(element, 'tPlaceholder', key, args);
}

const SHOW = {
  t: (element, text) => { element.textContent = text; },
  tLabel: (element, text) => { element.setAttribute('aria-label', text); element.title = text; },
  tPlaceholder: (element, text) => { element.placeholder = text; },
};

function bind(element, how, key, args) {
  element.dataset[how] = JSON.stringify([key, args]);
  SHOW[how](element, t(key, args));
  return element;
}

function retranslate(root) {
  for (const [how, attribute] of [['t', 'data-t'], ['tLabel', 'data-t-label'], ['tPlaceholder', 'data-t-placeholder']]) {
    for (const element of root.querySelectorAll(`[${attribute}]`)) {
      const [key, args] = JSON.parse(element.dataset[how]);
      SHOW[how](element, t(key, args));
    }
  }
}

async function load(tag) {
  const answer = await fetch(`/texts/${tag}.json`);
  if (!answer.ok) throw new Error(`texts/${tag}.json: HTTP ${answer.status}`);
  texts = await answer.json();
  language = tag;
  plural = new Intl.PluralRules(tag);
  document.documentElement.lang = tag;
}
