// One packet in twenty is lost, both ways: lost packets are sent again and the picture moves on.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, hears, movesOn, sees } from './call.mjs';
import { canMakeNamespaces, makeCable, SERVER_IP } from './netns.mjs';
import { startServer } from './server.mjs';
import { skip, until } from './wait.mjs';

const LOSS_PERCENT = 5;
const WATCH_S = 12;
// A packet lost for good holds Chromium up for three seconds; the server asks for a keyframe before that.
const MOST_BEHIND_S = 2;

test('with 5 % of packets lost, they come again and the picture moves on', async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const cable = await makeCable(t);
    const server = await startServer(t, { prefix: cable.prefix, host: SERVER_IP });
    const browser = await launch(t, { executable: cable.executable });
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('loss', 'Ann');
    await bob.join('loss', 'Bob');
    await Promise.all([appear(ann, ANN), appear(bob, BOB, { codec: 'H264' })]);
    await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
    await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN)]);

    await cable.drop(LOSS_PERCENT);
    for (const [viewer, publisher] of [[bob, ann], [ann, bob]]) {
        const before = await counts(viewer, publisher);
        let behind = 0;
        const end = (await publisher.counter()) + 10 * WATCH_S;
        await until(`${WATCH_S} s under loss`, 1000 * WATCH_S + 10_000, async () => {
            const [seen, sent] = await Promise.all([viewer.look(publisher), publisher.counter()]);
            if (seen?.counter != null) behind = Math.max(behind, sent - seen.counter);
            return sent >= end;
        }, 200);
        const after = await counts(viewer, publisher);
        t.diagnostic(`${viewer.name}: ${JSON.stringify({ before, after, behind })}`);
        assert.ok(after.received > before.received + 5, 'packets lost on the way to the viewer come again');
        assert.ok(after.resent > before.resent + 5, 'packets lost on the way from the publisher are sent again');
        assert.ok(behind <= 10 * MOST_BEHIND_S, `the picture fell ${behind / 10} s behind`);
        await Promise.all([sees(viewer, publisher, publisher === ann ? ANN : BOB), hears(viewer, publisher, publisher === ann ? ANN : BOB)]);
        await movesOn(viewer, publisher);
    }
    assert.ok((await cable.dropped()) > 100);
});

async function counts(viewer, publisher) {
    const inbound = await viewer.report({ participant: publisher.id }, 'inbound-rtp', 'video');
    const outbound = await publisher.report({ connection: 'main' }, 'outbound-rtp', 'video');
    return {
        // Chromium leaves it out until there is one.
        received: inbound.retransmittedPacketsReceived ?? 0,
        resent: outbound.retransmittedPacketsSent,
        frames: inbound.framesDecoded,
        freezes: inbound.freezeCount,
        frozenS: inbound.totalFreezesDuration,
        nacks: inbound.nackCount,
        plis: inbound.pliCount,
        lost: inbound.packetsLost,
    };
}
