// The page's pure parts, without a browser: texts, the room's model, where tiles go, initials.
// Run with `node --test tests/web/`; needs nothing but Node.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const WEB = new URL('../../web/', import.meta.url);
const read = (path) => readFileSync(new URL(path, WEB), 'utf8');
// The page's modules have no package around them: as data addresses they are modules anyway.
const load = (path) => import(`data:text/javascript;base64,${Buffer.from(read(path)).toString('base64')}`);

const { fitGrid, fitStage } = await load('arrange.js');
const { recordedMs, RoomModel, tilesOf } = await load('room_model.js');
const { changes, Layers, layersOf } = await load('layers.js');
const { changedLayout, DRAWINGS, KINDS } = await load('layout.js');
const { changed, hasPlace, hasRoom, moved, same, stepOf, withDefaults, without } = await load('effect_chain.js');
const { hueOf, initialsOf } = await load('faces.js');
const texts = { en: JSON.parse(read('texts/en.json')), ko: JSON.parse(read('texts/ko.json')) };

const sources = readdirSync(WEB, { recursive: true }).filter((path) => path.endsWith('.js')).map((path) => read(path));

test('both languages have the same texts with the same blanks', () => {
  assert.deepEqual(Object.keys(texts.ko).sort(), Object.keys(texts.en).sort());
  const blanks = (text) => [...text.matchAll(/\{\w+\}/g)].map(([blank]) => blank).sort();
  for (const [key, text] of Object.entries(texts.en)) assert.deepEqual(blanks(texts.ko[key]), blanks(text), key);
});

test('every text that the code names exists', () => {
  const naming = /(?:\bt|say|label|placeholder|notify|showBanner|iconButton|worded|openDialog|line)\b[^'"`\n]{0,30}?(?:'[a-z-]+', ?)?\[?'([a-z-]+(?:\.[a-z-]+)+)'/g;
  const named = sources.flatMap((source) => [...source.matchAll(naming)].map(([, key]) => key));
  assert.ok(named.length > 60, `only ${named.length} found`);
  const exists = (key) => key in texts.en || `${key}_other` in texts.en;
  assert.deepEqual([...new Set(named)].filter((key) => !exists(key)), []);
});

test('every text is used', () => {
  const code = sources.join('\n');
  // Keys that are put together: the code holds their beginning.
  const made = /^(error|device|ended|notice|word|role|recording|theme|lobby|panel|people|tile|mic|camera|ingest|layout\.(kind|logo\.corner)|record\.mode|record\.parts)\./;
  const unused = Object.keys(texts.en).map((key) => key.replace(/_(one|other)$/, ''))
    .filter((key) => !code.includes(`'${key}'`) && !made.test(key));
  assert.deepEqual(unused, []);
});

test('no markup is ever parsed', () => {
  for (const source of sources) assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/);
});

test('tiles of a grid are equal, 16:9, inside the box and apart', () => {
  for (const [width, height] of [[1256, 648], [378, 660], [900, 200], [120, 800]]) {
    for (let count = 1; count <= 50; count++) {
      const tiles = fitGrid(count, { left: 5, top: 7, width, height }, 4);
      assert.equal(tiles.length, count);
      checkTiles(tiles, { left: 5, top: 7, width, height });
      for (const tile of tiles) {
        assert.ok(Math.abs(tile.width / tile.height - 16 / 9) < 1e-6);
        assert.ok(Math.abs(tile.width - tiles[0].width) < 1e-6);
      }
    }
  }
});

test('the grid takes the columns that make tiles largest, or nearly, for the sake of its shape', () => {
  const columns = (count, width, height) => new Set(fitGrid(count, { left: 0, top: 0, width, height }, 10)
    .slice(0, count - (count % 2)).map(({ left }) => Math.round(left))).size;
  assert.equal(columns(4, 1256, 648), 2);
  assert.equal(columns(2, 378, 660), 1);
  assert.equal(columns(2, 1256, 648), 2);
  assert.equal(columns(4, 378, 660), 1);
  // One column would make them 230 pixels wide, two make them 212.
  assert.equal(columns(4, 434, 548), 2);
});

test('a stage shows one large and the others beside or below', () => {
  for (const box of [{ left: 0, top: 0, width: 1256, height: 648 }, { left: 0, top: 0, width: 378, height: 660 }]) {
    for (let count = 1; count <= 20; count++) {
      const tiles = fitStage(count, count - 1, box, 10);
      checkTiles(tiles, box);
      const area = ({ width, height }) => width * height;
      assert.ok(tiles.slice(0, -1).every((tile) => area(tile) < area(tiles[count - 1]) / 2));
    }
  }
});

function checkTiles(tiles, { left, top, width, height }) {
  for (const [index, one] of tiles.entries()) {
    assert.ok(one.width > 0 && one.height > 0);
    assert.ok(one.left >= left - 1e-6 && one.left + one.width <= left + width + 1e-6);
    assert.ok(one.top >= top - 1e-6 && one.top + one.height <= top + height + 1e-6);
    for (const other of tiles.slice(index + 1)) {
      const apart = one.left + one.width <= other.left || other.left + other.width <= one.left
        || one.top + one.height <= other.top || other.top + other.height <= one.top;
      assert.ok(apart, 'tiles overlap');
    }
  }
}

const track = (id, connection, kind, source, muted = false) => ({ id, connection, kind, source, codec: kind === 'audio' ? 'opus' : 'VP8', muted });
const person = (id, tracks = [], role = 'publisher') => ({ id, name: id, role, joined_at: '2026-01-01T00:00:00Z', connected: true, tracks });

function model(...participants) {
  const room = new RoomModel();
  room.reset({ name: 'r', has_pin: false, participants, recordings: [], layout: { kind: 'grid', labels: true } }, 'me');
  return room;
}

const shape = (room) => tilesOf(room).map(({ key, source, tracks }) => [key, source, tracks.map(({ id }) => id).join()]);

test('everybody who may publish has a tile; oneself comes last', () => {
  const room = model(person('me'), person('ada'), person('viewer', [], 'viewer'));
  assert.deepEqual(shape(room), [['ada/camera', 'camera', ''], ['me/camera', 'camera', '']]);
});

test('it is known whether the mix goes out to another service', () => {
  const room = model(person('me'));
  assert.equal(room.isSentOn, false);
  const tell = (id, state) => room.apply({ type: 'output', output: { id, kind: 'rtmp', state } });
  tell('a', 'connecting');
  assert.equal(room.isSentOn, false);
  tell('b', 'live');
  tell('a', 'waiting');
  assert.equal(room.isSentOn, true);
  room.apply({ type: 'output-removed', output: 'b' });
  assert.equal(room.isSentOn, false);
});

test('a screen has a tile of its own, with its own sound', () => {
  const room = model(person('me'), person('ada', [
    track('m', 'main', 'audio', 'microphone'), track('c', 'main', 'video', 'camera'),
    track('s', 'screen', 'video', 'screen'), track('sa', 'screen', 'audio', 'screen'),
  ]));
  assert.deepEqual(shape(room).slice(0, 2), [['ada/camera', 'camera', 'm,c'], ['ada/screen', 'screen', 's,sa']]);
});

test('sound without a picture is heard from the camera tile, a second camera has its own', () => {
  const room = model(person('me'), person('ada', [
    track('m', 'voice', 'audio', 'microphone'), track('c', 'main', 'video', 'camera'), track('d', 'desk', 'video', 'camera'),
  ]));
  assert.deepEqual(shape(room).slice(0, 2), [['ada/camera', 'camera', 'c,m'], ['ada/desk', 'camera', 'd']]);
});

test('events change the model', () => {
  const room = model(person('me', [], 'moderator'));
  assert.equal(room.apply({ type: 'participant-joined', participant: person('ada') }), true);
  room.apply({ type: 'track-published', participant: 'ada', track: track('m', 'main', 'audio', 'microphone') });
  room.apply({ type: 'track-updated', participant: 'ada', track: track('m', 'main', 'audio', 'microphone', true) });
  assert.deepEqual(room.findTrack('m').track.muted, true);
  room.apply({ type: 'speaking', levels: [{ participant: 'ada', level_db: -20, speaking: true }, { participant: 'gone', speaking: true }] });
  assert.deepEqual([...room.speaking], ['ada']);
  room.apply({ type: 'track-unpublished', participant: 'ada', track: 'm' });
  assert.equal(room.findTrack('m'), null);
  room.apply({ type: 'recording', recording: { id: 'x', state: 'recording' } });
  assert.equal(room.liveRecording.id, 'x');
  room.apply({ type: 'recording', recording: { id: 'x', state: 'finalising' } });
  assert.equal(room.liveRecording, null);
  room.apply({ type: 'participant-left', participant: 'ada', reason: 'left' });
  assert.deepEqual([room.others.length, room.speaking.size], [0, 0]);
  assert.equal(room.apply({ type: 'something-newer' }), false);
});

test('the layout is known from the join on, and follows the room', () => {
  const room = model(person('me', [], 'moderator'));
  assert.deepEqual(room.layout, { kind: 'grid', labels: true });
  assert.equal(room.apply({ type: 'layout', layout: { kind: 'pip', labels: false } }), true);
  assert.deepEqual(room.layout, { kind: 'pip', labels: false });
});

test('the time of a recording leaves its pauses out, and stands in one', () => {
  const time = (changes) => recordedMs({ started_at: '2026-01-01T00:00:00Z', paused_ms: 0, ...changes }, Date.parse('2026-01-01T00:01:00Z'));
  assert.equal(time({}), 60_000);
  assert.equal(time({ paused_ms: 20_000 }), 40_000);
  assert.equal(time({ paused_ms: 5_000, paused_at: '2026-01-01T00:00:30Z' }), 25_000);
  assert.equal(time({ started_at: '2026-01-01T00:01:30Z' }), 0);
});

test('a change of the layout keeps the rest of it, but no regions without `custom`', () => {
  const custom = { kind: 'custom', labels: false, title: 'A', regions: [{ x: 0, y: 0, width: 1, height: 1, show: 'next' }] };
  assert.deepEqual(changedLayout(custom, { pinned: 'p' }), { ...custom, pinned: 'p' });
  assert.deepEqual(changedLayout({ ...custom, pinned: 'p' }, { pinned: null }), custom);
  const logo = { picture: 'pic_1', corner: 'top-right', size: 0.2, opacity: 1 };
  assert.deepEqual(changedLayout({ ...custom, logo }, { labels: true }), { ...custom, labels: true, logo });
  assert.deepEqual(changedLayout({ ...custom, logo }, { logo: null }), custom);
  assert.deepEqual(changedLayout(custom, { kind: 'grid' }), { kind: 'grid', labels: false, title: 'A' });
});

test('the drawings of layouts stay on their canvas', () => {
  assert.deepEqual(Object.keys(DRAWINGS), KINDS);
  for (const [x, y, width, height] of Object.values(DRAWINGS).flat()) {
    assert.ok(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= 64 && y + height <= 36);
  }
});

test('chains of effects are changed in one place, and compared by what they ask for', () => {
  const number = (name, min, max, value, step) => ({ name, range: { type: 'number', min, max, default: value, ...(step && { step }) } });
  const text = { name: 'text', kind: 'video', parameters: [number('x', 0, 1, 0.5), number('y', 0, 1, 0.9)] };
  const echo = { name: 'echo', kind: 'audio', parameters: [number('delay', 10, 1000, 300, 1)] };
  const chain = [withDefaults(text), withDefaults(echo), { name: 'blur', params: {} }];
  assert.deepEqual(chain[0], { name: 'text', params: { x: 0.5, y: 0.9 } });
  assert.deepEqual(moved(chain, 0, 2).map(({ name }) => name), ['echo', 'blur', 'text']);
  assert.deepEqual(moved(chain, 2, -1).map(({ name }) => name), ['blur', 'text', 'echo']);
  assert.deepEqual(without(chain, 1).map(({ name }) => name), ['text', 'blur']);
  assert.deepEqual(changed(chain, 0, { x: 0 })[0].params, { x: 0, y: 0.9 });
  assert.deepEqual(chain[0].params, { x: 0.5, y: 0.9 }, 'the old chain stays as it was');
  assert.equal(same(chain, chain.map((one, key) => ({ ...one, key, params: Object.fromEntries(Object.entries(one.params).reverse()) }))), true);
  assert.equal(same(chain, moved(chain, 0, 1)), false);
  assert.equal(hasRoom(Array(8).fill(chain[1]), 'audio', [text, echo]), false);
  assert.equal(hasRoom(Array(8).fill(chain[1]), 'video', [text, echo]), true);
  assert.deepEqual([hasPlace(text), hasPlace(echo)], [true, false]);
  assert.deepEqual([stepOf(echo.parameters[0].range), stepOf({ min: 0, max: 1 }), stepOf({ min: 2, max: 40 })], [1, 0.01, 0.1]);
});

test('initials suit names of many kinds', () => {
  const cases = { 'Ada Lovelace': 'AL', ada: 'A', 김철수: '철수', '이 영희': '이영', '나영 Park': '나영', 'Noor & <b>bold': 'NB', '   ': '?', '👩‍👩‍👧 family': '👩‍👩‍👧F' };
  for (const [name, initials] of Object.entries(cases)) assert.equal(initialsOf(name), initials, name);
});

test('a colour stays, and is a hue', () => {
  assert.equal(hueOf('p_abc'), hueOf('p_abc'));
  for (let n = 0; n < 100; n++) {
    const hue = hueOf(`p_${n}`);
    assert.ok(Number.isInteger(hue) && hue >= 0 && hue < 360);
  }
});

test('a camera sends halves of its picture, three layers at most', () => {
  const scales = (height) => layersOf(height, 1_500_000).map(({ rid, scaleResolutionDownBy }) => [rid, scaleResolutionDownBy]);
  assert.deepEqual(scales(1080), [['l', 4], ['m', 2], ['h', 1]]);
  assert.deepEqual(scales(480), [['m', 2], ['h', 1]]);
  assert.deepEqual(layersOf(240, 900), [{ maxBitrate: 900 }]);
  const rates = layersOf(720, 1_600_000).map(({ maxBitrate }) => maxBitrate);
  assert.equal(rates[2], 1_600_000);
  assert.ok(rates[0] < rates[1] && rates[1] < rates[2], `${rates}`);
});

test('a tile asks for a layer when it is new, another size or on another connection', () => {
  const received = {};
  const before = { id: 'a', received, height: 200 };
  assert.equal(changes(undefined, before), true);
  assert.equal(changes(before, { ...before, height: 215 }), false);
  assert.equal(changes(before, { ...before, height: 230 }), true);
  assert.equal(changes(before, { ...before, received: {} }), true);
});

test('a layer that is refused holds no other up', async () => {
  const asked = [];
  await new Promise((done) => {
    const layers = new Layers(async ({ track }) => {
      asked.push(track);
      if (asked.length === 2) { layers.close(); done(); }
      if (track === 'gone') throw new Error('no such track');
    });
    layers.show(['gone', 'there'].map((id) => ({ id, received: {}, height: 200 })));
  });
  assert.deepEqual(asked, ['gone', 'there']);
});

test('a picture of somebody who left is not paused when it comes back', () => {
  const model = new RoomModel();
  const ann = { id: 'p_ann', tracks: [{ id: 't_cam', kind: 'video' }] };
  model.reset({ name: 'r', participants: [ann], recordings: [] }, 'p_me');
  model.apply({ type: 'track-paused', track: 't_cam', paused: true });
  assert.ok(model.pausedTracks.has('t_cam'));
  model.apply({ type: 'participant-left', participant: 'p_ann' });
  assert.equal(model.pausedTracks.size, 0);
});
