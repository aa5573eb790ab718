// The power goes while a recording is being written. What was recorded is there afterwards.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, lasts } from './call.mjs';
import { frames, samples, tone } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const KILLS = 5;
const MOST_LOST_S = 1.5;

test('kill -9 in mid-recording loses a second and a half at most', { timeout: 240_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    for (let kill = 1; kill <= KILLS; kill++) {
        const seconds = 2 + 4 * Math.random();
        await t.test(`kill ${kill}, after ${seconds.toFixed(2)} s`, async (t) => {
            server.showLogIfFailed(t);
            const ann = await enter(browser, server);
            await ann.join(`crash-${kill}`, 'Ann');
            await appear(ann, ANN);
            await ann.waitFor({ type: 'state', connection: 'main', state: 'connected' });
            const { recording } = await ann.request('record', { action: 'start' });
            await ann.waitFor({ type: 'recording', recording: { id: recording.id, state: 'recording' } }, 10_000);
            await lasts(ann, seconds);

            const shown = await ann.counter();
            await server.kill();
            await server.start();
            const kept = await until('the recording is ready', 15_000, async () => {
                const { state, reason } = await server.api('GET', `/api/recordings/${recording.id}`);
                assert.notEqual(state, 'failed', reason);
                return state === 'ready';
            });
            assert.ok(kept);

            const file = join(server.folder, `crash-${kill}.mp4`);
            await writeFile(file, await server.download(recording.id));
            const list = await frames(file);
            const box = list.at(-1).find(ANN.colour);
            assert.ok(box, `Ann is to be seen at the end; it shows ${list.at(-1).at(0.5, 0.9)}`);
            const last = list.map((frame) => frame.counter(box)).filter((number) => number !== null).at(-1);
            const lost = (shown - last) / 10;
            t.diagnostic(`lost ${lost} s of ${list.at(-1).time.toFixed(2)} s`);
            assert.ok(lost <= MOST_LOST_S, `lost ${lost} s: the last number is ${last}, ${shown} was shown`);
            assert.ok(list.at(-1).time > seconds - MOST_LOST_S - 0.5, `${list.at(-1).time} s of ${seconds} s`);
            const sound = await samples(file);
            assert.ok(tone(sound, ANN.tone, 0.5, list.at(-1).time) > 0.03, 'the sound is there as well');
            await ann.page.context().close();
        });
    }
    assert.equal((await server.api('GET', '/api/recordings')).length, KILLS);
});
