// What the page offers beside its main way: each button does what it says, and the others see it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { DESK, openApp } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { appear, BOB, CLEO, css, sees } from './call.mjs';
import { near } from './content.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';
import { makeWire } from './wire.mjs';

test('what one does, the other sees', { timeout: 90_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const ann = await openApp(browser, server, '/r/seen');
    await ann.join('Ann');
    await ann.inRoom();
    await ann.page.context().grantPermissions(['camera', 'microphone', 'clipboard-read', 'clipboard-write']);
    let bob;

    await t.test('the copied invitation opens the same room', async () => {
        await ann.get('alone-copy').click();
        const link = await ann.page.evaluate(() => navigator.clipboard.readText());
        await ann.press('invite');
        assert.equal(await ann.get('invite-link').inputValue(), link);
        const srt = new RegExp(`^${server.srtUrl}\\?streamid=seen/mix/a_\\w+$`);
        assert.match(await ann.get('invite-srt').getAttribute('data-address'), srt);
        await ann.page.keyboard.press('Escape');
        await ann.get('invite-dialog').waitFor({ state: 'detached' });

        bob = await openApp(browser, { ...server, url: '' }, link);
        assert.equal(await bob.get('room-name').textContent(), 'seen');
        await bob.join('Bob');
        await bob.inRoom();
        await ann.get('alone').waitFor({ state: 'hidden' });
    });
    const [annId, bobId] = [await ann.ownId(), await bob.ownId()];
    const [annAtBob, bobAtAnn] = [bob.tile(annId), ann.tile(bobId)];
    await Promise.all([bob.movesOn(annAtBob.locator('video')), ann.movesOn(bobAtAnn.locator('video'))]);

    await t.test('a muted microphone', async () => {
        const badge = annAtBob.locator('[data-testid="tile-muted"]');
        assert.equal(await badge.isVisible(), false);
        await ann.press('mic');
        await badge.waitFor();
        await ann.press('mic');
        await badge.waitFor({ state: 'hidden' });
    });

    await t.test('a camera that is off shows initials, and its picture when it is on again', async () => {
        const drawn = () => annAtBob.locator('video').evaluate((video) => getComputedStyle(video).opacity === '1');
        assert.equal(await drawn(), true);
        await ann.press('camera');
        await until('the slate', 5_000, async () => !(await drawn()));
        assert.equal(await annAtBob.locator('.initials').textContent(), 'A');
        await ann.press('camera');
        await until('the picture', 10_000, drawn);
        await bob.movesOn(annAtBob.locator('video'));
    });

    await t.test('a new name', async () => {
        await bob.press('people-toggle');
        await bob.get('rename-input').fill('로버트 <i>');
        await bob.get('rename-save').click();
        await bobAtAnn.locator('[data-testid="tile-name"]', { hasText: '로버트 <i>' }).waitFor();
        await ann.press('people-toggle');
        await ann.get('person', `[data-participant="${bobId}"]`).filter({ hasText: '로버트 <i>' }).waitFor();
    });

    await t.test('a moderator mutes and is heard of', async () => {
        await ann.get('person', `[data-participant="${bobId}"]`).locator('[data-testid="person-mute"]').click();
        await bob.get('notice').filter({ hasText: 'A moderator muted your microphone' }).waitFor();
        await until("Bob's button says so", 5_000, async () => (await bob.get('mic').getAttribute('aria-pressed')) === 'false');
        await bob.press('mic');
        await bobAtAnn.locator('[data-testid="tile-muted"]').waitFor({ state: 'hidden' });
    });

    await t.test('a shared screen is large, but not for oneself', async () => {
        await bob.press('screen');
        const screen = ann.tile(bobId, 'screen');
        await screen.waitFor();
        await ann.movesOn(screen.locator('video'), 3);
        await until('it is large', 5_000, async () => {
            const [large, small] = await Promise.all([screen.boundingBox(), bobAtAnn.boundingBox()]);
            return (await screen.getAttribute('class')).includes('large') && large.width > 2 * small.width;
        });
        assert.equal(await screen.locator('[data-testid="tile-name"]').textContent(), "로버트 <i>'s screen");
        const own = bob.tile(bobId, 'screen');
        await own.waitFor();
        assert.ok(!(await own.getAttribute('class')).includes('large'));
        await ann.screenshot('screen');
        await bob.press('screen');
        await screen.waitFor({ state: 'detached' });
        await own.waitFor({ state: 'detached' });
    });

    await t.test('the full screen, of a tile and of the page', async () => {
        const full = (selector) => ann.page.evaluate((selector_) => Boolean(document.fullscreenElement?.matches(selector_)), selector);
        await bobAtAnn.hover();
        const button = bobAtAnn.locator('[data-testid="tile-fullscreen"]');
        await button.click();
        await until('the tile is the screen', 5_000, () => full(`[data-participant="${bobId}"]`));
        await until('it fills it', 5_000, async () => {
            const [tile, window] = [await bobAtAnn.boundingBox(), await ann.page.evaluate(() => [innerWidth, innerHeight])];
            return tile.width >= window[0] - 1 && tile.height >= window[1] - 1;
        });
        assert.equal(await button.getAttribute('aria-label'), 'Leave full screen');
        await button.click();
        await until('it is left', 5_000, () => ann.page.evaluate(() => !document.fullscreenElement));
        await ann.press('fullscreen');
        await until('the page is the screen', 5_000, () => full('html'));
        await ann.press('fullscreen');
        await until('it is left', 5_000, () => ann.page.evaluate(() => !document.fullscreenElement));
    });

    await t.test('a pinned tile is large', async () => {
        await bobAtAnn.hover();
        await bobAtAnn.locator('[data-testid="tile-pin"]').click();
        const own = ann.tile(annId);
        await until('it is larger', 5_000, async () => (await bobAtAnn.boundingBox()).width > 2 * (await own.boundingBox()).width);
        await bobAtAnn.locator('[data-testid="tile-pin"]').click();
        await until('it is not', 5_000, async () => Math.abs((await bobAtAnn.boundingBox()).width - (await own.boundingBox()).width) < 2);
    });

    await t.test('a removed person is told so', async () => {
        await ann.get('person', `[data-participant="${bobId}"]`).locator('[data-testid="person-remove"]').click();
        await bob.get('ended', '[data-reason="removed"]').waitFor();
        await bobAtAnn.waitFor({ state: 'detached' });
    });
    assert.deepEqual([...ann.errors, ...bob.errors], []);
});

test('a latecomer is told of the recording, and who moderates next may stop it', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const ann = await openApp(browser, server, '/r/turns');
    await ann.join('Ann');
    await ann.inRoom();
    await ann.press('record');
    await ann.get('record-time').waitFor();
    await until('some of it is recorded', 15_000, async () => (await ann.get('record-time').textContent()) >= '0:02');

    const bob = await openApp(browser, server, '/r/turns');
    await bob.join('Bob');
    await bob.get('recording-badge').waitFor();
    await bob.get('notice').filter({ hasText: 'This room is being recorded.' }).waitFor();
    await until('both badges tell the same time', 5_000, async () => {
        const [own, other] = await Promise.all([ann, bob].map((app) => app.get('record-time').textContent()));
        return own === other && own >= '0:03';
    });
    // Disabled in meaning only, which Playwright respects and a person may not.
    await bob.get('record').click({ force: true });
    await bob.get('notice').filter({ hasText: 'Only a moderator can record.' }).waitFor();
    assert.equal(await bob.get('pause').isVisible(), false);

    await ann.press('leave');
    await bob.get('notice').filter({ hasText: 'You are the moderator now.' }).waitFor();
    await bob.press('record');
    await bob.get('notice').filter({ hasText: 'The recording is ready.' }).waitFor({ timeout: 30_000 });
    await bob.get('recording-badge').waitFor({ state: 'hidden' });
    assert.deepEqual([...ann.errors, ...bob.errors], []);
});

test('a camera that the server fetches is told from people, and how it stands', async (t) => {
    const server = await startServer(t, { env: { SALON_INGEST_ALLOW: '127.0.0.0/8' } });
    const app = await openApp(await launch(t), server, '/r/yard');
    await app.join('Ann');
    await app.inRoom();
    // Nobody answers at port 1.
    await server.api('POST', '/api/rooms/yard/ingests', { uri: 'rtsp://127.0.0.1:1/gate', name: 'Gate' });
    await app.press('people-toggle');
    await app.get('person').filter({ hasText: 'Gate' }).filter({ hasText: 'Camera, no signal' }).waitFor();
    assert.deepEqual(app.errors, []);
});

test('whoever speaks has a ring, and nobody else', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const app = await openApp(browser, server, '/r/ring');
    await app.join('Ann');
    await app.inRoom();
    const [bob, cleo] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await bob.join('ring', 'Bob');
    await cleo.join('ring', 'Cleo');
    await appear(bob, { ...BOB, beep: 0 });
    await cleo.publish({ video: { colour: css(CLEO.colour) } });
    // The ring as it is drawn: the frame over the picture.
    const ring = (participant) => app.tile(participant.id).evaluate((tile) => {
        const frame = getComputedStyle(tile, '::after');
        return frame.borderTopStyle === 'solid' && !/, 0\)$|transparent/.test(frame.borderTopColor);
    });
    await until('Bob has a ring', 10_000, () => ring(bob));
    assert.equal(await ring(cleo), false);
    await bob.setTone('main', false);
    await until('he falls silent', 5_000, async () => !(await ring(bob)));
    await bob.setTone('main', true);
    await until('he speaks again', 5_000, () => ring(bob));
    assert.deepEqual(app.errors, []);
});

test('sound that the browser holds back is told, and a click lets it out', async (t) => {
    const server = await startServer(t);
    const bob = await enter(await launch(t), server);
    await bob.join('quiet', 'Bob');
    await appear(bob, BOB);
    // A page that sends a camera may play: it is the viewer's that may not. To Chromium, all that
    // Playwright does in a page is a gesture, so the page enters by itself and tells what it shows.
    const app = await openApp(await launch(t, { autoplay: false, devices: false }), server, '/r/quiet', {
        ...DESK, before: (page) => page.addInitScript(enterAsViewer), until: (text) => text === 'banner: sound',
    });
    const video = app.tile(bob.id).locator('video');
    await app.get('banner', '[data-banner="sound"]').waitFor();
    await app.shows(`[data-testid="tile"][data-participant="${bob.id}"] video`, BOB.colour);
    assert.equal(await video.evaluate(({ muted }) => muted), true);
    await app.fits();
    await app.screenshot('sound-blocked');
    await app.get('sound-on').click();
    await until('the sound is on', 5_000, () => video.evaluate(({ muted, paused }) => !muted && !paused));
    await app.get('banner', '[data-banner="sound"]').waitFor({ state: 'detached' });
    await app.movesOn(video);
    assert.deepEqual(app.errors, []);
});

// Runs in the page.
function enterAsViewer() {
    new MutationObserver(() => {
        const form = document.querySelector('form.entry:not([data-sent])');
        if (form) {
            form.dataset.sent = '';
            form.querySelector('[data-testid="nickname"]').value = 'Vera';
            form.querySelector('[data-testid="viewer"]').checked = true;
            form.requestSubmit();
        }
        const banner = document.querySelector('[data-testid="banner"]');
        if (banner) console.info(`banner: ${banner.dataset.banner}`);
    }).observe(document, { childList: true, subtree: true });
}

test('the lobby: devices are chosen, the level moves, a PIN is set for a new room', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t, { args: ['--use-fake-device-for-media-stream=device-count=2'] });
    const app = await openApp(browser, server, '/r/choice');
    const cameraOf = () => app.get('preview').evaluate(({ srcObject }) => srcObject?.getVideoTracks()[0]?.getSettings().deviceId);
    const first = await until('the preview', 10_000, cameraOf);
    const other = await until('two cameras', 5_000, () => app.get('camera-select').evaluate((select, known) =>
        [...select.options].map(({ value }) => value).find((value) => value && value !== known), first));
    await app.get('camera-select').selectOption(other);
    await until('the other camera', 10_000, async () => (await cameraOf()) === other);
    // Chromium's false microphone beeps.
    const level = async () => Number(await app.get('mic-level').getAttribute('aria-valuenow'));
    await until('the level rises', 10_000, async () => (await level()) > 10, 20);
    await app.get('mic').click();
    await until('it falls', 5_000, async () => (await level()) === 0);

    await app.get('options').locator('summary').click();
    await app.get('new-pin').fill('2718');
    await app.join('Ann');
    await app.inRoom();
    assert.equal((await server.api('GET', '/api/rooms/choice')).has_pin, true);
    const sent = await until('what Ann sends', 10_000, async () => {
        const { participants } = await server.api('GET', '/api/rooms/choice');
        return participants[0].tracks.length === 2 && participants[0].tracks;
    });
    assert.equal(sent.find(({ source }) => source === 'microphone').muted, true);
    const bob = await enter(browser, server);
    await assert.rejects(bob.join('choice', 'Bob'), /pin_required/);
    assert.deepEqual(app.errors, []);
});

test("the panel's width is set by keyboard, and remembered", async (t) => {
    const server = await startServer(t);
    const app = await openApp(await launch(t), server, '/r/width');
    await app.join('Ann');
    await app.inRoom();
    await app.press('chat-toggle');
    const width = async () => (await app.get('panel').boundingBox()).width;
    const before = await width();
    await app.get('panel-separator').focus();
    await app.page.keyboard.press('ArrowLeft');
    await app.page.keyboard.press('ArrowLeft');
    assert.equal(await width(), before + 40);
    await app.page.keyboard.press('End');
    assert.equal(await width(), Number(await app.get('panel-separator').getAttribute('aria-valuemax')));
    await app.page.keyboard.press('Home');
    const least = await width();
    assert.equal(least, Number(await app.get('panel-separator').getAttribute('aria-valuemin')));
    // A reload comes back into the room, as the same participant.
    const id = await app.ownId();
    await app.page.reload();
    await app.inRoom();
    assert.equal(await app.ownId(), id);
    await app.press('chat-toggle');
    assert.equal(await width(), least);
    assert.deepEqual(app.errors, []);
});

test('the connection is lost and comes back, and media flows meanwhile', { timeout: 90_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const wire = await makeWire(server);
    t.after(() => wire.close());
    const app = await openApp(browser, { ...server, url: wire.url, note: (line) => server.note(line) }, '/r/wire');
    await app.join('Ann');
    await app.inRoom();
    const bob = await enter(browser, server);
    await bob.join('wire', 'Bob');
    await Promise.all([appear(bob, BOB), bob.subscribeAll()]);
    const ann = { id: await app.ownId(), name: 'Ann' };
    const banner = app.get('banner', '[data-banner="connection"]');
    const video = app.tile(bob.id).locator('video');
    await app.movesOn(video);

    await t.test('for a moment: the same participant, without a gap', async () => {
        wire.pull();
        await banner.waitFor();
        await app.fits();
        await app.screenshot('connection-lost');
        await app.movesOn(video);
        wire.plug();
        await app.get('notice').filter({ hasText: 'Connected again.' }).waitFor();
        await banner.waitFor({ state: 'detached' });
        assert.equal(await app.ownId(), ann.id);
        await bob.request('signal', { kind: 'chat', data: { text: 'still there?' } });
        await app.get('unread').filter({ hasText: '1' }).waitFor();
        await app.movesOn(video);
        assert.deepEqual(await bob.events('participant-left'), []);
    });

    await t.test('for longer than a place is kept: a new stay, with everything in it', async () => {
        wire.pull();
        await bob.waitFor({ type: 'participant-left', participant: ann.id, reason: 'lost' });
        await banner.waitFor();
        wire.plug();
        await app.get('notice').filter({ hasText: 'You have re-entered the room.' }).waitFor({ timeout: 20_000 });
        await banner.waitFor({ state: 'detached' });
        const { participant } = await bob.waitFor({ type: 'participant-joined', participant: { name: 'Ann' } }, 15_000)
            .then(() => bob.events('participant-joined')).then((all) => all.at(-1));
        assert.notEqual(participant.id, ann.id);
        await app.shows(`[data-testid="tile"][data-participant="${bob.id}"] video`, BOB.colour);
        await app.movesOn(video);
        await until('Bob sees Ann again', 15_000, async () => (await bob.look(participant.id))?.frames > 5);
    });
    assert.deepEqual(app.errors, []);
});
