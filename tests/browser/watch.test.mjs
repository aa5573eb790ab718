// Two and three people publish and watch each other through the server, in every codec.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, CLEO, css, hears, movesOn, sees } from './call.mjs';
import { startServer } from './server.mjs';

for (const codec of ['VP8', 'H264', 'VP9', 'AV1']) {
    test(`two browsers see and hear each other in ${codec}`, async (t) => {
        const server = await startServer(t);
        // The dearest encoder must keep up with three other programs on two cores.
        const size = codec === 'AV1' ? { width: 320, height: 180, fps: 10 } : {};
        const [ann, bob] = await Promise.all([0, 1].map(async () => enter(await launch(t), server)));
        if (!(await ann.canSend(codec))) return void t.skip(`this Chromium does not send ${codec}`);
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
