// Firefox publishes and watches, with Chromium at the other end, over both edges; its numbers and extensions differ.

import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import test from 'node:test';
import { openApp } from './app.mjs';
import { enter, FIREFOX, hasFirefox, launch, launchFirefox } from './browser.mjs';
import { ANN, appear, BOB, hears, movesOn, sees } from './call.mjs';
import { startServer } from './server.mjs';
import { skip, until } from './wait.mjs';

// Firefox pairs no loopback address with another one.
const MEDIA = { SALON_MEDIA_BIND: '' };
const hasNetwork = Object.values(networkInterfaces()).flat().some(({ internal }) => !internal);
const SKIPPED = (!hasFirefox() && `${FIREFOX} is not there (package firefox-esr)`)
    || (!hasNetwork && 'there is no network but loopback');

for (const edge of ['fanout', 'webrtcbin']) {
    test(`Firefox and Chromium see and hear each other through ${edge}`, { timeout: 150_000 }, async (t) => {
        if (SKIPPED && skip(t, SKIPPED)) return;
        const server = await startServer(t, { env: { ...MEDIA, SALON_EDGE: edge } });
        const [ann, bob] = await Promise.all([launchFirefox(t), launch(t)].map(async (browser) => enter(await browser, server)));
        await ann.join('firefox', 'Ann');
        await bob.join('firefox', 'Bob');
        await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
        // Debian's Firefox fetches H.264 from elsewhere; where it has it, it is used.
        for (const codec of (await ann.canSend('H264')) ? ['VP8', 'H264'] : ['VP8']) {
            await Promise.all([appear(ann, ANN, { codec }), appear(bob, BOB, { codec })]);
            await ann.page.evaluate(useFakeMicrophone);
            await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN), hears(bob, ann, ANN), movesOn(bob, ann)]);
            const before = (await ann.look(bob)).counter;
            await until("Firefox's picture and sound of Bob move on", 10_000, async () => {
                const audio = await ann.report({ participant: bob.id }, 'inbound-rtp', 'audio');
                return audio.packetsReceived > 100 && (await ann.look(bob)).counter >= before + 10;
            });
            await Promise.all([ann.unpublish(), bob.unpublish()]);
        }
        assert.deepEqual([...(await ann.events('client-error')), ...(await bob.events('client-error'))], []);
    });
}

// Without a sound card Firefox runs no AudioContext: neither client.js' tone sounds there, nor is one heard.
async function useFakeMicrophone() {
    const [track] = window.device.getAudioTracks();
    await window.salon.publications.get('main').pc.getSenders().find((sender) => sender.track.kind === 'audio').replaceTrack(track);
}

test('the page in Firefox: join, camera, see and be seen', { timeout: 150_000 }, async (t) => {
    if (SKIPPED && skip(t, SKIPPED)) return;
    const server = await startServer(t, { env: MEDIA });
    const [firefox, chromium] = await Promise.all([launchFirefox(t), launch(t)]);
    const app = await openApp(firefox, server, '/r/firefox', { name: 'firefox', viewport: { width: 1280, height: 800 } });
    await app.join('Ann');
    await app.inRoom();
    await until('my own picture', 10_000, () => app.colourOf('[data-testid="tile"].self video'));

    const bob = await enter(chromium, server);
    await bob.join('firefox', 'Bob');
    await appear(bob, BOB);
    await bob.subscribeAll();
    await app.shows(`[data-testid="tile"][data-participant="${bob.id}"] video`, BOB.colour);
    const ann = await app.ownId();
    await until('Bob sees Ann', 15_000, async () => {
        const reports = await bob.stats({ participant: ann });
        return reports.some((one) => one.type === 'inbound-rtp' && one.kind === 'video' && one.framesDecoded > 10);
    });
    await app.screenshot('room');
    await app.page.setViewportSize({ width: 390, height: 844 });
    await app.fits();
    await app.screenshot('room-narrow');
    assert.deepEqual(app.errors, []);
});
