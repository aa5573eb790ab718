// The effects drawer: what is put on there, and changed, is what the others see.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { sees } from './call.mjs';
import { run } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const RED = [200, 32, 32];
const BLUE = [32, 32, 200];
const MIX = { id: 'mix', name: 'the mix' };
const hex = (colour) => `#${colour.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
const opposite = (colour) => colour.map((value) => 255 - value);

// A browser whose camera shows one colour.
async function launchWithCamera(t, server, colour) {
    const file = join(server.folder, 'camera.y4m');
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-y', '-f', 'lavfi', '-i', `color=c=0x${hex(colour).slice(1)}:s=640x360:r=20:d=0.2`, '-pix_fmt', 'yuv420p', file]);
    return launch(t, { args: [`--use-file-for-fake-video-capture=${file}`] });
}

const effect = (app, name) => app.get('effect', `[data-effect="${name}"]`);
const param = (app, name, parameter) => effect(app, name).locator(`[data-param="${parameter}"]`);
const order = (app) => app.get('effect').evaluateAll((cards) => cards.map((card) => card.dataset.effect));

async function add(app, name) {
    // It opens by itself where there is no effect yet, as soon as that is known.
    const button = app.get('effect-add', `[data-effect="${name}"]`);
    await button.waitFor({ state: 'attached' });
    for (let tries = 0; tries < 3 && !(await button.isVisible()); tries++) await app.get('effects-add').click();
    await button.click();
    await effect(app, name).first().waitFor();
}

for (const device of [DESK, PHONE]) {
    test(`effects are switched on, changed, ordered and removed in the drawer, on a ${device.name}`, { timeout: 120_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launchWithCamera(t, server, RED);
        const app = await openApp(browser, server, '/r/effects', device);
        await app.join('Ann');
        await app.inRoom();
        const ann = { id: await app.ownId(), name: 'Ann' };
        const bob = await enter(browser, server);
        await bob.join('effects', 'Bob', { role: 'viewer' });
        await bob.subscribeAll();
        await sees(bob, ann, { colour: RED });

        await app.press('effects-toggle');
        await app.get('effects-empty').waitFor();
        const preview = '[data-testid="effects-preview"]';
        await app.shows(preview, RED);
        await app.fits();
        await app.screenshot('effects-empty');

        await t.test('the cards show the effects on the live picture', async () => {
            // The file's own picture has many colours; what is made of a red camera has one.
            await app.get('effect-add', '[data-effect="negative"]').scrollIntoViewIfNeeded();
            await app.get('effect-add', '[data-effect="negative"]').locator('img.live').waitFor();
            const shown = '[data-testid="effect-add"][data-effect="negative"] img.live';
            await app.shows(shown, opposite(RED));
            const first = await app.page.locator(shown).getAttribute('src');
            await until('another picture', 10_000, async () => (await app.page.locator(shown).getAttribute('src')) !== first);
            assert.equal(await app.page.locator('[data-testid="effect-add"][data-effect="pitch"] img').count(), 0, 'a sound has none');
            await app.screenshot('effects-live');
        });

        await t.test('an effect, and its parameters live', async () => {
            await add(app, 'chroma-key');
            await param(app, 'chroma-key', 'key').fill(hex(RED));
            await param(app, 'chroma-key', 'behind').fill(hex(BLUE));
            await sees(bob, ann, { colour: BLUE });
            await app.shows(preview, BLUE);
            // What it takes of a processor is measured, and told.
            await app.get('effect-cost').filter({ hasText: /^\d+\.\d\d ms$/ }).waitFor();
            await app.screenshot('effects-cost');
            const { frames } = await bob.look(ann);
            await param(app, 'chroma-key', 'behind').fill(hex([32, 160, 32]));
            await sees(bob, ann, { colour: [32, 160, 32] });
            assert.ok((await bob.look(ann)).frames > frames);
            await param(app, 'chroma-key', 'behind').fill(hex(BLUE));
        });

        await t.test('the order, by keyboard and by dragging', async () => {
            await add(app, 'negative');
            await sees(bob, ann, { colour: opposite(BLUE) });
            const up = effect(app, 'negative').locator('[data-testid="effect-up"]');
            await up.focus();
            await app.page.keyboard.press('Enter');
            // Now it is the opposite of red that comes to the key, which does not know it.
            await sees(bob, ann, { colour: opposite(RED) });
            assert.deepEqual(await order(app), ['negative', 'chroma-key']);
            const focus = await app.page.evaluate(() => document.activeElement.closest('[data-effect]')?.dataset.effect);
            assert.equal(focus, 'negative', 'the focus goes with the effect');
            await app.fits();
            await app.screenshot('effects-chain');
            if (device === DESK) {
                await drag(app, effect(app, 'negative'), effect(app, 'chroma-key'));
                assert.deepEqual(await order(app), ['chroma-key', 'negative']);
                await sees(bob, ann, { colour: opposite(BLUE) });
            }
        });

        await t.test('taken off again', async () => {
            await effect(app, 'negative').locator('[data-testid="effect-remove"]').click();
            await effect(app, 'chroma-key').locator('[data-testid="effect-remove"]').click();
            await sees(bob, ann, { colour: RED });
            await app.get('effects-empty').waitFor();
        });

        await t.test('what somebody else changes is shown, and what is refused is taken back', async () => {
            await server.api('PUT', `/api/rooms/effects/participants/${ann.id}/effects`, [{ name: 'text', params: { text: 'Ann & <b>', x: 0.25 } }]);
            await until('the text is there', 5_000, async () => (await param(app, 'text', 'text').inputValue()) === 'Ann & <b>');
            assert.equal(await param(app, 'text', 'x').inputValue(), '0.25');
            await app.get('place-marker').waitFor();
            const box = await app.page.locator('.effects-frame').boundingBox();
            await app.page.mouse.move(box.x + box.width / 4, box.y + box.height / 2);
            await app.page.mouse.down();
            await app.page.mouse.move(box.x + 0.75 * box.width, box.y + box.height / 2, { steps: 4 });
            await app.page.mouse.up();
            await until('the text has moved', 5_000, async () => {
                const { participants } = await server.api('GET', '/api/rooms/effects');
                const { x, y } = participants[0].effects[0].params;
                return Math.abs(x - 0.75) < 0.02 && Math.abs(y - 0.5) < 0.02;
            });
            await server.api('PUT', `/api/rooms/effects/participants/${ann.id}/effects`, []);
            await app.get('effects-empty').waitFor();
        });

        if (device === DESK) await t.test('the whole room', () => wholeRoom(app, bob));
        assert.deepEqual(app.errors, []);
    });
}

async function wholeRoom(app, bob) {
    await app.get('effects-of').selectOption('mix');
    await bob.request('subscribe', { mix: true });
    await sees(bob, MIX, { colour: RED });
    await add(app, 'negative');
    await sees(bob, MIX, { colour: opposite(RED) });
    await app.shows('[data-testid="effects-preview"]', opposite(RED));
    await add(app, 'gain');
    for (const name of ['negative', 'gain']) await effect(app, name).locator('[data-testid="effect-cost"]').waitFor();
    await app.screenshot('effects-mix');
    for (const name of ['negative', 'gain']) await effect(app, name).locator('[data-testid="effect-remove"]').click();
    await sees(bob, MIX, { colour: RED });
    await app.get('effects-of').selectOption({ index: 0 });
}

async function drag(app, from, to) {
    const handle = await from.locator('[data-testid="effect-drag"]').boundingBox();
    const goal = await to.boundingBox();
    await app.page.mouse.move(handle.x + handle.width / 2, handle.y + handle.height / 2);
    await app.page.mouse.down();
    await app.page.mouse.move(handle.x + handle.width / 2, goal.y + goal.height, { steps: 6 });
    await app.page.mouse.up();
}

for (const device of [DESK, PHONE]) {
    test(`a moderator sees somebody without his effects, who has them to all others, on a ${device.name}`, { timeout: 90_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const app = await openApp(browser, server, '/r/clean', device);
        await app.join('Ann');
        await app.inRoom();
        const [bob, cleo] = await Promise.all([0, 1].map(() => enter(browser, server)));
        const { participant } = await bob.join('clean', 'Bob');
        await bob.publish({ video: { colour: `rgb(${RED})`, width: 320, height: 180, fps: 20 } });
        await cleo.join('clean', 'Cleo', { role: 'viewer' });
        await cleo.subscribeAll();
        await server.api('PUT', `/api/rooms/clean/participants/${participant}/effects`, [{ name: 'negative' }]);
        const theBob = { id: participant, name: 'Bob' };
        await sees(cleo, theBob, { colour: opposite(RED) });
        await app.press('effects-toggle');
        const clean = app.get('effects-clean');
        await app.get('effects-empty').waitFor();
        assert.equal(await clean.isVisible(), false, 'of oneself it is not asked');
        await app.get('effects-of').selectOption(participant);
        const preview = '[data-testid="effects-preview"]';
        await app.shows(preview, opposite(RED));
        await clean.check();
        await app.shows(preview, RED);
        await app.fits();
        await app.screenshot('effects-clean');
        await sees(cleo, theBob, { colour: opposite(RED) });
        await clean.uncheck();
        await app.shows(preview, opposite(RED));
        const refused = await cleo.request('subscribe', { participant, effects: false }).catch((error) => error);
        assert.match(String(refused.code ?? refused.message ?? refused), /not_allowed/);

        // His screen has effects of its own, and only those.
        await bob.publish({ connection: 'screen', source: 'screen', video: { colour: `rgb(${BLUE})`, width: 640, height: 360, fps: 10 } });
        await sees(cleo, theBob, { colour: BLUE }, { source: 'screen' });
        await app.get('effects-of').locator('option[value^="track:"]').waitFor({ state: 'attached' });
        await app.get('effects-of').selectOption({ label: 'Bob\'s screen' });
        await app.get('effects-empty').waitFor();
        await app.shows(preview, BLUE);
        assert.equal(await app.get('effect-add', '[data-effect="gain"]').count(), 0, 'a picture has no sound');
        await add(app, 'negative');
        await sees(cleo, theBob, { colour: opposite(BLUE) }, { source: 'screen' });
        await app.shows(preview, opposite(BLUE));
        await effect(app, 'negative').locator('[data-testid="effect-cost"]').waitFor();
        await app.fits();
        await app.screenshot('effects-screen');
        await effect(app, 'negative').locator('[data-testid="effect-remove"]').click();
        await sees(cleo, theBob, { colour: BLUE }, { source: 'screen' });
        await sees(cleo, theBob, { colour: opposite(RED) });
        assert.deepEqual(app.errors, []);
    });
}

test('every effect that is offered runs in a live room', { timeout: 180_000 }, async (t) => {
    const server = await startServer(t, { env: { SALON_LOG: 'warn' } });
    const browser = await launchWithCamera(t, server, RED);
    const app = await openApp(browser, server, '/r/all');
    await app.join('Ann');
    await app.inRoom();
    const ann = { id: await app.ownId(), name: 'Ann' };
    const bob = await enter(browser, server);
    await bob.join('all', 'Bob', { role: 'viewer' });
    await bob.subscribeAll();
    await sees(bob, ann, { colour: RED });
    await app.press('effects-toggle');
    await app.get('effects-empty').waitFor();
    const names = await app.get('effect-add').evaluateAll((buttons) => buttons.map(({ dataset }) => dataset.effect));
    assert.ok(names.length >= 31, `${names}`);
    while (names.length) {
        // The room's budget is for real rooms: a few dear ones at once.
        const some = names.splice(0, 4);
        for (const name of some) await add(app, name);
        assert.deepEqual(await order(app), some);
        await until(`frames with ${some}`, 20_000, async () => {
            const { participants } = await server.api('GET', '/api/rooms/all');
            return participants[0].effects.length === some.length;
        });
        const { frames } = await bob.look(ann);
        await until(`the picture moves on with ${some}`, 20_000, async () => (await bob.look(ann)).frames > frames + 10);
        for (const name of some) await effect(app, name).locator('[data-testid="effect-remove"]').click();
        await app.get('effects-empty').waitFor();
    }
    await sees(bob, ann, { colour: RED });
    assert.equal(await app.get('notice').filter({ hasText: 'failed' }).count(), 0);
    assert.deepEqual(app.errors, []);
});

test('a picture of one\'s own is uploaded, or dropped, and lies over the picture', { timeout: 90_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launchWithCamera(t, server, RED);
    const app = await openApp(browser, server, '/r/own');
    await app.join('Ann');
    await app.inRoom();
    const ann = { id: await app.ownId(), name: 'Ann' };
    const bob = await enter(browser, server);
    await bob.join('own', 'Bob', { role: 'viewer' });
    await bob.subscribeAll();
    await sees(bob, ann, { colour: RED });
    const picture = await colourPng(server, BLUE);
    await app.press('effects-toggle');
    await add(app, 'image-overlay');
    await effect(app, 'image-overlay').locator('[data-testid="picture-file"]').setInputFiles(picture);
    // As wide as the frame, and higher: it covers all of it.
    await param(app, 'image-overlay', 'size').fill('1');
    await sees(bob, ann, { colour: BLUE });
    await param(app, 'image-overlay', 'opacity').fill('0.5');
    await sees(bob, ann, { colour: RED.map((value, channel) => (value + BLUE[channel]) / 2) });
    await app.fits();
    await app.screenshot('effects-picture');
    await effect(app, 'image-overlay').locator('[data-testid="effect-remove"]').click();
    await sees(bob, ann, { colour: RED });

    // Dropped beside all cards it is an effect of its own, on a card it is that effect's.
    const green = [...await readFile(await colourPng(server, [32, 160, 32]))];
    await app.page.locator('.effects').evaluate(dropFile, { bytes: green, type: 'image/png' });
    await effect(app, 'image-overlay').waitFor();
    await param(app, 'image-overlay', 'size').fill('1');
    await sees(bob, ann, { colour: [32, 160, 32] });
    await effect(app, 'image-overlay').evaluate(dropFile, { bytes: [...await readFile(picture)], type: 'image/png' });
    await sees(bob, ann, { colour: BLUE });
    assert.deepEqual(await order(app), ['image-overlay']);
    const pictures = await server.api('GET', '/api/rooms/own/pictures');
    assert.deepEqual(pictures.map(({ width, height }) => [width, height]), [[64, 64], [64, 64], [64, 64]]);

    await app.page.locator('.effects').evaluate(dropFile, { bytes: [60, 60, 60], type: 'image/png' });
    await app.get('notice').filter({ hasText: 'This picture cannot be used' }).waitFor();
    assert.deepEqual(app.errors, []);
});

// Runs in the page.
function dropFile(element, { bytes, type }) {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], 'picture', { type }));
    element.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
}

async function colourPng(server, colour) {
    const file = join(server.folder, `${hex(colour).slice(1)}.png`);
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-y', '-f', 'lavfi', '-i', `color=c=0x${hex(colour).slice(1)}:s=64x64`, '-frames:v', '1', '-pix_fmt', 'rgb24', file]);
    return file;
}

test('a list that cannot be loaded says so, and is asked for again', async (t) => {
    const server = await startServer(t);
    const app = await openApp(await launch(t), server, '/r/list');
    await app.join('Ann');
    await app.inRoom();
    await app.page.route('**/api/effects', (route) => route.abort());
    await app.press('effects-toggle');
    await app.get('effects-problem').waitFor();
    await app.screenshot('effects-problem');
    await app.page.unroute('**/api/effects');
    await app.get('effects-try-again').click();
    await app.get('effect-add').first().waitFor();
    assert.equal(await app.get('effects-problem').isVisible(), false);
    assert.deepEqual(app.errors, []);
});
