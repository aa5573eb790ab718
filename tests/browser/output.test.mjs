// VLC plays the room's mix while it happens: MPEG-TS over HTTP, HLS, and SRT.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { ANN, appear } from './call.mjs';
import { near } from './content.mjs';
import { freePort } from './port.mjs';
import { startServer } from './server.mjs';
import { play } from './vlc.mjs';
import { until } from './wait.mjs';

test('VLC plays the mix as MPEG-TS, as HLS and over SRT', async (t) => {
    const server = await startServer(t);
    const ann = await enter(await launch(t), server);
    const { access } = await ann.join('lecture', 'Ann');
    await appear(ann, ANN, { codec: 'H264' });
    const addresses = ['ts/lecture/mix.ts', 'hls/lecture/mix.m3u8'].map((address) => `${server.url}/${address}?access=${access}`);
    for (const address of [...addresses, `${server.srtUrl}?streamid=lecture/mix/${access}`]) {
        const { pictures, said } = await play(address, { seconds: 8, every: 25 });
        const red = pictures.filter((picture) => near(picture.at(0.5, 0.35, 5), ANN.colour));
        assert.ok(red.length >= 2, `${address}: ${red.length} of ${pictures.length} pictures are hers\n${said}`);
    }
});

test('VLC plays a recording over HTTP, while it grows and when it is finished', async (t) => {
    const server = await startServer(t);
    const ann = await enter(await launch(t), server);
    const { access } = await ann.join('lecture', 'Ann');
    await appear(ann, ANN, { codec: 'H264' });
    const { id } = await server.api('POST', '/api/rooms/lecture/recordings', { width: 640, height: 360 });
    const file = `${server.url}/api/recordings/${id}/file?access=${access}`;
    const grown = async () => Number((await fetch(file, { method: 'HEAD' })).headers.get('content-length'));
    await until('some seconds are in the file', 20_000, async () => (await grown()) > 400_000);
    const shows = async (what) => {
        const { pictures, said } = await play(file, { seconds: 6, every: 12 });
        const red = pictures.filter((picture) => near(picture.at(0.5, 0.35, 5), ANN.colour));
        assert.ok(red.length >= 2, `${what}: ${red.length} of ${pictures.length} pictures are hers\n${said}`);
    };
    const before = await grown();
    await shows('growing');
    assert.ok((await grown()) > before, 'it grew meanwhile');
    await server.api('POST', `/api/recordings/${id}/stop?wait_s=30`);
    await shows('finished');
});

test('the page plays the mix over HLS, and says when it can not', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const ann = await enter(browser, server);
    await ann.join('lecture', 'Ann');
    await appear(ann, ANN, { codec: 'H264' });
    for (const device of [DESK, PHONE]) {
        const app = await openApp(browser, server, '/r/lecture?codec=h264', { ...device, before: (page) => page.route('**/mix.m3u8?*', (route) => route.fulfill({ status: 404 }), { times: 1 }) });
        await app.join(device.name);
        await app.inRoom();
        await app.press('invite');
        await app.get('invite-live').click();
        await until('it says that it failed', 20_000, () => app.get('live-status', '[data-state="failed"]').isVisible());
        await app.get('live-again').click();
        await app.get('live-status', '[data-state="playing"]').waitFor({ timeout: 30_000 });
        await until('her colour is in the picture', 20_000, async () => {
            const pixels = await app.get('live-player').evaluate((video) => {
                const context = new OffscreenCanvas(16, 9).getContext('2d');
                context.drawImage(video, 0, 0, 16, 9);
                return [...context.getImageData(0, 0, 16, 9).data];
            });
            const hers = pixels.filter((_, at) => at % 4 === 0 && near(pixels.slice(at, at + 3), ANN.colour));
            if (hers.length > 5) return true;
            throw new Error(`at ${hers.length} of 144 points`);
        });
        await app.movesOn(app.get('live-player'));
        await app.fits();
        await app.screenshot('live');
        assert.deepEqual(app.errors, []);
        await app.page.context().close();
    }
});

test('the page tells a mix of nobody, one that has ended, and a connection that was lost', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    for (const [device, state] of [[DESK, 'ended'], [PHONE, 'lost']]) {
        const app = await openApp(browser, server, `/r/${state}?codec=h264`, device);
        await app.get('options').locator('summary').click();
        await app.get('viewer').check();
        await app.join(device.name);
        await app.inRoom();
        await app.press('invite');
        const asked = app.page.waitForRequest('**/mix.m3u8*');
        await app.get('invite-live').click();
        const playlist = (await asked).url();
        await app.get('live-status', '[data-state="nobody"]').waitFor({ timeout: 30_000 });
        await app.screenshot('live-nobody');
        // As a list is whose room has closed; the page itself leaves with its room.
        const ended = async (route) => {
            const response = await route.fetch();
            await route.fulfill({ response, body: `${await response.text()}#EXT-X-ENDLIST\n` });
        };
        await app.page.route(...(state === 'ended' ? ['**/mix.m3u8*', ended] : ['**/hls/**', (route) => route.abort()]));
        await app.get('live-status', `[data-state="${state}"]`).waitFor({ timeout: 60_000 });
        await app.get('live-again').waitFor();
        await app.fits();
        await app.screenshot(`live-${state}`);
        await server.api('DELETE', `/api/rooms/${state}`);
        const last = await fetch(playlist);
        assert.equal(last.status, 200);
        assert.match(await last.text(), /#EXT-X-ENDLIST\n$/, 'who has played it reads its end');
        await app.page.context().close();
    }
});

test('everybody sees that the mix goes out to another service', async (t) => {
    const server = await startServer(t, { env: { SALON_INGEST_ALLOW: '127.0.0.1' } });
    const browser = await launch(t);
    const app = await openApp(browser, server, '/r/lecture', DESK);
    await app.get('nickname').fill('Ann');
    await app.get('join').click();
    await app.inRoom();
    const port = await freePort();
    const folder = await mkdtemp(join(tmpdir(), 'salon-srt-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const receiver = spawn('ffmpeg', ['-nostdin', '-v', 'error', '-i', `srt://127.0.0.1:${port}?mode=listener`, '-c', 'copy', '-y', join(folder, 'got.ts')], { stdio: 'ignore' });
    t.after(() => receiver.kill('SIGKILL'));
    const { id } = await server.api('POST', '/api/rooms/lecture/outputs', { uri: `srt://127.0.0.1:${port}?streamid=s3cret` });
    await app.get('output-badge').waitFor();
    await app.screenshot('sent-on');
    assert.ok(!server.log.some((line) => line.includes('s3cret')), 'the key is in no log');
    await server.api('DELETE', `/api/rooms/lecture/outputs/${id}`);
    await app.get('output-badge').waitFor({ state: 'hidden' });
});

test('a moderator sends the mix to another service from the page, sees why it fails, and ends it', async (t) => {
    const server = await startServer(t, { env: { SALON_INGEST_ALLOW: '127.0.0.1' } });
    const browser = await launch(t);
    for (const device of [DESK, PHONE]) {
        const room = `lecture-${device.name}`;
        const app = await openApp(browser, server, `/r/${room}`, device);
        await app.join(device.name);
        await app.inRoom();
        await app.openPanel('people');
        await app.get('outputs-open').click();
        await app.get('outputs-empty').waitFor();
        await app.get('output-uri').fill('https://example.com/live');
        await app.get('output-add').click();
        await app.get('output-error').waitFor();
        const fingerprint = app.get('output-fingerprint');
        assert.equal(await fingerprint.isVisible(), false, 'only TLS has certificates');
        await app.get('output-uri').fill('rtmps://127.0.0.1:1935/app/key');
        await fingerprint.fill('AA:BB');
        await app.get('output-add').click();
        await app.get('output-error').waitFor();
        assert.equal(await app.get('output-row').count(), 0);
        await app.screenshot('outputs-fingerprint');
        await fingerprint.fill(Array(32).fill('ab').join(':'));
        await app.get('output-add').click();
        await app.get('output-row').waitFor();
        await app.get('output-remove').click();
        await app.get('output-row').waitFor({ state: 'detached' });
        await app.get('output-uri').fill(`rtmp://127.0.0.1:${await freePort()}/app/s3cret`);
        await app.get('output-add').click();
        await app.get('output-row', '[data-state="waiting"]').waitFor({ timeout: 20_000 });
        await app.get('output-reason').waitFor();
        assert.ok(!(await app.get('outputs-dialog').innerText()).includes('s3cret'), 'the key is shown nowhere');
        await app.fits();
        await app.screenshot('outputs');
        await app.get('output-remove').click();
        await app.get('output-row').waitFor({ state: 'detached' });
        await app.get('outputs-empty').waitFor();
        assert.deepEqual(await server.api('GET', `/api/rooms/${room}/outputs`), []);
        assert.deepEqual(app.errors, []);
        await app.page.context().close();
    }
});

test('the invitation has a code for phones, where a phone can come', async (t) => {
    const server = await startServer(t, { host: '127.0.0.3' });
    const browser = await launch(t);
    for (const device of [DESK, PHONE]) {
        const app = await openApp(browser, server, '/r/lecture', device);
        await app.get('nickname').fill(device.name);
        await app.get('join').click();
        await app.inRoom();
        await app.press('invite');
        const code = app.get('invite-qr');
        await code.waitFor();
        await until('it is drawn', 5_000, () => code.evaluate((image) => image.complete && image.naturalWidth > 0));
        await app.screenshot('invite');
        await app.get('dialog-close').click();
    }
});
