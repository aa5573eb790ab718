// The dialog in which a moderator sends the mix to other services, sees how that goes, and ends it.

import { el, iconButton, refill } from '/dom.js';
import { say } from '/i18n.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { addOutput, listOutputs, removeOutput } from '/outputs_api.js';
import { openDialog } from '/views/chrome.js';

const STATES = { connecting: 'outputs.connecting', live: 'outputs.live', waiting: 'outputs.waiting' };
const REASONS = {
  unreachable: 'outputs.reason.unreachable',
  unresolved: 'outputs.reason.unresolved',
  refused: 'outputs.reason.refused',
  tls: 'outputs.reason.tls',
  lost: 'outputs.reason.lost',
  stalled: 'outputs.reason.stalled',
  mix_unavailable: 'outputs.reason.mix_unavailable',
  media: 'outputs.reason.media',
};

export function openOutputs(session) {
  const list = el('ul', { class: 'camera-list', testid: 'output-list' });
  const empty = el('p', { class: 'muted', t: 'outputs.empty', testid: 'outputs-empty', hidden: true });
  let asked = 0;

  // Answers may overtake each other: the last question counts.
  async function load() {
    const turn = ++asked;
    try {
      const outputs = await listOutputs(session.room, session.access);
      if (turn !== asked) return;
      refill(list, outputs.map((output) => row(session, output, load)), 'data-output');
      empty.hidden = outputs.length > 0;
    } catch (error) {
      notify(textOfError(error), 'warning');
    }
  }

  const changed = ({ detail }) => {
    if (['output', 'output-removed'].includes(detail.type)) load();
  };
  session.addEventListener('changed', changed);
  const dialog = openDialog('outputs', 'outputs-dialog', el('p', { class: 'muted', t: 'outputs.words' }), list, empty, addForm(session, load));
  dialog.classList.add('wide');
  dialog.addEventListener('close', () => session.removeEventListener('changed', changed));
  load();
}

function row(session, { id, uri, state, reason, detail, reconnects }, done) {
  // The server's own sentence is for its log's readers: it is shown where we have no word for it.
  const why = REASONS[reason] ? el('small', { t: REASONS[reason], testid: 'output-reason' }) : detail && el('small', {}, detail);
  return el('li', { testid: 'output-row', 'data-output': id, 'data-state': state },
    el('span', { class: 'camera-words' },
      el('span', {}, uri),
      el('small', { t: STATES[state], testid: 'output-state' }),
      why,
      reconnects ? el('small', { class: 'muted', t: ['outputs.reconnects', { reconnects }] }) : null),
    iconButton('stop', ['outputs.remove', { uri }], 'output-remove', remove, { class: 'icon-button danger' }));

  async function remove() {
    try {
      await removeOutput(session.room, session.access, id);
    } catch (error) {
      notify(textOfError(error), 'warning');
    }
    done();
  }
}

function addForm(session, done) {
  const uri = el('input', {
    id: 'output-uri', required: true, maxlength: '2048', inputmode: 'url', spellcheck: 'false', autocomplete: 'off',
    pattern: '\\s*(rtmps?|srt)://.+', testid: 'output-uri', on: { input: check },
  });
  uri.placeholder = 'rtmp://live.example.com/app/key';
  // Of a receiver that signed its own certificate; only TLS has one.
  const fingerprint = el('input', {
    id: 'output-fingerprint', maxlength: '128', spellcheck: 'false', autocomplete: 'off',
    pattern: '\\s*([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}\\s*', testid: 'output-fingerprint', on: { input: check },
  });
  const fingerprintRow = el('div', { class: 'camera-form', hidden: true },
    el('label', { for: 'output-fingerprint', t: 'outputs.fingerprint' }), fingerprint);
  const problem = el('p', { class: 'form-error', role: 'alert', testid: 'output-error', hidden: true });
  const add = el('button', { type: 'submit', class: 'primary', t: 'outputs.add', testid: 'output-add' });
  // It says itself what is wrong, in the page's language.
  const form = el('form', { class: 'camera-form', novalidate: true, on: { submit } },
    el('label', { for: 'output-uri', t: 'outputs.uri' }), uri, fingerprintRow, problem, el('div', { class: 'buttons' }, add));

  function check() {
    problem.hidden = true;
    fingerprintRow.hidden = !isTls();
  }

  function isTls() {
    return /^\s*rtmps:/i.test(uri.value);
  }

  function refuse(words, field = uri) {
    say(problem, ...words);
    problem.hidden = false;
    field.focus();
  }

  async function submit(event) {
    event.preventDefault();
    check();
    if (!uri.checkValidity()) return refuse(['outputs.bad-uri']);
    if (isTls() && !fingerprint.checkValidity()) return refuse(['outputs.bad-fingerprint'], fingerprint);
    add.disabled = true;
    try {
      await addOutput(session.room, session.access, uri.value.trim(), isTls() ? fingerprint.value.trim() : '');
      form.reset();
      check();
      uri.focus();
    } catch (error) {
      refuse(textOfError(error));
    } finally {
      add.disabled = false;
    }
    done();
  }

  return form;
}
