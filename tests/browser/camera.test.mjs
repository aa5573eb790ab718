// RTSP cameras are participants: a browser sees their colours and hears their tones.

import assert from 'node:assert/strict';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { ANN, BOB, CLEO, hears, movesOn, sees } from './call.mjs';
import { startCamera } from './camera.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const ALLOWED = { env: { SALON_INGEST_ALLOW: '127.0.0.1' } };

const add = (server, uri, more = {}) => server.api('POST', '/api/rooms/yard/ingests', { uri, name: 'Door', ...more });
const state = async (server, id) => (await server.api('GET', '/api/rooms/yard/ingests')).find((one) => one.id === id);

for (const { title, camera, ingest = {}, handling } of [
    { title: 'H.264 and AAC over TCP', camera: {}, handling: ['forwarded', 'transcoded'] },
    {
        title: 'H.265 and G.711 over UDP with a digest',
        camera: { video: 'h265', audio: 'pcmu', auth: 'digest' },
        ingest: { transport: 'udp', credentials: { user: 'admin', password: 's3cret' } },
        handling: ['transcoded', 'forwarded'],
    },
    { title: 'Motion JPEG through an HTTP tunnel', camera: { video: 'mjpeg' }, ingest: { transport: 'http' }, handling: ['transcoded', 'transcoded'] },
    { title: 'H.264 with B-frames', camera: { video: 'bFrames' }, handling: ['transcoded', 'transcoded'] },
]) {
    test(`a camera is seen and heard: ${title}`, async (t) => {
        const server = await startServer(t, ALLOWED);
        const [device, ann] = await Promise.all([startCamera(t, BOB, camera), enter(await launch(t), server)]);
        await ann.join('yard', 'Ann');
        await ann.subscribeAll();
        const { id, name } = await add(server, device.uri, ingest);
        const door = { id, name };
        await sees(ann, door, BOB);
        await hears(ann, door, BOB);
        await movesOn(ann, door, { frames: 50 });
        const { video, audio, state: live } = await state(server, id);
        assert.deepEqual([live, video.handling, audio.handling], ['live', ...handling]);
        assert.ok(!server.log.some((line) => line.includes('s3cret')), 'the password is in no log');
    });
}

test('a camera that was killed is back within three seconds, in the same tracks', async (t) => {
    const server = await startServer(t, ALLOWED);
    const [first, ann] = await Promise.all([startCamera(t, BOB), enter(await launch(t), server)]);
    await ann.join('yard', 'Ann');
    await ann.subscribeAll();
    const { id, name } = await add(server, first.uri);
    const door = { id, name };
    await sees(ann, door, BOB);
    const tracks = async () => (await server.api('GET', '/api/rooms/yard')).participants.find((one) => one.id === id).tracks.map((track) => track.id);
    const before = await tracks();
    await first.kill();
    await until('the camera is missed', 5_000, async () => (await state(server, id)).state === 'waiting');
    await startCamera(t, CLEO, { port: first.port });
    const began = Date.now();
    await sees(ann, door, CLEO);
    const took = Date.now() - began;
    t.diagnostic(`back after ${took} ms`);
    assert.ok(took <= 3000, `back after ${took} ms`);
    await hears(ann, door, CLEO);
    assert.deepEqual(await tracks(), before);
    assert.equal((await state(server, id)).reconnects, 1);
});

test('who may not be fetched is refused with the line that allows it', async (t) => {
    const server = await startServer(t);
    const device = await startCamera(t, ANN);
    await assert.rejects(add(server, device.uri), /403 .*address_not_allowed.*SALON_INGEST_ALLOW=127\.0\.0\.1/);
});

test('a moderator adds a camera in the page, sees it, and removes it', async (t) => {
    const server = await startServer(t, ALLOWED);
    const [device, browser] = await Promise.all([startCamera(t, BOB, { auth: 'basic' }), launch(t)]);
    const app = await openApp(browser, server, '/r/yard', DESK);
    await app.get('nickname').fill('Ann');
    await app.get('join').click();
    await app.inRoom();
    await app.press('people-toggle');
    await app.get('cameras-open').click();
    await app.get('camera-uri').fill('rtsp://10.11.12.13/live');
    await app.get('camera-add').click();
    await app.get('camera-error', ':has-text("SALON_INGEST_ALLOW=127.0.0.1,10.11.12.13")').waitFor();
    await app.get('camera-uri').fill(device.uri);
    await app.get('camera-name').fill('현관 <b>');
    await app.get('camera-user').fill('admin');
    await app.get('camera-password').fill('s3cret');
    await app.get('camera-test').click();
    await app.get('camera-snapshot').waitFor();
    assert.match(await app.get('camera-seen').textContent(), /H\.264 \d+×\d+ · AAC/);
    await app.screenshot('camera-test');
    await app.page.setViewportSize(PHONE.viewport);
    await app.fits();
    await app.screenshot('camera-test-narrow');
    await app.page.setViewportSize(DESK.viewport);
    await app.get('camera-add').click();
    await app.get('camera-row', '[data-state="live"]').waitFor();
    const id = await app.get('camera-row').getAttribute('data-camera');
    await app.get('camera-rate', ':text-matches("^[1-9][0-9]* kbit/s, 2[0-9] fps$")').waitFor();
    await app.screenshot('cameras');
    await app.get('dialog-close').click();
    await app.shows(`[data-testid="tile"][data-participant="${id}"] video`, BOB.colour);
    const muted = async (kind) => (await server.api('GET', '/api/rooms/yard')).participants.find((one) => one.id === id).tracks.find((track) => track.kind === kind).muted;
    for (const [button, kind] of [['person-mute', 'audio'], ['person-hide', 'video']]) {
        await app.get(button, '[data-state="on"]').focus();
        await app.page.keyboard.press('Enter');
        await app.get(button, '[data-state="off"]:focus').waitFor();
        assert.ok(await muted(kind), `${kind} is off`);
        await app.page.keyboard.press('Enter');
        await app.get(button, '[data-state="on"]:focus').waitFor();
        assert.ok(!(await muted(kind)), `${kind} is on again`);
    }
    await app.get('cameras-open').click();
    await app.get('camera-remove').click();
    await app.get('camera-row').waitFor({ state: 'detached' });
    await until('its tile is gone', 5_000, async () => (await app.page.locator(`[data-participant="${id}"]`).count()) === 0);
});
