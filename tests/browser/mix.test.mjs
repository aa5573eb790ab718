// The room's mix is watched live, in one picture and one sound without the listener's own.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, hears, movesOn, sees } from './call.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const MIX = { id: 'mix', name: 'the mix' };

test('a mix is seen and heard, and nobody hears himself in it', async (t) => {
    const server = await startServer(t);
    const [ann, bob, cleo] = await Promise.all([0, 1, 2].map(async () => enter(await launch(t), server)));
    await ann.join('stage', 'Ann');
    await bob.join('stage', 'Bob');
    await cleo.join('stage', 'Cleo', { role: 'viewer' });
    await appear(ann, ANN);

    await cleo.request('subscribe', { mix: true });
    await sees(cleo, MIX, ANN);
    await hears(cleo, MIX, ANN);
    const { width, height } = await cleo.look(MIX);
    assert.deepEqual([width, height], [1280, 720]);
    await movesOn(cleo, MIX);

    // Ann sees herself as all see her, and hears Bob alone.
    await ann.request('subscribe', { mix: true });
    await sees(ann, MIX, ANN);
    await bob.publish({ audio: { tone: BOB.tone, beep: BOB.beep } });
    await hears(ann, MIX, BOB);
    await until('Cleo hears both', 10_000, async () => {
        const { levels } = await cleo.listen(MIX, [ANN.tone, BOB.tone]);
        if (levels.every((level) => level > -60)) return levels;
        throw new Error(`levels ${levels.map(Math.round)} dB`);
    });

    // The layout of the room is that of its mix.
    const ground = [32, 128, 32];
    await ann.request('layout', { kind: 'grid', background: '#208020' });
    await sees(cleo, MIX, { colour: ground });
    await cleo.request('unsubscribe', { mix: true });
    await cleo.waitFor({ type: 'connection-closed', reason: 'unsubscribed' }, 5_000);
    for (const one of [ann, bob, cleo]) assert.deepEqual(await one.events('client-error'), []);
});
