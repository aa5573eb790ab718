// Pieces that several views share: the word mark, the language and theme switches, a dialog.

import { el, iconButton } from '/dom.js';
import { currentLanguage, LANGUAGES, switchLanguage } from '/i18n.js';
import { icon, mark } from '/icons.js';
import { themeButton } from '/theme.js';

/** Leads home, except in a room, where a slip of the pointer would end the meeting. */
export function wordmark(inRoom = false) {
  const [tag, attributes] = inRoom ? ['div', {}] : ['a', { href: '/', label: 'home' }];
  return el(tag, { class: 'wordmark', ...attributes }, mark(), el('span', {}, 'Salon'));
}

export function preferences() {
  return el('div', { class: 'preferences' }, languageSelect(), themeButton());
}

export function languageSelect() {
  const options = Object.entries(LANGUAGES).map(([tag, name]) => el('option', { value: tag, lang: tag }, name));
  const select = el('select', { label: 'language', testid: 'language', on: { change: () => switchLanguage(select.value) } }, options);
  select.value = currentLanguage();
  return el('label', { class: 'language' }, icon('globe'), select);
}

/** The top of the pages outside a room. */
export function pageHeader() {
  return el('header', { class: 'page-header' }, wordmark(), preferences());
}

/** Opens a modal dialog that goes away when it is closed; returns it. */
export function openDialog(titleKey, testid, ...content) {
  const dialog = el('dialog', { testid, label: titleKey },
    el('header', {}, el('h2', { t: titleKey }), iconButton('close', 'close', 'dialog-close', () => dialog.close())),
    ...content);
  dialog.removeAttribute('title');
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', ({ target }) => { if (target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
