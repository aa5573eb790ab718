// The page that people use, driven as they use it, on a desk and on a phone.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { crash, enter, launch } from './browser.mjs';
import { appear, BOB, lasts, sees } from './call.mjs';
import { frames } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

for (const device of [DESK, PHONE]) {
    test(`lobby, room, chat, record and play, on a ${device.name}`, { timeout: 120_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const app = await openApp(browser, server, '/', device);
        await app.get('room').fill('review');
        await app.get('open-room').click();
        await until('the preview runs', 10_000, () => app.colourOf('[data-testid="preview"]'));
        await app.get('nickname').fill('김철수 & <b>');
        await app.fits();
        await app.screenshot('lobby');
        await app.get('join').click();
        await app.inRoom();
        await until('my own picture', 10_000, () => app.colourOf('[data-testid="tile"].self video'));

        const bob = await enter(browser, server);
        await bob.join('review', 'Bob');
        await appear(bob, BOB);
        await bob.subscribeAll();
        const tile = `[data-testid="tile"][data-participant="${bob.id}"] video`;
        await app.shows(tile, BOB.colour);
        assert.equal(await app.get('participant-count').textContent(), '2');
        const me = await idOf(server, '김철수 & <b>');
        await until('Bob sees me', 15_000, async () => {
            const all = await bob.stats({ participant: me });
            return all.some((one) => one.type === 'inbound-rtp' && one.kind === 'video' && one.framesDecoded > 10);
        });

        await t.test('chat', async () => {
            await app.press('chat-toggle');
            await app.get('chat-input').fill('안녕 <i>Bob</i>');
            await app.get('chat-send').click();
            const { data, name } = await bob.waitFor({ type: 'signal', kind: 'chat' });
            assert.ok(JSON.stringify(data).includes('안녕 <i>Bob</i>'), JSON.stringify(data));
            assert.equal(name, '김철수 & <b>');
            await bob.request('signal', { kind: 'chat', data: typeof data === 'string' ? '<b>hello</b>' : { ...data, text: '<b>hello</b>' } });
            await app.get('chat-message', ':has-text("<b>hello</b>")').waitFor();
            assert.equal(await app.get('chat-message').locator('b, i').count(), 0);
            await app.fits();
            await app.screenshot('chat');
            await app.page.keyboard.press('Escape');
            if (await app.get('chat-input').isVisible()) await closePanel(app);
            await bob.request('signal', { kind: 'chat', data: typeof data === 'string' ? 'again' : { ...data, text: 'again' } });
            await app.get('unread', ':has-text("1")').waitFor();
        });

        await t.test('layout of recordings', async () => {
            await app.press('layout');
            await app.get('layout-grid', ':checked').waitFor({ state: 'attached' });
            await app.page.keyboard.press('ArrowRight');
            await bob.waitFor({ type: 'layout', layout: { kind: 'speaker', labels: true } });
            await app.get('layout-labels').uncheck();
            await bob.waitFor({ type: 'layout', layout: { kind: 'speaker', labels: false } });
            // One right after the other: the second does not take the first back.
            await app.get('layout-pip').check();
            await app.get('layout-labels').check();
            await bob.waitFor({ type: 'layout', layout: { kind: 'pip', labels: true } });
            await app.get('layout-speaker').check();
            await app.get('layout-labels').uncheck();
            await until('both are so', 5_000, async () => {
                const { kind, labels } = (await bob.events('layout')).at(-1).layout;
                return kind === 'speaker' && !labels;
            });
            await app.fits();
            await app.screenshot('layout');
        });

        await t.test('the logo of recordings', async () => {
            const shows = (logo) => until(`the logo is ${JSON.stringify(logo)}`, 5_000, async () => {
                const { logo: now } = (await bob.events('layout')).at(-1).layout;
                return logo ? now && Object.entries(logo).every(([name, value]) => now[name] === value) : !now;
            });
            const file = join(server.folder, 'logo.svg');
            await writeFile(file, '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20" rx="4" fill="#f4a020"/><circle cx="20" cy="10" r="6" fill="#204080"/></svg>');
            assert.ok(!(await app.get('layout-logo-look').isVisible()));
            await app.get('layout-logo-file').setInputFiles(file);
            await shows({ corner: 'top-left', size: 0.12, opacity: 0.9 });
            const [{ id: picture }] = await server.api('GET', '/api/rooms/review/pictures');
            // What the arrow keys only pass is not seen in a recording.
            await app.get('layout-logo-corner').evaluate((select) => {
                for (const corner of ['top-right', 'bottom-left', 'bottom-right']) {
                    select.value = corner;
                    select.dispatchEvent(new Event('change'));
                }
            });
            await shows({ picture, corner: 'bottom-right' });
            const corners = (await bob.events('layout')).map(({ layout }) => layout.logo?.corner).filter(Boolean);
            assert.deepEqual([...new Set(corners)], ['top-left', 'bottom-right']);
            await app.get('layout-logo-size').focus();
            await app.page.keyboard.press('ArrowRight');
            await shows({ picture, corner: 'bottom-right', size: 0.13 });
            await app.get('layout-logo-opacity').fill('50');
            await shows({ size: 0.13, opacity: 0.5 });
            // News do not take a slider out of the hand that holds it.
            const size = app.get('layout-logo-size');
            await size.evaluate((input) => { input.value = '20'; input.dispatchEvent(new Event('input')); });
            await app.get('layout-labels').evaluate((input) => input.click());
            await bob.waitFor({ type: 'layout', layout: { labels: true, logo: { size: 0.13 } } });
            assert.equal(await size.inputValue(), '20');
            await size.evaluate((input) => input.dispatchEvent(new Event('change')));
            await shows({ size: 0.2, opacity: 0.5 });
            await app.get('layout-labels').uncheck();
            await app.get('layout-logo-remove').scrollIntoViewIfNeeded();
            await until('the sample is loaded', 5_000, () => app.page.locator('.layout-logo img').evaluate((image) => image.naturalWidth > 0));
            await app.fits();
            await app.screenshot('layout-logo');
            await app.get('layout-logo-remove').focus();
            await app.page.keyboard.press('Enter');
            await shows(null);
            await app.get('layout-logo', ':focus').waitFor();
            await app.get('layout-logo').selectOption({ value: picture });
            await shows({ picture });
            await app.get('dialog-close').click();
            await app.press('people-toggle');
            const pin = app.page.locator(`[data-testid="person"][data-participant="${bob.id}"] [data-testid="person-pin"]`);
            await pin.click();
            await bob.waitFor({ type: 'layout', layout: { kind: 'speaker', labels: false, pinned: bob.id } });
            await until('the pin is shown', 5_000, async () => (await pin.getAttribute('aria-pressed')) === 'true');
            await app.screenshot('people');
            await app.get('panel-close').click();
        });

        await t.test('record and play', async () => {
            await app.press('record');
            await bob.waitFor({ type: 'recording', recording: { state: 'recording' } }, 10_000);
            await app.get('record-time').waitFor();
            await lasts(bob, 4);
            assert.ok(seconds(await app.get('record-time').textContent()) >= 3);
            await app.fits();
            await app.screenshot('room');
            await app.press('pause');
            await bob.waitFor({ type: 'recording', recording: { state: 'paused' } });
            const stood = await app.get('record-time').textContent();
            await app.screenshot('paused');
            await app.openPanel('recordings');
            await app.get('recording-item', '[data-state="paused"]').waitFor();
            await lasts(bob, 2);
            assert.equal(await app.get('record-time').textContent(), stood);
            assert.equal(await app.get('recording-running').textContent(), stood);
            await app.get('panel-close').click();
            await app.press('pause');
            await until('the time goes on', 5_000, async () => (await app.get('record-time').textContent()) !== stood);
            await app.press('marker');
            await app.get('marker-note').fill('결정 <b>');
            await app.get('marker-save').click();
            await app.get('marker-dialog').waitFor({ state: 'detached' });
            await lasts(bob, 2);
            const shown = seconds(await app.get('record-time').textContent());
            await app.press('record');
            await app.press('recordings-toggle');
            const item = app.get('recording-item', '[data-state="ready"]');
            await item.waitFor({ timeout: 30_000 });
            const [, length] = (await item.textContent()).match(/(\d+:\d\d) · .+ MB · 1 chapter/) ?? assert.fail(await item.textContent());
            assert.ok(shown >= 6 && seconds(length) >= shown && seconds(length) <= shown + 3, `${length}, the page had shown ${shown} s`);
            assert.match(await item.textContent(), /김철수 & <b>, Bob/);
            await app.screenshot('recordings');

            const href = await item.locator('[data-testid="recording-download"]').getAttribute('href');
            const response = await fetch(new URL(href, server.url), { signal: AbortSignal.timeout(20_000) });
            assert.equal(response.status, 200);
            const file = join(server.folder, 'downloaded.mp4');
            await writeFile(file, Buffer.from(await response.arrayBuffer()));
            const list = await frames(file);
            assert.ok(list.length > 70, `${list.length} frames`);
            const widths = list.slice(30).map((frame) => frame.find(BOB.colour)?.width ?? 0);
            assert.ok(Math.min(...widths) > 0.6, `Bob is large in the recording, not ${Math.min(...widths)} of its width`);

            await item.locator('[data-testid="recording-play"]').click();
            await until('the recording plays', 15_000, () =>
                app.page.evaluate(() => document.querySelector('[data-testid="recording-player"]').currentTime > 1));
            const [picture, dialog] = await Promise.all(['recording-player', 'player-dialog'].map((one) => app.get(one).boundingBox()));
            assert.ok(picture.width > 0.6 * dialog.width, `the picture is ${picture.width} wide in ${dialog.width}`);
            await app.screenshot('player');
            const chapter = app.get('chapter', ':has-text("결정 <b>")');
            await chapter.click();
            await until('the chapter is reached', 5_000, async () => (await chapter.getAttribute('aria-current')) === 'true');
            const at = () => app.get('recording-player').evaluate((video) => video.currentTime);
            assert.ok((await at()) > 3);
            await app.get('recording-player').evaluate((video) => video.pause());
            await app.get('timeline').click({ position: { x: 2, y: 8 } });
            await until('the beginning is reached', 5_000, async () => (await at()) < 2);
            await app.page.keyboard.press('Escape');
            // On a phone the list covers the buttons.
            await app.get('panel-close').click();
        });

        await app.press('leave');
        await bob.waitFor({ type: 'participant-left', reason: 'left' });
        assert.deepEqual(app.errors, []);
    });
}

async function closePanel(app) {
    if (app.device === 'phone') await app.get('panel-close').click();
    else await app.press('chat-toggle');
}

async function idOf(server, name) {
    const { participants } = await server.api('GET', '/api/rooms/review');
    return participants.find((one) => one.name === name).id;
}

/** Of a time as the page writes it, `m:ss`. */
function seconds(text) {
    const [, minutes, rest] = text.match(/(\d+):(\d\d)/);
    return 60 * Number(minutes) + Number(rest);
}

test('a wrong PIN is said, and the right one opens', async (t) => {
    const server = await startServer(t);
    await server.api('POST', '/api/rooms', { name: 'locked', pin: '2718' });
    const app = await openApp(await launch(t), server, '/r/locked');
    await app.join('Ann');
    await app.get('lobby-error', '[data-code="pin_required"]').waitFor();
    await app.join('Ann', '1111');
    await app.get('lobby-error', '[data-code="wrong_pin"]').waitFor();
    await app.screenshot('wrong-pin');
    await app.join('Ann', '2718');
    await app.inRoom();
    assert.deepEqual(app.errors, []);
});

test('a full room is said to be full, and lets in when somebody goes', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    await server.api('POST', '/api/rooms', { name: 'small', max_participants: 1 });
    const bob = await enter(browser, server);
    await bob.join('small', 'Bob');
    const app = await openApp(browser, server, '/r/small');
    await app.join('Ann');
    await app.get('lobby-error', '[data-code="room_full"]').waitFor();
    await app.screenshot('room-full');
    await bob.leave();
    await until('the place is free', 5_000, async () => (await server.api('GET', '/api/rooms/small')).participants.length === 0);
    await app.get('join').click();
    await app.inRoom();
    assert.deepEqual(app.errors, []);
});

for (const [what, args] of [
    ['permission is denied', ['--use-fake-device-for-media-stream', '--deny-permission-prompts']],
    ['there is no camera', []],
]) {
    test(`when ${what}, that is said, and one can enter, watch and chat`, async (t) => {
        const server = await startServer(t);
        const bob = await enter(await launch(t), server);
        await bob.join('bare', 'Bob');
        await appear(bob, BOB);
        const app = await openApp(await launch(t, { devices: false, args }), server, '/r/bare');
        await app.get('device-problem').locator('p').first().waitFor();
        await app.screenshot(what.replaceAll(' ', '-'));
        await app.join('Ann');
        await app.inRoom();
        await app.shows(`[data-testid="tile"][data-participant="${bob.id}"] video`, BOB.colour);
        await app.press('chat-toggle');
        await app.get('chat-input').fill('I only watch');
        await app.get('chat-send').click();
        await bob.waitFor({ type: 'signal', kind: 'chat', name: 'Ann' });
        assert.deepEqual(app.errors, []);
    });
}

test('a lost connection is said, and comes back by itself', { timeout: 90_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const app = await openApp(browser, server, '/r/back');
    await app.join('Ann');
    await app.inRoom();
    await server.kill();
    await app.get('banner').first().waitFor();
    await app.screenshot('connection-lost');
    await server.start();
    await until('Ann is in the room again', 30_000, async () => {
        const { participants } = await server.api('GET', '/api/rooms/back');
        return participants.some((one) => one.name === 'Ann' && one.tracks.length === 2);
    });
    await app.get('banner').first().waitFor({ state: 'detached' });
    const bob = await enter(browser, server);
    const { room } = await bob.join('back', 'Bob');
    await bob.subscribeAll();
    const ann = room.participants.find(({ name }) => name === 'Ann');
    await until('Bob sees Ann', 15_000, async () => (await bob.look(ann.id))?.frames > 5);
});

test('killing a browser frees its participant within ten seconds', async (t) => {
    const server = await startServer(t);
    const ann = await enter(await launch(t), server);
    await ann.join('crash', 'Ann');
    await ann.subscribeAll();
    const doomed = await launch(t);
    const bob = await enter(doomed, server);
    await bob.join('crash', 'Bob');
    await appear(bob, BOB);
    await sees(ann, bob, BOB);
    const began = Date.now();
    await crash(doomed);
    await ann.waitFor({ type: 'participant-left', participant: bob.id, reason: 'lost' }, 10_000);
    t.diagnostic(`freed after ${Date.now() - began} ms`);
    assert.ok(Date.now() - began <= 10_000);
    const { participants } = await server.api('GET', '/api/rooms/crash');
    assert.deepEqual(participants.map(({ name }) => name), ['Ann']);
});
