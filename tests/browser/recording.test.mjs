// A scripted call is recorded; then the file is judged by what is to be seen and heard in it.

import assert from 'node:assert/strict';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, CLEO, lasts, sees } from './call.mjs';
import { beeps, flashes, frames, median, offsets, probe, samples, still, tone } from './content.mjs';
import { startServer } from './server.mjs';
import { brightBelow, drawn, likeness } from './text.mjs';
import { play } from './vlc.mjs';

// What was recorded stays here, to be looked at.
const KEPT = fileURLToPath(new URL('../../target/browser', import.meta.url));
const SIZE = { width: 1280, height: 720, fps: 25 };
const MOST_OFFSET_S = 0.06;

// Runs the call and gives the file, a copy of it from while it grew, when what happened, in seconds
// since the recording began, and what flashes the pages drew.
async function record(t) {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('call', 'Ann');
    await appear(ann, ANN);
    await ann.waitFor({ type: 'state', connection: 'main', state: 'connected' });

    // The file's time begins when it was asked for, whenever its first fragment is on the disk.
    const began = Date.now();
    const { recording } = await ann.request('record', { action: 'start', ...SIZE });
    await ann.waitFor({ type: 'recording', recording: { id: recording.id, state: 'recording' } }, 10_000);
    const now = () => (Date.now() - began) / 1000;
    const times = { told: now() };

    await lasts(ann, 4);
    times.bobComes = now();
    await bob.join('call', 'Bob');
    await appear(bob, BOB);
    await ann.subscribeAll();
    await sees(ann, bob, BOB);
    times.bobIsThere = now();
    await lasts(bob, 5);
    times.annResizes = now();
    await ann.resize('main', 960, 540);
    await lasts(bob, 5);
    const growing = join(server.folder, 'growing.mp4');
    times.copied = now();
    await copyFile(await server.fileBeingWritten(), growing);
    const drawn = { ann: await ann.drawnFlashes(), bob: await bob.drawnFlashes() };
    await ann.leave();
    times.annLeaves = now();
    await lasts(bob, 4);
    await bob.leave();
    times.bobLeaves = now();

    times.stop = now();
    const stopped = await server.api('POST', `/api/recordings/${recording.id}/stop?wait_s=30`);
    t.diagnostic(JSON.stringify(stopped));
    assert.equal(stopped.state, 'ready', JSON.stringify(stopped));
    const file = join(server.folder, 'downloaded.mp4');
    await writeFile(file, await server.download(recording.id));
    await mkdir(KEPT, { recursive: true });
    await copyFile(file, join(KEPT, 'call.mp4'));
    await copyFile(growing, join(KEPT, 'call-growing.mp4'));
    return { file, growing, times, drawn };
}

test('a recorded call', { timeout: 240_000 }, async (t) => {
    const { file, growing, times, drawn } = await record(t);
    t.diagnostic(JSON.stringify(times));
    const { video, audio, duration } = await probe(file);
    const list = await frames(file);
    const sound = await samples(file);
    // Coming takes a moment; going takes effect on the pictures that wait in the mixer, up to 0.4 s
    // before its time.
    const during = (from, to) => list.filter(({ time }) => time > from + 1.2 && time < to - 0.6);
    const phases = {
        annAlone: during(0, times.bobComes),
        both: during(times.bobIsThere, times.annResizes),
        resized: during(times.annResizes, times.annLeaves),
        bobAlone: during(times.annLeaves, times.bobLeaves),
    };

    await t.test('has the size, rate, codecs and duration that were asked for', () => {
        assert.equal(`${video.codec_name} ${video.width}x${video.height}`, `h264 ${SIZE.width}x${SIZE.height}`);
        assert.equal(audio.codec_name, 'aac');
        assert.ok(Math.abs(duration - times.stop) <= 0.5, `${duration} s against ${times.stop} s of wall time`);
        const rate = (list.length - 1) / (list.at(-1).time - list[0].time);
        assert.ok(Math.abs(rate - SIZE.fps) < 0.5, `${rate} frames a second`);
        const gaps = list.slice(1).map((frame, index) => frame.time - list[index].time);
        assert.ok(Math.max(...gaps) < 0.1, `a gap of ${Math.max(...gaps)} s between frames`);
    });

    await t.test('shows everybody where and when he was there', () => {
        for (const [name, phase] of Object.entries(phases)) assert.ok(phase.length > 30, `${name}: ${phase.length} frames`);
        for (const frame of phases.annAlone) {
            assert.ok(coversMost(frame.find(ANN.colour)), `alone: ${frame.time} ${JSON.stringify(frame.find(ANN.colour))}`);
            assert.equal(frame.find(BOB.colour), null);
        }
        for (const frame of [...phases.both, ...phases.resized]) {
            assert.ok(isHalf(frame.find(ANN.colour), 0), `left: ${frame.time} ${JSON.stringify(frame.find(ANN.colour))}`);
            assert.ok(isHalf(frame.find(BOB.colour), 0.5), `right: ${frame.time} ${JSON.stringify(frame.find(BOB.colour))}`);
        }
        for (const frame of phases.bobAlone) {
            assert.ok(coversMost(frame.find(BOB.colour)), `alone: ${frame.time} ${JSON.stringify(frame.find(BOB.colour))}`);
            assert.equal(frame.find(ANN.colour), null);
        }
        // The border of who speaks is green too: 0.4 % of the picture.
        assert.ok(list.every((frame) => frame.share(CLEO.colour, 40) < 0.006), 'nobody else is there');
    });

    await t.test('moves on all the time', () => {
        const tiles = { ann: phases.both[0].find(ANN.colour), bob: phases.both[0].find(BOB.colour) };
        for (const [who, tile] of Object.entries(tiles)) {
            const seen = phases.both.map((frame) => ({ time: frame.time, counter: frame.counter(tile) })).filter(({ counter }) => counter !== null);
            assert.ok(seen.length > 0.8 * phases.both.length, `${who}: ${seen.length} of ${phases.both.length} numbers are read`);
            const [first, last] = [seen[0], seen.at(-1)];
            assert.ok(Math.abs((last.counter - first.counter) / 10 - (last.time - first.time)) < 0.4, `${who}: ${JSON.stringify([first, last])}`);
            assert.ok(seen.every(({ counter }, index) => index === 0 || counter >= seen[index - 1].counter), `${who}: time runs backwards`);
        }
    });

    await t.test('sounds as everybody did', () => {
        const heard = (look, from, to) => tone(sound, look.tone, from + 1.2, to - 0.3);
        const levels = {
            annAlone: [heard(ANN, 0, times.bobComes), heard(BOB, 0, times.bobComes)],
            both: [heard(ANN, times.bobIsThere, times.annLeaves), heard(BOB, times.bobIsThere, times.annLeaves)],
            bobAlone: [heard(ANN, times.annLeaves, times.bobLeaves), heard(BOB, times.annLeaves, times.bobLeaves)],
        };
        t.diagnostic(JSON.stringify(levels));
        assert.ok(levels.annAlone[0] > 0.03 && levels.annAlone[1] < 0.01);
        assert.ok(levels.both[0] > 0.03 && levels.both[1] > 0.03);
        assert.ok(levels.bobAlone[0] < 0.01 && levels.bobAlone[1] > 0.03);
    });

    await t.test('has picture and sound together', () => {
        const apart = (phase, look, flashesDrawn) => {
            const tile = phase[0].find(look.colour);
            return offsets(flashes(phase, tile), beeps(sound, look.beep), (time) => {
                const counter = phase.find((frame) => frame.time >= time).counter(tile);
                return flashesDrawn.find((flash) => Math.abs(flash.counter - counter) <= 2)?.late ?? 0;
            });
        };
        const pairs = {
            ann: apart(phases.annAlone, ANN, drawn.ann),
            both: apart(phases.both, ANN, drawn.ann),
            bob: apart(phases.both, BOB, drawn.bob),
        };
        for (const [name, list_] of Object.entries(pairs)) {
            t.diagnostic(`${name}: ${list_.map((offset) => Math.round(1000 * offset))} ms, median ${Math.round(1000 * median(list_))}`);
            assert.ok(list_.length >= 2, `${name}: ${list_.length} pairs`);
            assert.ok(list_.every((offset) => Math.abs(offset) <= MOST_OFFSET_S), `${name}: ${list_}`);
        }
    });

    await t.test('plays in VLC to its last second', async () => {
        const { pictures } = await play(file);
        checkShown(pictures, [[ANN, BOB], [BOB]]);
        const last = pictures.map((picture) => shownNumber(picture, BOB)).filter((number) => number !== null).at(-1);
        const wanted = phases.bobAlone.map((frame) => frame.counter(frame.find(BOB.colour))).filter((number) => number !== null).at(-1);
        assert.ok(last >= wanted - 10, `VLC came to ${last}, the file goes to ${wanted}`);
    });

    await t.test('plays in VLC as it was while it was being written', async () => {
        const part = await frames(growing);
        const age = times.copied - part.at(-1).time;
        assert.ok(age < 1.5, `the growing file was ${age} s behind`);
        const { pictures } = await play(growing);
        checkShown(pictures, [[ANN], [ANN, BOB]]);
    });
});

test('a nickname is drawn as it is written', { timeout: 90_000 }, async (t) => {
    const name = '김철수 & <b>';
    const wrong = ['김철수 &amp; &lt;b&gt;', '김철수 & ', '김철수 & b', '김철수 <b>', '??? & <b>', '□□□ & <b>', '이영희 & <b>'];
    const server = await startServer(t);
    const browser = await launch(t);
    const ann = await enter(browser, server);
    await ann.join('names', name);
    await appear(ann, ANN);
    await ann.waitFor({ type: 'state', connection: 'main', state: 'connected' });
    const { id } = await server.api('POST', '/api/rooms/names/recordings', SIZE);
    await ann.waitFor({ type: 'recording', recording: { id, state: 'recording' } }, 10_000);
    await lasts(ann, 3);
    assert.equal((await server.api('POST', `/api/recordings/${id}/stop?wait_s=30`)).state, 'ready');
    const file = join(server.folder, 'name.mp4');
    await writeFile(file, await server.download(id));

    // Below the counter and the flash nothing is white but the nickname.
    const label = brightBelow(await still(file, 2), 0.65);
    assert.ok(label, 'there is a label');
    const scores = await Promise.all([name, ...wrong].map(async (text) => ({ text, score: likeness(label, await drawn(ann.page, text)) })));
    t.diagnostic(scores.map(({ text, score }) => `${text}: ${score.toFixed(2)}`).join(', '));
    const best = scores.reduce((a, b) => (b.score > a.score ? b : a));
    assert.equal(best.text, name, JSON.stringify(scores));
    assert.ok(best.score > 0.5, JSON.stringify(scores));
});

const coversMost = (box) => box !== null && box.width > 0.9 && box.height > 0.9;
const isHalf = (box, left) => box !== null && box.x >= left - 0.01 && box.x + box.width <= left + 0.51 && box.width > 0.4 && box.height > 0.4;

const shownNumber = (picture, look) => {
    const box = picture.find(look.colour);
    return box && picture.counter(box);
};

// VLC showed each of these groups of people in some picture.
function checkShown(pictures, groups) {
    assert.ok(pictures.length > 10, `VLC showed ${pictures.length} pictures`);
    for (const group of groups) {
        assert.ok(pictures.some((picture) => group.every(({ colour }) => picture.find(colour) !== null)),
            `no picture shows ${group.map(({ colour }) => colour).join(' and ')}`);
    }
}
