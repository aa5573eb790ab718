// A camera that sends layers (simulcast): everybody has one of them, the largest that comes.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { openApp } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, hears, lasts, movesOn, sees } from './call.mjs';
import { frames, near, probe } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

// Chromium makes no more than two of so small a picture.
const LAYERS = [{ rid: 'h', scaleResolutionDownBy: 2 }, { rid: 'f', scaleResolutionDownBy: 1 }];
const SIZE = { width: 640, height: 360, fps: 20 };
const MODE = 'L2T3_KEY';
const MOST_FREEZES = 2;
const MOST_STILL_S = 2.5;

for (const codec of ['VP8', 'H264']) {
    test(`a viewer has the largest layer that comes, in ${codec}`, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
        await ann.join('layers', 'Ann');
        await bob.join('layers', 'Bob');
        await appear(ann, ANN, { ...SIZE, codec, layers: layersOf(codec) });
        await bob.subscribeAll();
        await seesWidth(bob, ann, 640);
        await hears(bob, ann, ANN);
        const { participants } = await server.api('GET', '/api/rooms/layers');
        assert.deepEqual(participants.find(({ id }) => id === ann.id).edges.publishes, ['fanout']);

        await bob.request('subscribe', { mix: true });
        const mix = { id: 'mix', name: 'the mix' };
        await sees(bob, mix, ANN);

        // The largest rests: the next one is shown, and the largest again when it comes back.
        await ann.setLayer('main', 'f', false);
        await seesWidth(bob, ann, 320);
        await goesOn(bob, mix, ann);
        await ann.setLayer('main', 'f', true);
        await seesWidth(bob, ann, 640);
        await movesOn(bob, ann);
        await goesOn(bob, mix, ann);
        await checkFreezes(t, bob, ann);
    });
}

for (const codec of ['VP8', 'H264', 'VP9', 'AV1']) {
    test(`a viewer has the layer that he asks for, in ${codec}, and others theirs`, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const [ann, bob, cleo] = await Promise.all([0, 1, 2].map(() => enter(browser, server)));
        await ann.join('layers', 'Ann');
        await Promise.all([bob.join('layers', 'Bob'), cleo.join('layers', 'Cleo')]);
        await appear(ann, ANN, { ...SIZE, codec, layers: layersOf(codec) });
        await Promise.all([bob.subscribeAll(), cleo.subscribeAll()]);
        await Promise.all([seesWidth(bob, ann, 640), seesWidth(cleo, ann, 640)]);
        const { participants } = await server.api('GET', '/api/rooms/layers');
        const { tracks } = participants.find(({ id }) => id === ann.id);
        const { id: track, layers } = tracks.find(({ kind }) => kind === 'video');
        assert.deepEqual(layers, ['h', 'f']);

        // By name, as a tile is high, and whichever is largest.
        for (const [wanted, width] of [[{ rid: 'h' }, 320], [{ rid: 'f' }, 640], [{ height: 180 }, 320], [{}, 640]]) {
            await bob.request('layer', { track, ...wanted });
            await seesWidth(bob, ann, width);
            await movesOn(bob, ann, { frames: 10 });
        }
        assert.equal((await cleo.look(ann)).width, 640);
        await assert.rejects(bob.request('layer', { track, rid: 'x' }), /no_such_layer/);
        await Promise.all([bob, cleo].map((viewer) => checkFreezes(t, viewer, ann)));
        assert.deepEqual([...(await bob.events('client-error')), ...(await cleo.events('client-error'))], []);
    });
}

test('layers within one stream (SVC) are seen whole, in AV1', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob, cleo] = await Promise.all([0, 1, 2].map(() => enter(browser, server)));
    await ann.join('svc', 'Ann');
    await Promise.all([bob.join('svc', 'Bob'), cleo.join('svc', 'Cleo')]);
    await appear(ann, ANN, { ...SIZE, fps: 10, codec: 'AV1', layers: [{ scalabilityMode: MODE }] });
    await bob.subscribeAll();
    await seesWidth(bob, ann, 640);
    await movesOn(bob, ann, { frames: 10 });
    const sent = await ann.report({ connection: 'main' }, 'outbound-rtp', 'video');
    assert.equal(sent.scalabilityMode, MODE);
    // Whoever comes in the middle, and GStreamer's decoders.
    await cleo.subscribeAll();
    await seesWidth(cleo, ann, 640);
    await bob.request('subscribe', { mix: true });
    await sees(bob, { id: 'mix', name: 'the mix' }, ANN);
    await Promise.all([bob, cleo].map((viewer) => movesOn(viewer, ann, { frames: 10 })));
    await checkFreezes(t, bob, ann);
    // As it came, in a file of its own.
    const own = await recorded(t, server, ann);
    assert.ok(own.length > 10, `${own.length} frames`);
    for (const frame of own) assert.ok(near(frame.at(0.9, 0.9), ANN.colour), `${frame.time}: ${frame.at(0.9, 0.9)}`);
    assert.deepEqual([...(await bob.events('client-error')), ...(await cleo.events('client-error'))], []);
});

test('a mix decodes the layer that fits the tile', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('tiles', 'Ann');
    await bob.join('tiles', 'Bob');
    await appear(ann, ANN, { ...SIZE, codec: 'VP8', layers: LAYERS });
    await appear(bob, BOB, { width: 320, height: 180, fps: 10 });
    const { tracks } = (await server.api('GET', '/api/rooms/tiles')).participants.find(({ id }) => id === ann.id);
    const { id: track } = tracks.find(({ kind }) => kind === 'video');
    // Both stand side by side: 316 pixels each.
    const { id } = await server.api('POST', '/api/rooms/tiles/recordings', { width: 640, height: 360, fps: 20, audio: false });
    await decodes(server, track, 'h 320×180');
    await lasts(ann, 1);
    // She is large, and small again.
    await ann.request('layout', { kind: 'speaker', pinned: ann.id });
    await decodes(server, track, 'f 640×360');
    await lasts(ann, 1);
    await ann.request('layout', { kind: 'speaker', pinned: bob.id });
    await decodes(server, track, 'h 320×180');
    await lasts(ann, 1);
    // What fits comes no more: a larger one will do.
    const changed = await ann.counter();
    await ann.setLayer('main', 'h', false);
    await decodes(server, track, 'f 640×360');
    await lasts(ann, 1);
    const last = await ann.counter();
    assert.equal((await server.api('POST', `/api/recordings/${id}/stop?wait_s=30`)).state, 'ready');
    const file = join(server.folder, 'tiles.mp4');
    await writeFile(file, await server.download(id));
    const moves = await movements(file);
    const longest = Math.max(...moves.filter(({ counter }) => counter <= changed).map(({ still }) => still));
    t.diagnostic(`stands still for ${longest} s at most`);
    // A keyframe that is lost is asked for again after a second.
    assert.ok(longest < MOST_STILL_S, `stands still for ${longest} s`);
    assert.ok(moves.at(-1).counter >= last - 5, `it ends at ${moves.at(-1).counter} of ${last}`);
    assert.deepEqual([...(await ann.events('client-error')), ...(await bob.events('client-error'))], []);
});

test('the page sends layers, and shows of each picture the one that fits its tile', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const app = await openApp(browser, server, '/r/layers');
    await app.join('Cleo');
    await app.inRoom();
    const ann = await enter(browser, server);
    await ann.join('layers', 'Ann');
    await appear(ann, ANN, { ...SIZE, codec: 'VP8', layers: LAYERS });
    const tile = app.tile(ann.id);
    const seesWide = (width) => until(`a picture ${width} wide`, 20_000, async () => {
        const seen = await tile.locator('video').evaluate((video) => video.videoWidth);
        if (seen === width) return true;
        throw new Error(`it is ${seen} wide`);
    });
    await seesWide(640);
    const own = await app.ownId();
    const layers = await until('what the page sends', 10_000, async () => {
        const { participants } = await server.api('GET', '/api/rooms/layers');
        return participants.find(({ id }) => id === own).tracks.find(({ kind }) => kind === 'video')?.layers;
    });
    assert.ok(layers.length >= 2, `${layers}`);
    const { width, height } = app.page.viewportSize();
    await app.page.setViewportSize({ width: 500, height: 420 });
    await seesWide(320);
    await app.screenshot('small-layer');
    await app.page.setViewportSize({ width, height });
    await seesWide(640);
    await app.movesOn(tile.locator('video'));
    await app.screenshot('large-layer');
    assert.deepEqual(app.errors, []);
});

// Without a mode Chromium sends VP9 and AV1 as one stream of all layers (SVC).
function layersOf(codec) {
    return ['VP9', 'AV1'].includes(codec) ? LAYERS.map((layer) => ({ ...layer, scalabilityMode: 'L1T1' })) : LAYERS;
}

// Waits until the picture is so wide, and has the colour of whom it shows.
async function seesWidth(viewer, publisher, width) {
    await until(`${viewer.name} sees ${publisher.name} ${width} wide`, 20_000, async () => {
        const seen = await sees(viewer, publisher, ANN);
        if (seen.width === width) return seen;
        throw new Error(`a picture of ${seen.width}×${seen.height}`);
    });
}

// Records somebody's picture alone for two seconds, and gives its frames.
async function recorded(t, server, publisher) {
    const { id } = await server.api('POST', '/api/rooms/svc/recordings', { mode: 'individual' });
    await publisher.waitFor({ type: 'recording', recording: { id, state: 'recording' } });
    await lasts(publisher, 2);
    const stopped = await server.api('POST', `/api/recordings/${id}/stop?wait_s=30`);
    assert.equal(stopped.state, 'ready', JSON.stringify(stopped));
    const { name } = stopped.files.find(({ track_kind }) => track_kind === 'video');
    const response = await fetch(`${server.url}/api/recordings/${id}/files/${name}`);
    const file = join(server.folder, name);
    await writeFile(file, Buffer.from(await response.arrayBuffer()));
    const { video } = await probe(file);
    t.diagnostic(JSON.stringify({ codec: video.codec_name, width: video.width, height: video.height }));
    assert.equal(video.width, SIZE.width);
    return frames(file);
}

// Waits until what decodes the track has that layer.
async function decodes(server, track, layer) {
    await until(`${layer} is decoded`, 15_000, async () => {
        const { nodes } = await server.api('GET', '/api/rooms/tiles/graph?format=json');
        const { facts } = nodes.find(({ id }) => id === `decoder-${track}`) ?? {};
        if (facts?.layer === layer) return true;
        throw new Error(`it has ${facts?.layer}`);
    });
}

// The counters of Ann's picture in a file, wherever it is, and for how long the one before stood there, in seconds.
async function movements(file) {
    const seen = [];
    for (const frame of await frames(file, { width: 640 })) {
        const tile = frame.find(ANN.colour, 40);
        const counter = tile && frame.counter(tile);
        if (counter !== null && counter !== seen.at(-1)?.counter) seen.push({ counter, time: frame.time });
    }
    return seen.slice(1).map(({ counter, time }, index) => ({ counter, still: time - seen[index].time }));
}

// What is mixed goes on to what is sent now: the counter in the picture.
async function goesOn(viewer, mix, publisher) {
    const sent = await publisher.counter();
    await until('the mix goes on', 10_000, async () => {
        const { counter } = await viewer.look(mix);
        if (counter >= sent) return true;
        throw new Error(`${counter} of ${sent}`);
    });
}

async function checkFreezes(t, viewer, publisher) {
    const { freezeCount, framesDecoded, keyFramesDecoded, pliCount } = await viewer.report({ participant: publisher.id }, 'inbound-rtp', 'video');
    t.diagnostic(JSON.stringify({ freezeCount, framesDecoded, keyFramesDecoded, pliCount }));
    assert.ok(freezeCount <= MOST_FREEZES, `${freezeCount} freezes`);
}
