// What the page makes of recordings that are over: poster, timeline with previews, chapters, chat as it
// went, single tracks to keep, and removal that can be undone.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { appear, BOB, lasts } from './call.mjs';
import { near, probe } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

for (const device of [DESK, PHONE]) {
    test(`recordings are looked through, kept, removed and brought back, on a ${device.name}`, { timeout: 90_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const app = await openApp(browser, server, '/r/kept', device);
        await app.join('Ann');
        await app.inRoom();
        const bob = await enter(browser, server);
        await bob.join('kept', 'Bob & <i>');
        await appear(bob, BOB);
        await app.tile(bob.id).waitFor();
        const { id } = await server.api('POST', '/api/rooms/kept/recordings', { mode: 'both', name: 'Lecture <1>' });
        await bob.waitFor({ type: 'recording', recording: { state: 'recording' } });
        await bob.request('signal', { kind: 'chat', data: { text: 'first <b>words</b>' } });
        await lasts(bob, 3);
        await app.press('marker');
        await app.get('marker-save').click();
        await app.get('marker-dialog').waitFor({ state: 'detached' });
        await bob.request('signal', { kind: 'chat', data: { text: 'last words' } });
        await lasts(bob, 3);
        await app.press('record');
        await app.openPanel('recordings');
        const item = app.get('recording-item', '[data-state="ready"]');
        await item.waitFor({ timeout: 30_000 });
        assert.match(await item.textContent(), /Lecture <1>/);

        await t.test('the poster', async () => {
            const poster = item.locator('[data-testid="recording-poster"]');
            await poster.waitFor();
            // It is of a tenth of the time, which is before Bob's first picture in one this short.
            const [width, height] = await until('it is loaded', 10_000, () =>
                poster.evaluate(({ complete, naturalWidth, naturalHeight }) => complete && naturalWidth > 0 && [naturalWidth, naturalHeight]));
            assert.ok(width >= 320 && Math.abs(width / height - 16 / 9) < 0.02, `the poster is ${width} by ${height}`);
            await app.fits();
            await app.screenshot('kept-list');
        });

        await item.locator('[data-testid="recording-play"]').click();
        const player = app.get('recording-player');
        await until('it plays', 15_000, () => player.evaluate((video) => video.currentTime > 0.5));

        await t.test('the chat comes as it went', async () => {
            const shown = async () => (await app.get('replay-message', ':not([hidden])').allInnerTexts()).join('\n');
            await until('the first message', 10_000, async () => (await shown()).includes('first <b>words</b>'));
            assert.match(await shown(), /^Bob & <i>/);
            await player.evaluate((video) => { video.pause(); video.currentTime = 1.5; });
            await until('only the first', 5_000, async () => !(await shown()).includes('last words'));
            await app.get('chapter').filter({ hasText: 'Marker 1' }).click();
            await until('both', 10_000, async () => (await shown()).includes('last words'));
            assert.equal(await app.get('replay').locator('b, i').count(), 0);
        });

        await t.test('the timeline shows what is there before one goes', async () => {
            await player.evaluate((video) => video.pause());
            const strip = app.get('timeline');
            if (device === DESK) {
                await strip.hover();
                const preview = app.get('seek-preview');
                await preview.waitFor();
                const { x, y, width, height } = await preview.locator('.preview-picture').boundingBox();
                assert.ok(width > 100 && height > 50, `the preview is ${width} by ${height}`);
                const file = join(server.folder, 'preview.png');
                await app.page.screenshot({ path: file, clip: { x, y, width, height } });
                const picture = await app.page.evaluate(loadPicture, await readFile(file, 'base64'));
                assert.ok(picture.some((pixel) => near(pixel, BOB.colour)), "Bob's blue is not in the preview");
            }
            // Both sound: Bob's tone, and the beeps of Ann's false microphone.
            await app.get('speaker').filter({ hasText: 'Bob & <i>' }).waitFor();
            const spoken = await app.page.locator('.timeline-speech').evaluateAll((all) => all.map((one) => one.getBoundingClientRect().width));
            assert.ok(Math.max(...spoken) > 0.5 * (await strip.boundingBox()).width, `Bob sounds all the time, and not ${spoken} pixels`);
            await app.screenshot('kept-player');
            const { width } = await strip.boundingBox();
            await strip.click({ position: { x: width / 2, y: 8 } });
            const { duration_ms: durationMs } = await server.api('GET', `/api/recordings/${id}`);
            await until('the middle is reached', 5_000, () => player.evaluate((video, half) => Math.abs(video.currentTime - half) < 1.5, durationMs / 2000));
        });

        await t.test('single tracks are kept', async () => {
            const links = await app.get('file').evaluateAll((all) => all.map((one) => [one.href, one.textContent]));
            const [videoLink] = links.find(([, text]) => /Bob & <i> · VP8/.test(text));
            const response = await fetch(videoLink, { signal: AbortSignal.timeout(20_000) });
            assert.equal(response.status, 200);
            const file = join(server.folder, 'track.webm');
            await writeFile(file, Buffer.from(await response.arrayBuffer()));
            const { video } = await probe(file);
            assert.deepEqual([video.codec_name, video.width, video.height], ['vp8', 640, 360]);
            await app.fits();
        });

        await t.test('removed and brought back', async () => {
            await app.page.keyboard.press('Escape');
            await item.locator('[data-testid="recording-remove"]').click();
            await item.waitFor({ state: 'detached' });
            assert.deepEqual(await server.api('GET', '/api/recordings'), []);
            await app.screenshot('kept-removed');
            await app.get('recording-undo').click();
            await item.waitFor();
            assert.equal((await server.api('GET', `/api/recordings/${id}`)).state, 'ready');
            assert.equal(await app.get('recording-undo').count(), 0);
        });
        await app.page.keyboard.press('Escape');
        if (await app.get('panel-close').isVisible()) await app.get('panel-close').click();

        await t.test('single tracks are asked for in the menu, and played one at a time', async () => {
            await app.press('record-options');
            await app.get('record-dialog').waitFor();
            assert.ok(await app.get('record-layout').isVisible());
            await app.screenshot('record-menu');
            await app.get('record-mode-individual').check();
            assert.ok(!(await app.get('record-layout').isVisible()), 'without a picture of all there is nothing to arrange');
            await app.get('record-name').fill('Tracks & all');
            await app.get('record-limit').fill('5');
            await app.fits();
            await app.get('record-begin').click();
            await app.get('record-dialog').waitFor({ state: 'detached' });
            // Bob remembers the event of the first recording too.
            const { spec } = await until('it is recorded', 15_000, async () =>
                (await server.api('GET', '/api/recordings')).find(({ state, spec: { name } }) => state === 'recording' && name === 'Tracks & all'));
            assert.deepEqual([spec.mode, spec.name, spec.max_s], ['individual', 'Tracks & all', 300]);
            await lasts(bob, 3);
            await app.press('record');
            await app.openPanel('recordings');
            const tracks = app.get('recording-item', '[data-state="ready"]').filter({ hasText: 'Tracks & all' });
            await tracks.waitFor({ timeout: 30_000 });
            assert.equal(await tracks.locator('[data-testid="recording-play"]').count(), 0);
            await tracks.locator('[data-testid="recording-tracks"]').click();
            await app.get('no-mix').waitFor();
            const video = app.get('recording-player');
            await until('the first track plays', 15_000, () => video.evaluate((element) => element.currentTime > 0.3));
            await app.get('track').filter({ hasText: /Bob & <i> · opus/i }).locator('[data-testid="track-play"]').click();
            await until("Bob's sound plays", 15_000, () => video.evaluate((element) => element.videoWidth === 0 && element.currentTime > 0.3));
            await app.screenshot('tracks-player');
            await app.fits();
            await app.page.keyboard.press('Escape');
        });

        await t.test('all of them on a page, for as long as one is in the room', async () => {
            const [page] = await Promise.all([app.page.context().waitForEvent('page'), app.get('recordings-page').click()]);
            const items = page.locator('[data-testid="recording-item"]');
            await items.nth(1).waitFor();
            assert.equal(new URL(page.url()).hash, '', 'the key does not stay in the address');
            assert.match(await items.first().textContent(), /Tracks & all[^]*Room kept/);
            await items.nth(1).locator('[data-testid="recording-play"]').click();
            await until('it plays there', 15_000, () => page.locator('[data-testid="recording-player"]').evaluate((element) => element.currentTime > 0.3));
            await page.keyboard.press('Escape');
            await items.nth(1).locator('[data-testid="recording-remove"]').click();
            await page.locator('[data-testid="recording-undo"]').click();
            await items.nth(1).waitFor();
            await page.close();
        });
        assert.deepEqual(app.errors, []);
    });
}

test('the page of recordings opens with the API secret, and shows what grows', { timeout: 60_000 }, async (t) => {
    const secret = 'correct-horse-battery';
    const server = await startServer(t, { env: { SALON_API_SECRET: secret } });
    const api = async (method, path, body) => {
        const headers = { authorization: `Bearer ${secret}`, 'content-type': 'application/json' };
        const response = await fetch(`${server.url}${path}`, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(40_000) });
        assert.ok(response.ok, `${method} ${path}: ${response.status}`);
        return response.json();
    };
    const { id } = await api('POST', '/api/rooms/hall/recordings', { name: 'Empty hall', width: 320, height: 180 });
    await until('it is recorded', 15_000, async () => (await api('GET', `/api/recordings/${id}`)).state === 'recording');
    const browser = await launch(t);
    for (const device of [DESK, PHONE]) {
        const app = await openApp(browser, server, '/recordings', device);
        await app.get('api-secret').fill('wrong');
        await app.get('api-secret').press('Enter');
        await app.page.getByText('That is not the API secret.').waitFor();
        await app.get('api-secret').fill(secret);
        await app.get('unlock').click();
        const item = app.get('recording-item');
        await item.waitFor();
        assert.match(await item.textContent(), /Empty hall/);
        if (device === DESK) {
            await until('its time passes', 10_000, async () => /0:0[1-9]/.test(await app.get('recording-running').textContent()));
            const { bytes } = (await api('GET', '/api/recordings'))[0].files[0];
            await until('what is listed grows', 10_000, async () => (await api('GET', '/api/recordings'))[0].files[0].bytes > bytes);
            await api('POST', `/api/recordings/${id}/stop?wait_s=30`);
        }
        await app.get('recording-item', '[data-state="ready"]').waitFor();
        await app.get('recording-poster').waitFor({ timeout: 30_000 });
        await until('the poster is loaded', 10_000, () => app.get('recording-poster').evaluate(({ naturalWidth }) => naturalWidth > 0));
        await app.screenshot('recordings-page');
        await app.fits();
        await app.get('recording-play').click();
        await until('it plays', 15_000, () => app.get('recording-player').evaluate((video) => video.currentTime > 0.3));
        assert.deepEqual(app.errors, []);
        await app.page.context().close();
    }
});

// Runs in the page: the pixels of a PNG, every tenth.
async function loadPicture(base64) {
    const image = new Image();
    image.src = `data:image/png;base64,${base64}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    return Array.from({ length: Math.floor(data.length / 40) }, (_, index) => [...data.slice(40 * index, 40 * index + 3)]);
}
