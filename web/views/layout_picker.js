// The dialog in which a moderator chooses what recordings of the room show.

import { el } from '/dom.js';
import { svgElement } from '/icons.js';
import { DRAWINGS, KINDS } from '/layout.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { openDialog } from '/views/chrome.js';
import { logoField } from '/views/logo_field.js';

// The arrow keys choose whatever they pass. What was only passed shall not be seen in the recording.
const SETTLE_MS = 350;

export function openLayoutPicker(session) {
  const kinds = KINDS.map((kind) => kindOption(kind, () => choose({ kind })));
  const custom = el('p', { class: 'muted', t: 'layout.custom', testid: 'layout-custom', hidden: true });
  const labels = el('input', {
    type: 'checkbox', id: 'layout-labels', testid: 'layout-labels', on: { change: () => send({ labels: labels.checked }) },
  });
  const clock = el('input', {
    type: 'checkbox', id: 'layout-clock', testid: 'layout-clock', on: { change: () => send({ clock: clock.checked }) },
  });
  const logo = logoField(session, (chosen) => choose({ logo: chosen }));
  const pinned = el('div', { class: 'layout-pinned', testid: 'layout-pinned' });
  let settling = null;
  // What was chosen here and is not known to be so yet. A layout is sent whole: without it, a change that
  // follows at once would take the one before back.
  let wanted = {};
  let asked = 0;

  function choose(change) {
    Object.assign(wanted, change);
    // What is on its way does not have it.
    asked++;
    refresh();
    clearTimeout(settling);
    settling = setTimeout(send, SETTLE_MS);
  }

  async function send(change = {}) {
    clearTimeout(settling);
    settling = null;
    Object.assign(wanted, change);
    refresh();
    const turn = ++asked;
    try {
      await session.changeLayout(wanted);
      if (turn === asked) wanted = {};
    } catch (error) {
      if (turn === asked) wanted = {};
      notify(textOfError(error), 'warning');
      refresh();
    }
  }

  function refresh() {
    const { participants } = session.model;
    const layout = { ...session.model.layout, ...wanted };
    for (const { input } of kinds) input.checked = input.value === layout.kind;
    custom.hidden = layout.kind !== 'custom';
    labels.checked = layout.labels;
    clock.checked = Boolean(layout.clock);
    logo.show(layout.logo);
    showPinned(participants.get(layout.pinned));
  }

  function showPinned(participant) {
    const hadFocus = pinned.contains(document.activeElement);
    pinned.replaceChildren(...(participant ? [
      el('span', { t: ['layout.pinned', { name: participant.name }] }),
      el('button', { type: 'button', class: 'small', t: 'layout.unpin', testid: 'layout-unpin', on: { click: () => send({ pinned: null }) } }),
    ] : [el('span', { class: 'muted', t: 'layout.pin-hint' })]));
    if (hadFocus) (pinned.querySelector('button') ?? labels).focus();
  }

  const changed = ({ detail }) => { if (detail.type !== 'speaking') refresh(); };
  session.addEventListener('changed', changed);
  refresh();
  const dialog = openDialog('layout', 'layout-dialog',
    el('p', { class: 'muted', id: 'layout-words', t: 'layout.words' }),
    custom,
    el('h3', { id: 'layout-kinds-name', t: 'layout.kinds' }),
    el('div', { class: 'layout-kinds', role: 'radiogroup', 'aria-labelledby': 'layout-kinds-name', 'aria-describedby': 'layout-words', testid: 'layout-kinds' },
      kinds.map(({ element }) => element)),
    el('div', { class: 'check' }, labels, el('label', { for: 'layout-labels', t: 'layout.labels' })),
    el('div', { class: 'check' }, clock, el('label', { for: 'layout-clock', t: 'layout.clock' })),
    logo.element,
    pinned);
  dialog.classList.add('wide');
  dialog.addEventListener('close', () => {
    session.removeEventListener('changed', changed);
    // Closed at once after choosing: it was meant all the same.
    if (settling !== null) send();
  });
  (dialog.querySelector('[name="layout-kind"]:checked') ?? kinds[0].input).focus();
}

function kindOption(kind, change) {
  const input = el('input', { type: 'radio', name: 'layout-kind', value: kind, testid: `layout-${kind}`, 'aria-describedby': `layout-${kind}-words`, on: { change } });
  const element = el('label', { class: 'layout-kind' }, input, drawing(kind),
    el('span', { class: 'layout-name', t: `layout.kind.${kind}` }),
    el('small', { id: `layout-${kind}-words`, t: `layout.kind.${kind}.words` }));
  return { input, element };
}

function drawing(kind) {
  const svg = svgElement('svg', { viewBox: '0 0 64 36', class: 'layout-drawing', 'aria-hidden': 'true' });
  svg.append(svgElement('rect', { width: 64, height: 36, rx: 3, class: 'canvas' }), ...DRAWINGS[kind].flatMap(tile));
  return svg;
}

// A place and what is in it: a head for a person, lines for a screen, a line and a bar for a name.
function tile([x, y, width, height, what]) {
  const place = svgElement('rect', { x, y, width, height, rx: 1.5, class: what });
  const [middle, unit] = [x + width / 2, Math.min(width, height)];
  if (what === 'screen') {
    return [place, ...[0.25, 0.4, 0.55].map((down, index) => svgElement('rect', {
      x: x + width * 0.14, y: y + height * down, width: width * (index === 2 ? 0.25 : 0.4), height: 1.6, rx: 0.8, class: 'mark-on',
    }))];
  }
  if (what === 'name') {
    return [place, ...[0.2, 0.45, 0.3, 0.15].map((tall, index) => svgElement('rect', {
      x: middle - 5 + index * 3, y: y + height / 2 - (unit * tall) / 2, width: 1.6, height: unit * tall, rx: 0.8, class: 'mark-on',
    }))];
  }
  return [place,
    svgElement('circle', { cx: middle, cy: y + height * 0.4, r: unit * 0.17, class: 'mark-on' }),
    svgElement('path', { d: `M${middle - unit * 0.32} ${y + height - 1}a${unit * 0.32} ${unit * 0.3} 0 0 1 ${unit * 0.64} 0z`, class: 'mark-on' })];
}
