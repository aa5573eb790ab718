// The panel beside the stage (a sheet from below on a phone): shows one of several views at a time, and its
// width is the person's choice.

import { el, iconButton } from '/dom.js';
import { say } from '/i18n.js';
import { recall, remember } from '/settings.js';

const LEAST_PX = 260;
const MOST_PX = 640;
const STEP_PX = 20;

/** `views`: `{ chat: view, … }`; titles are the texts `panel.chat`, …; `onChange(name or null)` when it opens or closes. */
export function panel(views, onChange) {
  let shown = null;
  let opener = null;
  const title = el('h2', { id: 'panel-title' });
  const body = el('div', { class: 'panel-body' });
  const element = el('aside', { class: 'panel', 'aria-labelledby': 'panel-title', testid: 'panel', hidden: true, on: { keydown } },
    el('header', {}, title, iconButton('close', 'close', 'panel-close', () => show(null))), body);
  const separator = widthSeparator(element);
  separator.hidden = true;

  function show(name) {
    if (shown) views[shown].closed();
    if (name && !shown) opener = document.activeElement;
    shown = name;
    element.hidden = separator.hidden = !name;
    if (name) {
      element.dataset.view = name;
      say(title, `panel.${name}`);
      body.replaceChildren(views[name].element);
      views[name].opened();
    } else {
      opener?.focus();
    }
    onChange(name);
  }

  function keydown(event) {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    show(null);
  }

  return { element, separator, toggle: (name) => show(shown === name ? null : name) };
}

// A separator that can be dragged, and moved with the arrow keys (WAI-ARIA "window splitter").
function widthSeparator(element) {
  const separator = el('div', {
    class: 'separator', role: 'separator', tabindex: '0', 'aria-orientation': 'vertical', label: 'panel.width',
    'aria-valuemin': String(LEAST_PX), 'aria-valuemax': String(MOST_PX), testid: 'panel-separator', on: { pointerdown, keydown },
  });
  let width = recall('panel-width', 340);
  setWidth(width);

  function setWidth(wanted) {
    width = Math.round(Math.min(MOST_PX, Math.max(LEAST_PX, wanted)));
    element.style.setProperty('--panel-width', `${width}px`);
    separator.setAttribute('aria-valuenow', String(width));
  }

  function pointerdown(event) {
    event.preventDefault();
    separator.setPointerCapture(event.pointerId);
    const start = { x: event.clientX, width };
    separator.onpointermove = (move) => setWidth(start.width + start.x - move.clientX);
    separator.onpointerup = separator.onpointercancel = () => {
      separator.onpointermove = null;
      remember('panel-width', width);
    };
  }

  function keydown(event) {
    const steps = { ArrowLeft: STEP_PX, ArrowRight: -STEP_PX, Home: -MOST_PX, End: MOST_PX };
    if (!(event.key in steps)) return;
    event.preventDefault();
    setWidth(width + steps[event.key]);
    remember('panel-width', width);
  }

  return separator;
}
