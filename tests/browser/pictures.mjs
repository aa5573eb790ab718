// Makes the pictures of README anew, from the real page: `node tests/browser/pictures.mjs`, into
// docs/images/. The people are drawn, and so are the names of their devices; all else is as it is.

import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { DESK, openApp, PHONE } from './app.mjs';
import { launch } from './browser.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const IMAGES = fileURLToPath(new URL('../../docs/images', import.meta.url));
const ROOM = 'spring-seminar';
const PEOPLE = [
    { name: 'Ada Lovelace', hue: 140, clothes: '#663344' },
    { name: 'Grace Hopper', hue: 280, clothes: '#4a7038' },
    { name: '김철수', hue: 30, clothes: '#3a4a78' },
    { name: '박지민', hue: 215, clothes: '#6a5a38' },
];
const HOST = { name: '이서연', hue: 45, clothes: '#3d4a6a' };

test('pictures', { timeout: 240_000 }, async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const open = (who, device, path = `/r/${ROOM}`) => openApp(browser, server, path, { ...device, before: (page) => page.addInitScript(drawnDevices, who) });

    const host = await open(HOST, DESK);
    await until('the preview runs', 15_000, () => host.colourOf('[data-testid="preview"]'));
    await host.get('nickname').fill(HOST.name);
    await picture(host, 'lobby');
    await host.get('join').click();
    await host.inRoom();
    const others = [];
    for (const [index, who] of PEOPLE.entries()) {
        const device = index === PEOPLE.length - 1 ? { ...PHONE, colorScheme: 'dark', locale: 'ko-KR' } : DESK;
        const app = await open({ ...who, speaks: index === 0 }, device);
        await app.join(who.name);
        await app.inRoom();
        others.push(app);
    }
    const [ada, grace, chulsoo, jimin] = others;
    await chulsoo.press('camera');
    await grace.press('mic');
    await host.press('record');
    await host.get('record-time').waitFor();
    await until('everybody is seen', 30_000, () => host.page.evaluate(() => document.querySelectorAll('.tile.picture.ready').length === 4));

    await say(ada, 'Good morning! The slides are at https://example.org/spring');
    await say(chulsoo, '안녕하세요, 잘 들립니다.');
    await host.press('chat-toggle');
    await say(host, '좋아요. 시작할까요?');
    await host.get('notice').first().waitFor({ state: 'detached', timeout: 20_000 });
    await until('Ada speaks', 10_000, () => host.page.evaluate(() => document.querySelector('.tile.speaking')));
    await until('a while is recorded', 30_000, async () => (await host.get('record-time').textContent()) >= '0:12');
    await host.page.mouse.move(640, 20);
    await picture(host, 'room');
    await picture(jimin, 'phone');

    for (const [note, at] of [['Questions', '0:16'], ['Conclusion', '0:20']]) {
        await until(note, 30_000, async () => (await host.get('record-time').textContent()) >= at);
        await host.press('marker');
        await host.get('marker-note').fill(note);
        await host.get('marker-save').click();
    }
    await until('the end', 30_000, async () => (await host.get('record-time').textContent()) >= '0:26');
    await host.press('record');
    await host.openPanel('recordings');
    await host.get('recording-item', '[data-state="ready"]').waitFor({ timeout: 30_000 });
    await host.get('recording-poster').waitFor({ timeout: 30_000 });
    await host.get('recording-play').click();
    await host.get('chapter').nth(1).click();
    await until('the second chapter plays', 15_000, () => host.get('recording-player').evaluate((video) => video.currentTime > 21));
    await host.get('recording-player').evaluate((video) => video.pause());
    await until('all notices have passed', 20_000, async () => (await host.get('notice').count()) === 0);
    await host.get('timeline').hover();
    await host.get('seek-preview').waitFor();
    await picture(host, 'recording');
});

const picture = (app, name) => app.page.screenshot({ path: `${IMAGES}/${name}.png`, animations: 'disabled' });

async function say(app, text) {
    if (!(await app.get('chat-input').isVisible())) await app.press('chat-toggle');
    await app.get('chat-input').fill(text);
    await app.get('chat-send').click();
    await app.get('chat-message').filter({ hasText: text.slice(0, 12) }).waitFor();
}

// Runs in the page: a camera that shows a drawn person, a microphone with a voice or without.
function drawnDevices({ hue, clothes, speaks }) {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const context = canvas.getContext('2d');
    const shape = (colour, draw) => {
        context.fillStyle = colour;
        context.beginPath();
        draw();
        context.fill();
    };
    function draw() {
        const sway = 12 * Math.sin(performance.now() / 900);
        const wall = context.createLinearGradient(0, 0, 1280, 720);
        wall.addColorStop(0, `hsl(${hue} 45% 78%)`);
        wall.addColorStop(1, `hsl(${hue + 30} 35% 52%)`);
        shape(wall, () => context.rect(0, 0, 1280, 720));
        shape('rgb(255 255 255 / 55%)', () => context.rect(120, 90, 250, 330));
        shape('rgb(0 0 0 / 28%)', () => {
            context.rect(900, 330, 270, 16);
            [[950, 60], [985, 105], [1020, 80], [1055, 50]].forEach(([x, high]) => context.rect(x, 330 - high, 26, high));
        });
        shape(clothes, () => context.ellipse(640 + sway / 2, 780, 310, 330, 0, 0, 2 * Math.PI));
        shape('#c89b6c', () => context.ellipse(640 + sway, 380, 140, 165, 0, 0, 2 * Math.PI));
        shape('#3a2a24', () => context.ellipse(640 + sway, 325, 148, 130, 0, Math.PI, 2 * Math.PI));
    }
    draw();
    setInterval(draw, 100);
    const sound = () => {
        const audio = new AudioContext();
        const out = audio.createMediaStreamDestination();
        const voice = new OscillatorNode(audio, { frequency: 180 });
        voice.connect(new GainNode(audio, { gain: speaks ? 0.1 : 0 })).connect(out);
        voice.start();
        return out.stream.getAudioTracks()[0];
    };
    const { mediaDevices } = navigator;
    mediaDevices.getUserMedia = async ({ audio, video }) => new MediaStream([
        ...(video ? canvas.captureStream(10).getVideoTracks() : []), ...(audio ? [sound()] : [])]);
    const names = { videoinput: 'HD Webcam', audioinput: 'Built-in Microphone', audiooutput: 'Speakers' };
    mediaDevices.enumerateDevices = async () => Object.entries(names).map(([kind, label]) => ({ kind, label, deviceId: kind, groupId: '' }));
}
