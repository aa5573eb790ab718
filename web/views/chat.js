// The chat: what people wrote, and who came and went, in the order in which the room saw it.

import { el, iconButton } from '/dom.js';
import { currentLanguage } from '/i18n.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';

const MOST_LINES = 500;
const MOST_CHARACTERS = 4_000;
const LINK = /https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]]/g;

/** `onUnread(count)` is told how many messages came while the panel was closed. */
export function chatView(session, onUnread) {
  let open = false;
  let unread = 0;
  const log = el('div', { class: 'chat-log', role: 'log', 'aria-live': 'polite', label: 'chat.log', testid: 'chat-log', tabindex: '0' });
  log.removeAttribute('title');
  const empty = el('p', { class: 'empty', t: 'chat.empty' });
  const input = el('textarea', {
    rows: '1', maxlength: String(MOST_CHARACTERS), placeholder: 'chat.write', 'aria-labelledby': 'panel-title',
    testid: 'chat-input', on: { keydown, input: grow },
  });
  const form = el('form', { class: 'chat-form', on: { submit } }, input,
    iconButton('send', 'chat.send', 'chat-send', null, { type: 'submit', class: 'icon-button primary' }));
  const element = el('div', { class: 'chat' }, el('div', { class: 'chat-scroll' }, empty, log), form);
  const scroll = element.firstElementChild;

  session.addEventListener('chat', ({ detail }) => message(detail));
  session.addEventListener('changed', ({ detail }) => {
    if (detail.type === 'participant-joined') line('chat.joined', detail.participant.name);
    if (detail.type === 'participant-left' && detail.before) line('chat.left', detail.before.name);
  });

  function message({ from, name, data, time }) {
    const text = typeof data === 'string' ? data : data?.text;
    if (typeof text !== 'string' || !text.trim()) return;
    const own = from === session.model.selfId;
    const at = new Date(time);
    const clock = at.toLocaleTimeString(currentLanguage(), { hour: '2-digit', minute: '2-digit' });
    add(el('article', { class: `message${own ? ' own' : ''}`, testid: 'chat-message' },
      el('header', {}, el('strong', {}, name), el('time', { datetime: time }, clock)), withLinks(text)), own);
    if (!own && !open) onUnread(++unread);
  }

  function line(key, name) {
    add(el('p', { class: 'event', t: [key, { name }], testid: 'chat-event' }), false);
  }

  // Scrolls down for new lines, unless the person has scrolled up to read.
  function add(child, always) {
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    empty.remove();
    log.append(child);
    if (log.children.length > MOST_LINES) log.firstElementChild.remove();
    if (atEnd || always) scroll.scrollTop = scroll.scrollHeight;
  }

  async function submit(event) {
    event?.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    input.value = '';
    grow();
    try {
      await session.chat(text);
    } catch (error) {
      // Give back what was not said.
      if (!input.value) input.value = text;
      notify(textOfError(error), 'warning');
    }
  }

  // `isComposing`: Enter that ends a Hangul syllable is no wish to send.
  function keydown(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  }

  function grow() {
    input.style.height = 'auto';
    input.style.height = `${Math.min(input.scrollHeight, 140)}px`;
  }

  return {
    element,
    opened() {
      open = true;
      unread = 0;
      onUnread(0);
      scroll.scrollTop = scroll.scrollHeight;
      input.focus();
    },
    closed() { open = false; },
  };
}

function withLinks(text) {
  const paragraph = el('p', {});
  let end = 0;
  for (const { 0: address, index } of text.matchAll(LINK)) {
    paragraph.append(text.slice(end, index), el('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address));
    end = index + address.length;
  }
  paragraph.append(text.slice(end));
  return paragraph;
}
