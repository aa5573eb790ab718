// The page for everybody: by keyboard alone, in light and dark, in Korean.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import { DESK, openApp, PHONE } from './app.mjs';
import { enter, launch } from './browser.mjs';
import { appear, BOB, lasts } from './call.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';
import { makeWire } from './wire.mjs';

const MOST_STOPS = 60;
// WCAG 2.2, 1.4.3 and 1.4.11: text, large text, and what tells a control or its focus.
const TEXT_CONTRAST = 4.5;
const LARGE_TEXT_CONTRAST = 3;

test('from the lobby to the end with a keyboard alone', { timeout: 60_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const app = await openApp(browser, server, '/');
    const { keyboard } = app.page;
    await until('the first field has the focus', 5_000, async () => (await focused(app)).testid === 'room');
    await keyboard.type('keys');
    await keyboard.press('Enter');
    await until('the name has the focus', 5_000, async () => (await focused(app)).testid === 'nickname');
    await keyboard.type('Ann');
    await tabTo(app, 'mic');
    await keyboard.press('Space');
    assert.equal(await app.get('mic').getAttribute('aria-pressed'), 'false');
    await keyboard.press('Space');
    await tabTo(app, 'join');
    await keyboard.press('Enter');
    await app.inRoom();
    const bob = await enter(browser, server);
    await bob.join('keys', 'Bob');
    await appear(bob, BOB);
    await app.tile(bob.id).waitFor();

    // Every stop shows that it has the focus, and the way round is not a trap.
    const stops = await tabRound(app);
    for (const needed of ['tile-pin', 'mic', 'camera', 'screen', 'record', 'layout', 'chat-toggle', 'people-toggle', 'recordings-toggle', 'invite', 'settings', 'help', 'leave', 'language', 'theme']) {
        assert.ok(stops.includes(needed), `${needed} is not among the stops: ${stops}`);
    }

    await tabTo(app, 'mic');
    await keyboard.press('Space');
    await bob.waitFor({ type: 'track-updated', track: { source: 'microphone', muted: true } });
    await keyboard.press('m');
    await bob.waitFor({ type: 'track-updated', track: { source: 'microphone', muted: false } });

    await keyboard.press('c');
    await until('the message has the focus', 5_000, async () => (await focused(app)).testid === 'chat-input');
    await keyboard.type('by keys; m, v and c are letters here');
    await keyboard.press('Enter');
    const { data } = await bob.waitFor({ type: 'signal', kind: 'chat' });
    assert.equal(data.text, 'by keys; m, v and c are letters here');
    assert.equal(await app.get('mic').getAttribute('aria-pressed'), 'true');
    await keyboard.press('Escape');
    await app.get('panel').waitFor({ state: 'hidden' });

    await tabTo(app, 'record');
    await keyboard.press('Enter');
    await bob.waitFor({ type: 'recording', recording: { state: 'recording' } }, 10_000);
    await tabTo(app, 'marker');
    await keyboard.press('Enter');
    await until('the note has the focus', 5_000, async () => (await focused(app)).testid === 'marker-note');
    await keyboard.type('kept');
    await keyboard.press('Enter');
    await app.get('marker-dialog').waitFor({ state: 'detached' });
    await until('the focus is back where it was', 5_000, async () => (await focused(app)).testid === 'marker');
    await tabTo(app, 'record');
    await keyboard.press('Enter');
    await bob.waitFor({ type: 'recording', recording: { state: 'ready' } }, 20_000);

    await keyboard.press('?');
    await app.get('help-dialog').waitFor();
    await keyboard.press('Escape');
    await app.get('help-dialog').waitFor({ state: 'detached' });
    await tabTo(app, 'leave');
    await keyboard.press('Enter');
    await app.get('ended', '[data-reason="left"]').waitFor();
    await until('"Join again" has the focus', 5_000, async () => (await focused(app)).testid === 'rejoin');
    await bob.waitFor({ type: 'participant-left', reason: 'left' });
    assert.deepEqual(app.errors, []);
});

// What has the focus, and whether that is to be seen: its own outline or that of the card around it.
function focused(app) {
    return app.page.evaluate(() => {
        const element = document.activeElement;
        const outlined = (one) => {
            const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(one);
            return outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && !/, 0\)$|transparent/.test(outlineColor);
        };
        const { width, height } = element.getBoundingClientRect();
        let shown = width > 0 && height > 0;
        for (let one = element; one; one = one.parentElement) shown &&= Number(getComputedStyle(one).opacity) > 0;
        return {
            testid: element.dataset.testid ?? null,
            what: element.outerHTML.slice(0, 160),
            stop: element !== document.body,
            outlined: shown && (outlined(element) || Boolean(element.closest('label') && outlined(element.closest('label')))),
        };
    });
}

// Presses Tab until an element has the focus; each stop on the way must be visible.
async function tabTo(app, testid) {
    for (let presses = 0; presses < MOST_STOPS; presses++) {
        await app.page.keyboard.press('Tab');
        if ((await stopAt(app)).testid === testid) return;
    }
    assert.fail(`no ${testid} within ${MOST_STOPS} presses of Tab`);
}

// Where Tab has led. A tile's buttons fade in.
async function stopAt(app) {
    const { what } = await focused(app);
    return until(`the focus is seen on ${what}`, 2_000, async () => {
        const now = await focused(app);
        return (now.outlined || !now.stop) && now;
    }, 50);
}

// All stops of one way round, from the first.
async function tabRound(app) {
    await app.page.evaluate(() => document.activeElement?.blur());
    const stops = [];
    for (let presses = 0; presses < MOST_STOPS; presses++) {
        await app.page.keyboard.press('Tab');
        const now = await stopAt(app);
        if (!now.stop) return stops;
        // A tile's buttons come once a tile; the first stop again ends the way.
        if (stops.length > 3 && now.what === stops.first) return stops;
        stops.first ??= now.what;
        stops.push(now.testid);
    }
    assert.fail(`Tab goes on for ever: ${stops}`);
}

for (const scheme of ['light', 'dark']) {
    test(`everything is to be read in ${scheme} colours`, { timeout: 60_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const app = await openApp(browser, server, '/', { ...DESK, name: `${scheme}-desk`, colorScheme: scheme });
        await walk(t, app, server, browser, {
            room: 'colours', names: ['Ann', 'Bob'],
            async look(where) {
                const faint = await app.page.evaluate(faintTexts, { text: TEXT_CONTRAST, large: LARGE_TEXT_CONTRAST });
                assert.deepEqual(faint, [], where);
                const paper = await app.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
                const light = paper.match(/[\d.]+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0) > 380;
                assert.equal(light, scheme === 'light', `${where}: ${paper}`);
                await app.screenshot(where);
            },
        });
        // The button overrules the system.
        const before = await app.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        for (let presses = 0; presses < (scheme === 'dark' ? 1 : 2); presses++) await app.get('theme').click();
        const other = await app.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.notEqual(other, before);
        await app.page.reload();
        await until('it is remembered', 5_000, async () => (await app.page.evaluate(() => getComputedStyle(document.body).backgroundColor)) === other);
        assert.deepEqual(app.errors, []);
    });
}

// Runs in the page: visible texts whose contrast to what lies below them is too low. Texts over a
// picture stand on a plate of their own; half of the plate's ground is taken as grey.
function faintTexts({ text, large }) {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].map((value, index) => (index < 3 ? value : value / 255));
    };
    const over = ([r, g, b, a], ground) => [r, g, b].map((value, index) => value * a + ground[index] * (1 - a));
    const ground = (element) => {
        if (!element) return [255, 255, 255];
        const own = rgba(getComputedStyle(element).backgroundColor);
        if (own[3] === 1) return own.slice(0, 3);
        const below = element.matches('.tile, .preview') ? [128, 128, 128] : ground(element.parentElement);
        return over(own, below);
    };
    const luminance = (colour) => {
        const [r, g, b] = colour.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const words = walker.currentNode.data.trim();
        // Chromium greys what is disabled; WCAG excepts it.
        if (!words || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || element.closest('noscript, option, :disabled, [aria-disabled="true"]')) continue;
        const style = getComputedStyle(element);
        const below = ground(element);
        const drawn = over(rgba(style.color), below);
        const [bright, dark] = [luminance(drawn), luminance(below)].sort((a, b) => b - a);
        const contrast = (bright + 0.05) / (dark + 0.05);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (contrast < (isLarge ? large : text)) faint.push(`${words.slice(0, 40)}: ${contrast.toFixed(2)}, ${style.color} on ${below.map(Math.round)}`);
    }
    return faint;
}

for (const device of [DESK, PHONE]) {
    test(`the page is Korean for Koreans, all of it, on a ${device.name}`, { timeout: 90_000 }, async (t) => {
        const server = await startServer(t);
        const browser = await launch(t);
        const app = await openApp(browser, server, '/', { ...device, name: `ko-${device.name}`, locale: 'ko-KR' });
        const [english, korean] = await Promise.all(['en', 'ko'].map(async (tag) =>
            JSON.parse(await readFile(new URL(`../../web/texts/${tag}.json`, import.meta.url), 'utf8'))));
        const foreign = foreignTo(english, korean);
        await walk(t, app, server, browser, {
            room: '회의', names: ['김철수', '이영희'],
            async look(where) {
                assert.equal(await app.page.evaluate(() => document.documentElement.lang), 'ko');
                const texts = await app.page.evaluate(visibleTexts);
                assert.ok(texts.some((text) => /[가-힣]/.test(text)), `${where}: ${texts}`);
                assert.deepEqual(texts.filter(foreign), [], where);
                await app.fits();
                await app.screenshot(where);
            },
        });
        assert.deepEqual(app.errors, []);
    });
}

// Runs in the page: every text that is seen or read out.
function visibleTexts() {
    const texts = [document.title];
    for (const element of document.querySelectorAll('body *')) {
        if (element.closest('noscript') || !element.checkVisibility({ visibilityProperty: true })) continue;
        for (const node of element.childNodes) if (node.nodeType === Node.TEXT_NODE) texts.push(node.data);
        for (const name of ['aria-label', 'title', 'placeholder', 'alt']) texts.push(element.getAttribute(name) ?? '');
    }
    return [...new Set(texts.map((text) => text.trim()).filter(Boolean))];
}

// Whether a text is none of a Korean page: a key that has no text, an English one of ours, or Latin
// words that are neither names nor the same in Korean.
function foreignTo(english, korean) {
    const pattern = (text) => new RegExp(`^${text.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{\w+\}/g, '.+')}$`);
    const ours = Object.keys(english).filter((key) => english[key] !== korean[key] && !/^\{\w+\}$/.test(english[key])).map((key) => pattern(english[key]));
    const same = /Salon|PIN|VLC|HLS|SRT|RTMPS?|SHA-256|MP4|Wi-Fi|English|https?:\/\/\S+|[Ff]ake[ _]\w+( \w+)*|\b[MKG]B\b|^[A-Z]$/g;
    return (text) => text in english || ours.some((one) => one.test(text)) || /[A-Za-z]{2}/.test(text.replace(same, ''));
}

// Through every view of the page; `look(where)` is called in each.
async function walk(t, app, server, browser, { room, names: [name, other], look }) {
    const wire = await makeWire(server);
    t.after(() => wire.close());
    await app.get('room').waitFor();
    await look('home');
    await app.page.goto(`${wire.url}/r/${encodeURIComponent(room)}`);
    await until('the preview runs', 10_000, () => app.colourOf('[data-testid="preview"]'));
    await app.get('options').locator('summary').click();
    await app.get('join').click();
    await app.get('lobby-error', '[data-code="bad_name"]').waitFor();
    await look('lobby');
    await app.join(name);
    await app.inRoom();
    await app.get('alone').waitFor();
    await look('room-alone');

    const bob = await enter(browser, server);
    await bob.join(room, other);
    await appear(bob, BOB);
    await bob.subscribeAll();
    await app.tile(bob.id).waitFor();
    await app.press('record');
    await bob.waitFor({ type: 'recording', recording: { state: 'recording' } }, 10_000);
    await app.press('marker');
    await app.get('marker-dialog').waitFor();
    await look('marker');
    await app.get('marker-save').click();
    await app.get('marker-dialog').waitFor({ state: 'detached' });
    for (const [button, dialog] of [['layout', 'layout'], ['invite', 'invite'], ['settings', 'settings'], ['help', 'help']]) {
        await app.press(button);
        await app.get(`${dialog}-dialog`).waitFor();
        await look(dialog);
        await app.get('dialog-close').click();
        await app.get(`${dialog}-dialog`).waitFor({ state: 'detached' });
    }
    await app.press('chat-toggle');
    await look('chat-empty');
    await bob.request('signal', { kind: 'chat', data: { text: '안녕하세요' } });
    await app.get('chat-message').waitFor();
    await app.openPanel('people');
    await app.get('rename-input').waitFor();
    await look('people');
    await lasts(bob, 1);
    await app.openPanel('recordings');
    await app.get('recording-item', '[data-state="recording"]').waitFor();
    await look('recordings-live');
    await app.get('panel-close').click();
    await app.press('pause');
    await bob.waitFor({ type: 'recording', recording: { state: 'paused' } });
    if (await app.get('more').isVisible()) await app.get('more').click();
    await look('paused');
    await app.press('record');
    await bob.waitFor({ type: 'recording', recording: { state: 'ready' } }, 20_000);
    await app.openPanel('recordings');
    await app.get('recording-play').click();
    await app.get('chapter').waitFor();
    await look('player');
    await app.get('dialog-close').click();
    await app.get('panel-close').click();

    await app.press('mic');
    await app.press('camera');
    wire.pull();
    await app.get('banner', '[data-banner="connection"]').waitFor();
    await look('connection-lost');
    wire.plug();
    await app.get('banner', '[data-banner="connection"]').waitFor({ state: 'detached' });
    await app.press('leave');
    await app.get('ended').waitFor();
    await look('ended');
}
