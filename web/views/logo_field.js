// The logo in recordings: one of the room's pictures, in a corner, of some size.

import { givePicture, listPictures, pictureUrl } from '/effects_api.js';
import { el } from '/dom.js';
import { say } from '/i18n.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';

const CORNERS = ['top-left', 'top-right', 'bottom-left', 'bottom-right'];

/**
 * `change(logo)` is called with `{ picture, corner?, size?, opacity? }` or null, also for what the arrow keys only pass;
 * `show(logo)` with what the room has, or is to have.
 */
export function logoField(session, change) {
  /** Ids of the room's pictures. */
  let pictures = [];
  let shown = null;
  /** What the choice offers now. */
  let offered = null;

  const choice = el('select', { id: 'layout-logo', testid: 'layout-logo', label: 'layout.logo.picture', on: { change: () => choose(choice.value) } });
  const sample = el('img', { class: 'picture-sample', alt: '', hidden: true });
  const file = el('input', { type: 'file', accept: 'image/png,image/jpeg,image/svg+xml', hidden: true, testid: 'layout-logo-file', on: { change: upload } });
  const button = el('button', { type: 'button', class: 'small', t: 'effects.picture.upload', testid: 'layout-logo-upload', on: { click: () => { if (!button.hasAttribute('aria-disabled')) file.click(); } } });
  const status = el('p', { class: 'effects-status', role: 'status', testid: 'layout-logo-status' });
  const corner = el('select', { id: 'layout-logo-corner', testid: 'layout-logo-corner', on: { change: () => change({ ...shown, corner: corner.value }) } },
    CORNERS.map((value) => el('option', { value, t: `layout.logo.corner.${value}` })));
  const size = slider('size', 'layout.logo.size', { min: 5, max: 40 }, (share) => change({ ...shown, size: share }));
  const opacity = slider('opacity', 'layout.logo.opacity', { min: 5, max: 100, step: 5 }, (share) => change({ ...shown, opacity: share }));
  const remove = el('button', { type: 'button', class: 'small', t: 'layout.logo.remove', testid: 'layout-logo-remove', on: { click: () => { choice.focus(); choose(''); } } });
  const look = el('div', { class: 'logo-look', hidden: true, testid: 'layout-logo-look' },
    el('div', { class: 'effect-param' }, el('label', { for: 'layout-logo-corner', t: 'layout.logo.corner' }), corner),
    size.element, opacity.element, remove);
  const element = el('fieldset', { class: 'layout-logo' },
    el('legend', { t: 'layout.logo' }),
    el('div', { class: 'picture-choice' }, sample,
      choice, button, file),
    status, look);

  function choose(picture) {
    change(picture ? { ...shown, picture } : null);
  }

  // As the effects drawer does it: a file becomes one of the room's pictures.
  async function upload() {
    const [chosen] = file.files;
    file.value = '';
    if (!chosen) return;
    // One that is disabled would lose the focus.
    button.setAttribute('aria-disabled', 'true');
    say(status, 'effects.picture.sending');
    try {
      const { id } = await givePicture(session.room, session.access, chosen);
      pictures = [...pictures, id];
      say(status, 'effects.picture.sent');
      choose(id);
    } catch (error) {
      status.textContent = '';
      notify(textOfError(error), 'warning');
    }
    button.removeAttribute('aria-disabled');
    show(shown);
  }

  function fill() {
    const known = !shown || pictures.includes(shown.picture);
    // A list that is open would close.
    const offers = [...pictures, known ? '' : shown.picture].join(' ');
    if (offers === offered) return;
    offered = offers;
    choice.replaceChildren(
      el('option', { value: '', t: 'layout.logo.none' }),
      ...pictures.map((id, index) => el('option', { value: id, t: ['effects.picture.own', { number: index + 1 }] })),
      ...(known ? [] : [el('option', { value: shown.picture, t: 'effects.picture.other' })]));
  }

  function show(logo) {
    shown = logo ?? null;
    fill();
    set(choice, shown?.picture ?? '');
    look.hidden = sample.hidden = !shown;
    if (!shown) return;
    const address = pictureUrl(session.room, session.access, shown.picture);
    if (sample.getAttribute('src') !== address) sample.src = address;
    set(corner, shown.corner ?? 'top-left');
    size.show(shown.size ?? 0.12);
    opacity.show(shown.opacity ?? 0.9);
  }

  listPictures(session.room, session.access).then((found) => {
    pictures = found.map(({ id }) => id);
    show(shown);
  }, (error) => notify(textOfError(error), 'warning'));

  return { element, show };
}

// What is so already is not touched: somebody may have it open.
function set(select, value) {
  if (select.value !== value) select.value = value;
}

// Of percents on the page, of shares in the layout. What is only passed while it is dragged is not told.
function slider(name, words, range, change) {
  const id = `layout-logo-${name}`;
  /** It is being dragged. */
  let held = false;
  const input = el('input', { id, testid: id, type: 'range', ...range, on: {
    input: () => { held = true; tell(); },
    change: () => { held = false; change(Number(input.value) / 100); },
    // There is no change if it was dragged to where it was.
    pointerup: release, pointercancel: release, blur: release,
  } });
  const value = el('output', { for: id });
  function release() {
    held = false;
  }
  function tell() {
    value.textContent = `${input.value} %`;
    input.setAttribute('aria-valuetext', value.textContent);
  }
  return {
    element: el('div', { class: 'effect-param' }, el('label', { for: id, t: words }), value, input),
    show(share) {
      if (held) return;
      input.value = String(Math.round(share * 100));
      tell();
    },
  };
}
