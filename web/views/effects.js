// The effects drawer: what is put on oneself, on somebody, or on the whole room, changed while it runs.

import { changed, hasPlace, hasRoom, moved, same, withDefaults, without } from '/effect_chain.js';
import { givePicture, listCosts, listEffects, listPictures, pictureUrl, previewEffect } from '/effects_api.js';
import { el } from '/dom.js';
import { say } from '/i18n.js';
import { textOfError } from '/messages.js';
import { notify } from '/notices.js';
import { trackOf } from '/room_model.js';
import { effectCard, isForPeople } from '/views/effect_card.js';
import { effectGallery, wordsOf } from '/views/effect_gallery.js';
import { livePictures } from '/views/effect_live.js';
import { effectPreview } from '/views/effect_preview.js';

// A slider says more in a second than anybody sees; this many milliseconds lie between two changes.
const LEAST_BETWEEN_MS = 80;
// What effects take of a processor is a mean over many pictures, and changes slowly.
const COSTS_EVERY_MS = 2_000;
/** What a picture becomes that is dropped anywhere. */
const OVERLAY = 'image-overlay';

export function effectsView(session) {
  let catalogue = null;
  let unavailable = [];
  /** Ids of the room's own pictures. */
  let pictures = [];
  let isOpen = false;
  let of = session.model.selfId;
  /** `[{ key, name, params }]`; the key is of this page, so that cards keep their focus. */
  let chain = [];
  let cards = [];
  /** As they were measured last. */
  let costs = [];
  let active = null;
  let lastKey = 0;
  let measuring = null;
  const pushing = pusher((whom, effects) => session.setEffects(whom, effects), failed, () => refresh());
  const push = () => pushing.push(of, chain.map(({ name, params }) => ({ name, params })));

  const whose = el('select', { id: 'effects-of', testid: 'effects-of', on: { change: () => choose(whose.value) } });
  const scope = el('div', { class: 'effects-scope' }, el('label', { for: 'effects-of', t: 'effects.of' }), whose);
  const clean = el('input', { id: 'effects-clean', type: 'checkbox', testid: 'effects-clean', on: { change: () => showClean(clean.checked) } });
  const cleanName = el('label', { for: 'effects-clean' });
  const cleanRow = el('div', { class: 'effects-clean', hidden: true }, clean, cleanName);
  const preview = effectPreview(session, (x, y) => active !== null && setParams(active, { x, y }));
  const status = el('p', { class: 'effects-status', role: 'status', testid: 'effects-status' });
  const list = el('ol', { class: 'effect-chain', testid: 'effect-chain', label: 'effects.chain' });
  list.removeAttribute('title');
  const empty = el('p', { class: 'empty', t: 'effects.empty', testid: 'effects-empty' });
  const problem = el('div', { class: 'effects-problem', hidden: true, testid: 'effects-problem' },
    el('p', { t: 'effects.failed-to-load' }), el('button', { type: 'button', class: 'small', t: 'effects.try-again', testid: 'effects-try-again', on: { click: load } }));
  const live = livePictures(async (name) => {
    const track = preview.track();
    return track && previewEffect(session.room, session.access, track, name);
  });
  const gallery = effectGallery((effect) => add(effect), live);
  const element = el('div', { class: 'effects', on: { dragover, drop } }, scope, preview.element, cleanRow, status, problem, list, empty, gallery.element);

  async function load() {
    problem.hidden = true;
    try {
      ({ effects: catalogue, unavailable } = await listEffects(session.access));
      pictures = (await listPictures(session.room, session.access)).map(({ id }) => id);
    } catch {
      problem.hidden = false;
    }
    refresh(true);
  }

  // Another person may have given some since the drawer was opened last.
  async function loadPictures() {
    pictures = (await listPictures(session.room, session.access).catch(() => pictures.map((id) => ({ id })))).map(({ id }) => id);
    if (isOpen) render();
  }

  /** Gives a file to the room; the id of the picture it became, or null. */
  async function give(file) {
    say(status, 'effects.picture.sending');
    try {
      const { id } = await givePicture(session.room, session.access, file);
      pictures = [...pictures, id];
      say(status, 'effects.picture.sent');
      return id;
    } catch (error) {
      status.textContent = '';
      notify(textOfError(error), 'warning');
      return null;
    }
  }

  async function showClean(wanted) {
    await session.subscriptions.showClean(of, wanted).catch((error) => notify(textOfError(error), 'warning'));
    refresh();
  }

  function dragover(event) {
    if ([...event.dataTransfer.items].some(({ kind }) => kind === 'file')) event.preventDefault();
  }

  // Into the picture of the effect that it is dropped on, or as an overlay of its own.
  async function drop(event) {
    const file = [...event.dataTransfer.files][0];
    if (!file) return;
    event.preventDefault();
    const key = Number(event.target.closest('[data-key]')?.dataset.key);
    const id = await give(file);
    if (!id) return;
    const index = chain.findIndex((one) => one.key === key);
    const parameter = index < 0 ? null : effectOf(chain[index].name)?.parameters.find(({ range }) => range.type === 'picture');
    if (parameter) {
      chain = changed(chain, index, { [parameter.name]: id });
      change();
    } else if (effectOf(OVERLAY)) {
      add(effectOf(OVERLAY), { picture: id });
    }
  }

  function choose(next) {
    of = next;
    active = null;
    [chain, costs] = [[], []];
    say(status, 'effects.of.changed', { whose: whose.selectedOptions[0]?.textContent ?? '' });
    refresh(true);
  }

  function add(effect, values = {}) {
    const key = ++lastKey;
    const { name, params } = withDefaults(effect);
    chain = [...chain, { key, name, params: { ...params, ...values } }];
    say(status, 'effects.added', { name: wordsOf(effect.title) });
    active = chain.length - 1;
    change();
    gallery.fold();
    cards.at(-1)?.focus();
  }

  function move(from, to) {
    if (to < 0 || to >= chain.length || from === to) return;
    const { key, name } = chain[from];
    chain = moved(chain, from, to);
    active = to;
    say(status, 'effects.moved', { name: titleOf(name), place: to + 1, count: chain.length });
    change();
    cards.find((card) => card.key === key)?.focusMove(from < to ? 'down' : 'up');
  }

  function remove(index) {
    say(status, 'effects.removed', { name: titleOf(chain[index].name) });
    chain = without(chain, index);
    active = null;
    change();
    (cards[Math.min(index, cards.length - 1)] ?? gallery).focus();
  }

  function setParams(index, values) {
    if (!chain[index]) return;
    chain = changed(chain, index, values);
    cards[index]?.show(chain[index].params);
    showMarker();
    push();
  }

  function change() {
    render();
    push();
  }

  function failed(error) {
    notify(textOfError(error), 'warning');
    chain = [];
    refresh(true);
  }

  /** What the server has, while nothing of ours is on its way. */
  function follow() {
    const { model } = session;
    const theirs = model.effectsOf(of);
    if (pushing.isBusy(of) || same(theirs, chain)) return false;
    const isSameRow = theirs.length === chain.length && theirs.every(({ name }, index) => name === chain[index].name);
    chain = theirs.map((one, index) => ({ ...one, key: isSameRow ? chain[index].key : ++lastKey }));
    if (!isSameRow) active = null;
    return !isSameRow || (cards.forEach((card, index) => card.show(chain[index].params)), false);
  }

  function refresh(whole = false) {
    if (!isOpen) return;
    const isAnother = showScope();
    preview.show(of);
    // Before cards are made anew: they begin with the pictures that there are, and those are of somebody.
    live.show(preview.track()?.track ?? null);
    if (follow() || isAnother || whole) render();
    showMarker();
  }

  async function measure() {
    if (!chain.length || document.hidden) return;
    const [whom, track] = [of, trackOf(of)];
    const participant = track ? session.model.findTrack(track)?.participant.id : whom === 'mix' ? null : whom;
    if (track && !participant) return;
    const measured = await listCosts(session.room, session.access, { participant, track }).catch(() => []);
    if (!isOpen || whom !== of) return;
    costs = measured;
    showCosts();
  }

  function showCosts() {
    const left = [...costs];
    for (const [index, { name }] of chain.entries()) {
      const place = left.findIndex((cost) => cost.name === name);
      cards[index].showCost(place < 0 ? null : left.splice(place, 1)[0]);
    }
  }

  // Whoever else may be chosen: everybody for a moderator, cameras too; and screens, while they are shared. True if
  // what was chosen is there no more.
  function showScope() {
    const { model } = session;
    const others = model.isModerator ? model.others.filter(({ role }) => role !== 'viewer') : [];
    const screensOf = (participant, words) => (participant?.tracks ?? [])
      .filter(({ kind, source }) => kind === 'video' && source === 'screen').map(({ id }) => [`track:${id}`, words]);
    const options = [
      [model.selfId, ['effects.of.me']], ...screensOf(model.self, ['effects.of.my-screen']),
      ...(model.isModerator ? [['mix', ['effects.of.room']]] : []),
      ...others.flatMap((one) => [[one.id, ['effects.of.other', { name: one.name }]], ...screensOf(one, ['effects.of.screen', { name: one.name }])]),
    ];
    const isGone = !options.some(([id]) => id === of);
    if (isGone) {
      of = model.selfId;
      chain = [];
    }
    const shown = JSON.stringify(options);
    if (whose.dataset.options !== shown) {
      whose.dataset.options = shown;
      whose.replaceChildren(...options.map(([value, text]) => el('option', { value, t: text })));
    }
    whose.value = of;
    const other = others.find(({ id }) => id === of);
    cleanRow.hidden = !other;
    if (other) {
      say(cleanName, 'effects.clean', { name: other.name });
      clean.checked = session.subscriptions.isClean(of);
    }
    return isGone;
  }

  function render() {
    const known = (catalogue ?? []).filter((effect) => isForPeople(effect) && (!trackOf(of) || effect.kind === 'video'));
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    const [focusedKey, focusedId] = [Number(focused?.closest('[data-key]')?.dataset.key), focused?.dataset.testid];
    cards = chain.map((one, index) => effectCard(one, effectOf(one.name), { index, count: chain.length }, {
      setParams: (values) => setParams(index, values),
      move: (to) => move(index, to),
      remove: () => remove(index),
      touched: () => { active = index; showMarker(); },
      give,
      pictures: () => pictures,
      pictureUrl: (id) => pictureUrl(session.room, session.access, id),
    }));
    list.replaceChildren(...cards.map((card) => card.element));
    if (focused) list.querySelector(`[data-key="${focusedKey}"] [data-testid="${focusedId}"]`)?.focus();
    showCosts();
    list.hidden = !chain.length;
    empty.hidden = Boolean(chain.length) || !catalogue;
    gallery.element.hidden = !catalogue;
    gallery.show(known, unavailable, (kind) => hasRoom(chain, kind, known), !chain.length);
    showMarker();
  }

  function showMarker() {
    if (active === null || !chain[active] || !hasPlace(effectOf(chain[active].name) ?? { parameters: [] })) {
      active = chain.findIndex(({ name }) => hasPlace(effectOf(name) ?? { parameters: [] }));
      if (active < 0) active = null;
    }
    preview.mark(active === null ? null : chain[active].params);
  }

  const effectOf = (name) => catalogue?.find((effect) => effect.name === name);
  const titleOf = (name) => { const effect = effectOf(name); return effect ? wordsOf(effect.title) : name; };

  session.addEventListener('changed', ({ detail }) => { if (detail.type !== 'speaking') refresh(); });
  session.addEventListener('track', () => refresh());
  const speak = () => { if (isOpen) render(); };
  addEventListener('languagechanged', speak);
  return {
    element,
    opened() {
      isOpen = true;
      measuring ??= setInterval(measure, COSTS_EVERY_MS);
      if (!catalogue) return void load();
      refresh(true);
      loadPictures();
    },
    closed() {
      isOpen = false;
      clearInterval(measuring);
      measuring = null;
      preview.show(null);
      live.show(null);
    },
    close() {
      clearInterval(measuring);
      live.show(null);
      removeEventListener('languagechanged', speak);
    },
  };
}

// Sends each target's newest chain and nothing in between: one change on its way at a time.
function pusher(send, failed, done) {
  const waiting = new Map();
  let busy = false;
  let sending = null;

  async function push(of, effects) {
    waiting.set(of, effects);
    if (busy) return;
    busy = true;
    const errors = [];
    while (waiting.size) {
      const [[whom, newest]] = waiting;
      waiting.delete(whom);
      sending = whom;
      const pause = new Promise((resolve) => { setTimeout(resolve, LEAST_BETWEEN_MS); });
      await send(whom, newest).catch((error) => errors.push(error));
      await pause;
    }
    busy = false;
    sending = null;
    errors.forEach(failed);
    done();
  }

  return { push, isBusy: (of) => sending === of || waiting.has(of) };
}
