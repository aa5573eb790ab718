// What can be put on, to choose from.

import { el } from '/dom.js';
import { currentLanguage } from '/i18n.js';
import { icon } from '/icons.js';

const KINDS = [['video', 'effects.kind.video'], ['audio', 'effects.kind.audio']];

/** A catalogue's words in the reader's language. */
export function wordsOf(title) {
  return title[currentLanguage()] ?? title.en;
}

/** `add(effect)` puts one on; `live`: `livePictures` of the effects. */
export function effectGallery(add, live) {
  const summary = el('summary', { t: 'effects.add', testid: 'effects-add' });
  const body = el('div', { class: 'gallery-body' });
  const images = [];
  const element = el('details', { class: 'effect-gallery', testid: 'effect-gallery' }, summary, body);

  /** `hasRoom(kind)`: another fits. `open`: nothing is put on yet. */
  function show(effects, unavailable, hasRoom, open) {
    if (open) element.open = true;
    images.length = 0;
    body.replaceChildren(
      ...KINDS.flatMap(([kind, key]) => {
        const some = effects.filter((effect) => effect.kind === kind);
        return some.length ? [el('h3', { t: key }), el('ul', { class: 'gallery' }, some.map((effect) => tile(effect, hasRoom(kind))))] : [];
      }),
      unavailable.length ? missing(unavailable) : '',
    );
    live.watch(images);
  }

  function tile(effect, fits) {
    const words = wordsOf(effect.title);
    const picture = effect.preview
      ? el('img', { src: effect.preview, alt: '', loading: 'lazy', width: '160', height: '90' })
      : el('span', { class: 'gallery-mark' }, icon(effect.kind === 'audio' ? 'sound' : 'sparkle'));
    if (effect.preview && effect.kind === 'video') images.push([effect.name, picture]);
    return el('li', {}, el('button', {
      type: 'button', class: 'gallery-item', testid: 'effect-add', 'data-effect': effect.name, disabled: !fits, on: { click: () => add(effect) },
    }, picture, el('span', {}, words)));
  }

  return { element, show, fold: () => { element.open = false; }, focus: () => summary.focus() };
}

// For whoever can install what is missing.
function missing(unavailable) {
  return el('details', { class: 'effects-missing', testid: 'effects-missing' },
    el('summary', { t: ['effects.missing', { count: unavailable.length }] }),
    el('ul', {}, unavailable.map(({ what, reason, remedy }) => el('li', { lang: 'en' },
      el('code', {}, what.replace(/^pipelines\/effects\/|\.toml$/g, '')), ` ${reason}`, remedy ? el('code', {}, remedy) : null))));
}
