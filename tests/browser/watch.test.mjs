// Two and three people publish and watch each other through the server, in every codec.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, CLEO, css, hears, movesOn, sees } from './call.mjs';
import { startServer } from './server.mjs';
import { skip, until } from './wait.mjs';

// What every browser sends (RFC 7742); the others are forwarded where a browser offers them.
const MANDATORY = ['VP8', 'H264'];
// Chromium begins at 0.3 Mbit/s; a meeting's picture of 1280×720 wants more than three times that.
const ENOUGH_MBIT = 1;
const RISE_LIMIT_MS = 15_000;
const WITHOUT_FEEDBACK_MS = 4_000;

for (const codec of ['VP8', 'H264', 'VP9', 'AV1']) {
    test(`two browsers see and hear each other in ${codec}`, async (t) => {
        const server = await startServer(t);
        // The dearest encoder must keep up with three other programs on two cores.
        const size = codec === 'AV1' ? { width: 320, height: 180, fps: 10 } : {};
        const [ann, bob] = await Promise.all([0, 1].map(async () => enter(await launch(t), server)));
        if (!(await ann.canSend(codec))) {
            const reason = `this Chromium does not send ${codec}`;
            return void (MANDATORY.includes(codec) ? skip(t, reason) : t.skip(reason));
        }
        const { media: { forward } } = await server.api('GET', '/api/server');
        assert.ok(forward.includes(codec), `the server forwards ${forward}`);

        await ann.join('codecs', 'Ann');
        await bob.join('codecs', 'Bob');
        await Promise.all([appear(ann, ANN, { codec, ...size }), appear(bob, BOB, { codec, ...size })]);
        await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);

        await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN), hears(ann, bob, BOB), hears(bob, ann, ANN)]);
        await Promise.all([movesOn(ann, bob), movesOn(bob, ann)]);
        for (const [viewer, publisher] of [[ann, bob], [bob, ann]]) {
            await checkCodec(viewer, publisher, codec);
            await checkRemoteEnd(viewer, { participant: publisher.id }, server);
            await checkRemoteEnd(viewer, { connection: 'main' }, server);
        }
        assert.deepEqual([...(await ann.events('client-error')), ...(await bob.events('client-error'))], []);
    });
}

async function checkCodec(viewer, publisher, codec) {
    const reports = await viewer.stats({ participant: publisher.id });
    const inbound = reports.find((one) => one.type === 'inbound-rtp' && one.kind === 'video');
    const { mimeType } = reports.find((one) => one.id === inbound.codecId);
    assert.equal(mimeType.toUpperCase(), `VIDEO/${codec}`);
}

// Media comes from the server and from nobody else: the other end is a socket of its process.
async function checkRemoteEnd(participant, of, server) {
    const { remote } = await participant.selectedPair(of);
    assert.equal(remote.address ?? remote.ip, server.host);
    const ports = await server.udpPorts();
    assert.ok(ports.has(remote.port), `port ${remote.port} is not among the server's: ${[...ports]}`);
}

test('a latecomer sees both within two seconds, and nobody notices when he goes', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob, cleo] = await Promise.all([0, 1, 2].map(() => enter(browser, server)));
    await ann.join('late', 'Ann');
    await bob.join('late', 'Bob');
    await Promise.all([appear(ann, ANN), appear(bob, BOB, { codec: 'H264' })]);
    await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
    await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN)]);
    // Both are well past their first keyframe.
    await Promise.all([movesOn(ann, bob, { frames: 75 }), movesOn(bob, ann, { frames: 75 })]);

    const began = Date.now();
    await cleo.join('late', 'Cleo');
    await cleo.subscribeAll();
    await Promise.all([sees(cleo, ann, ANN), sees(cleo, bob, BOB)]);
    const took = Date.now() - began;
    t.diagnostic(`both pictures after ${took} ms`);
    assert.ok(took <= 2000, `both pictures after ${took} ms`);

    await appear(cleo, CLEO);
    await Promise.all([sees(ann, cleo, CLEO), hears(bob, cleo, CLEO)]);
    await cleo.leave();
    await Promise.all([ann, bob].map((one) => one.waitFor({ type: 'participant-left', participant: cleo.id, reason: 'left' })));
    await Promise.all([movesOn(ann, bob), movesOn(bob, ann)]);
});

test('camera and screen of one participant at once', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('screen', 'Ann');
    await bob.join('screen', 'Bob');
    await appear(ann, ANN);
    await bob.subscribeAll();
    await sees(bob, ann, ANN);
    await ann.publish({ connection: 'screen', source: 'screen', video: { colour: css(CLEO.colour), width: 1280, height: 720, fps: 10 } });
    await sees(bob, ann, CLEO, { source: 'screen' });
    await sees(bob, ann, ANN);

    await ann.unpublish('screen');
    await bob.waitFor({ type: 'connection-closed', reason: 'unpublished' });
    assert.equal(await bob.look(ann, 'screen'), null);
    await movesOn(bob, ann);
});

test('a viewer and a publisher who ask for other paths go on with the same connections', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('paths', 'Ann');
    await bob.join('paths', 'Bob');
    await appear(ann, ANN);
    await bob.subscribeAll();
    await sees(bob, ann, ANN);
    const [{ connection }] = await bob.events('offer');
    const { participants } = await server.api('GET', '/api/rooms/paths');
    const { edges: { watches } } = participants.find(({ id }) => id === bob.id);
    if (watches.includes('webrtcbin')) {
        await assert.rejects(bob.request('restart', { connection }), /no_ice_restart/);
        await assert.rejects(ann.call('restartIce', 'main'), /no_ice_restart/);
        await movesOn(bob, ann);
        return;
    }
    const userOf = async (one, of) => (await one.selectedPair(of))?.local.usernameFragment;
    const user = () => userOf(bob, { participant: ann.id });
    const before = await user();
    const { framesDecoded } = await bob.report({ participant: ann.id }, 'inbound-rtp', 'video');
    assert.ok(before && framesDecoded > 0);
    await bob.request('restart', { connection });
    await until('the new path is in use', 10_000, async () => (await user()) !== before);
    await movesOn(bob, ann);
    const published = await userOf(ann, { connection: 'main' });
    await ann.call('restartIce', 'main');
    await until("the publisher's new path is in use", 10_000, async () => ![published, undefined].includes(await userOf(ann, { connection: 'main' })));
    await movesOn(bob, ann);
    await hears(bob, ann, ANN);
    const after = await bob.report({ participant: ann.id }, 'inbound-rtp', 'video');
    assert.ok(after.framesDecoded > framesDecoded, 'one count goes on');
    const states = [...(await bob.events('state')), ...(await ann.events('state'))];
    assert.deepEqual(states.filter(({ state }) => state === 'failed'), []);
    assert.deepEqual(await bob.events('track-unpublished'), []);
    assert.deepEqual(await bob.events('connection-closed'), []);
});

test("a publisher's rate rises through transport-wide congestion control, and only through it", async (t) => {
    const server = await startServer(t);
    const ann = await enter(await launch(t), server);
    await ann.join('rate', 'Ann');
    const video = { width: 1280, height: 720, fps: 20, detail: true };

    await ann.publish({ connection: 'told', video });
    const began = Date.now();
    const told = await until(`Ann sends more than ${ENOUGH_MBIT} Mbit/s`, RISE_LIMIT_MS, async () => {
        const rates = await ratesOf(ann, 'told');
        if (Math.min(rates.sent, rates.target, rates.allowed) > ENOUGH_MBIT) return rates;
        throw new Error(JSON.stringify(rates));
    });
    t.diagnostic(`with transport-cc, after ${Date.now() - began} ms: ${JSON.stringify(told)}`);
    await ann.unpublish('told');

    // Without that feedback a browser learns of losses only, and feels its way up by 8 % a second.
    await ann.publish({ connection: 'untold', video, without: 'transport-cc' });
    await ann.waitFor({ type: 'state', connection: 'untold', state: 'connected' });
    const connected = Date.now();
    const untold = await until('a while without feedback', 30_000, async () => {
        const rates = await ratesOf(ann, 'untold');
        return Date.now() - connected > WITHOUT_FEEDBACK_MS && rates;
    });
    t.diagnostic(`without it: ${JSON.stringify(untold)}`);
    assert.ok(untold.allowed > 0 && untold.allowed < 0.6 * ENOUGH_MBIT, `it rises without feedback: ${JSON.stringify(untold)}`);
});

test('who publishes through the fan-out edge is seen and heard, at a rate that rises', async (t) => {
    const server = await startServer(t, { env: { SALON_EDGE: 'fanout' } });
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('fanout', 'Ann');
    await bob.join('fanout', 'Bob');
    await appear(ann, ANN, { width: 1280, height: 720, fps: 20 });
    await bob.subscribeAll();
    await Promise.all([sees(bob, ann, ANN), hears(bob, ann, ANN)]);
    const { participants } = await server.api('GET', '/api/rooms/fanout');
    const edgesOf = ({ id }) => participants.find((one) => one.id === id).edges;
    assert.deepEqual([edgesOf(ann).publishes, edgesOf(bob).watches], [['fanout'], ['fanout']]);
    await bob.waitFor({ type: 'speaking' });
    await ann.publish({ connection: 'noise', video: { width: 1280, height: 720, fps: 20, detail: true } });
    const rates = await until(`Ann sends more than ${ENOUGH_MBIT} Mbit/s`, RISE_LIMIT_MS, async () => {
        const now = await ratesOf(ann, 'noise');
        if (Math.min(now.sent, now.target, now.allowed) > ENOUGH_MBIT) return now;
        throw new Error(JSON.stringify(now));
    });
    t.diagnostic(JSON.stringify(rates));
    assert.deepEqual([...(await ann.events('client-error')), ...(await bob.events('client-error'))], []);
});

// In Mbit/s: what a publication sends of its picture in a second, what its encoder is told to make,
// and what the browser takes the network to bear.
async function ratesOf(publisher, connection) {
    const sentSoFar = async () => {
        const reports = await publisher.stats({ connection });
        const outbound = reports.find((one) => one.type === 'outbound-rtp' && one.kind === 'video');
        const pair = reports.find((one) => one.type === 'candidate-pair' && one.availableOutgoingBitrate);
        if (!(outbound?.bytesSent > 0 && pair)) throw new Error('nothing is sent yet');
        return { ...outbound, allowed: pair.availableOutgoingBitrate };
    };
    const first = await sentSoFar();
    const last = await until('a second passes', 3_000, async () => {
        const now = await sentSoFar();
        return now.timestamp >= first.timestamp + 1_000 && now;
    });
    const mbit = (bitsPerSecond) => Math.round(bitsPerSecond / 1e4) / 100;
    const sent = (8e3 * (last.bytesSent - first.bytesSent)) / (last.timestamp - first.timestamp);
    return { sent: mbit(sent), target: mbit(last.targetBitrate), allowed: mbit(last.allowed) };
}
