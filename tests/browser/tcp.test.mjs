// A network that lets no UDP through: people publish and watch over the TCP port of the fan-out edge.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, hears, movesOn, sees } from './call.mjs';
import { canMakeNamespaces, makeCable, SERVER_IP } from './netns.mjs';
import { startServer } from './server.mjs';
import { skip } from './wait.mjs';

test('two people meet over TCP where UDP is blocked', async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const cable = await makeCable(t);
    await cable.drop(100);
    const server = await startServer(t, { prefix: cable.prefix, host: SERVER_IP, env: { SALON_EDGE: 'auto' } });
    const browser = await launch(t, { executable: cable.executable });
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('tcp', 'Ann');
    await bob.join('tcp', 'Bob');
    await Promise.all([appear(ann, ANN), appear(bob, BOB, { codec: 'H264' })]);
    await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
    await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN), hears(ann, bob, BOB), hears(bob, ann, ANN)]);

    for (const [viewer, publisher] of [[ann, bob], [bob, ann]]) {
        for (const of of [{ connection: 'main' }, { participant: publisher.id }]) {
            const { local, remote } = await viewer.selectedPair(of);
            assert.equal(local.protocol, 'tcp');
            assert.equal(remote.protocol, 'tcp');
            assert.ok((await server.udpPorts()).has(remote.port), 'the number is that of the UDP port');
        }
        const decoded = async () => (await viewer.report({ participant: publisher.id }, 'inbound-rtp', 'video')).framesDecoded;
        const before = await decoded();
        await movesOn(viewer, publisher);
        assert.ok(await decoded() > before);
    }
    assert.ok(await cable.dropped() > 0, 'UDP was tried');
});
