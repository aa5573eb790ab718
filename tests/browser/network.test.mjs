// Publishing and watching through a bad line (line.mjs), between two network namespaces.

import assert from 'node:assert/strict';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, lasts, movesOn, sees } from './call.mjs';
import { median, offsets } from './content.mjs';
import { behindLine, makeLine } from './line.mjs';
import { canMakeNamespaces, makeCable, SERVER_IP } from './netns.mjs';
import { startServer } from './server.mjs';
import { skip, until } from './wait.mjs';

const LAYERS = [{ rid: 'h', scaleResolutionDownBy: 2 }, { rid: 'f', scaleResolutionDownBy: 1 }];
const LOOKS = new Map([['Ann', ANN], ['Bob', BOB]]);
const BAD = { loss: 0.1, jitterMs: 100 };
const SECRET = 'secret-of-the-test';
const MOST_APART_S = 0.06;
// By how much Chromium's sound is later than it says: it goes through WebAudio at both ends.
const BROWSER_S = { usual: 0.08, tolerance: 0.1 };
// Of which the middle one counts.
const LAST_FLASHES = 5;
const LEAST_FRAMES = 20;
// In kbit/s: too little for the larger layer (some 130, and 45 of sound), and for all frames of the smaller one (60).
const NARROW = [150, 90];
// Sound that is made up once the server knows the line.
const MOST_CONCEALED_NARROW = 0.04;
// One packet in five does not come at the other end.
const MOST_CONCEALED = 0.08;

// Ann and Bob, whose camera has layers, publish; each watches the other. `rules`: the line's from the start.
async function meet(t, rules, camera = {}) {
    const cable = await makeCable(t);
    const server = await startServer(t, { prefix: cable.prefix, host: SERVER_IP, env: { ...behindLine(SERVER_IP), SALON_API_SECRET: SECRET } });
    const line = await makeLine(t, { prefix: cable.prefix, address: SERVER_IP });
    await line.set(rules);
    // Only secure pages may look at sound in its thread.
    const args = [`--unsafely-treat-insecure-origin-as-secure=${server.url}`];
    const browser = await launch(t, { executable: cable.executable, args });
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('line', 'Ann');
    await bob.join('line', 'Bob');
    // The line knows them in this order.
    await appear(ann, ANN);
    let passed = 0;
    await until("Ann's media comes", 10_000, async () => (passed += (await line.counts()).up.passed) > 100);
    await appear(bob, BOB, { codec: 'VP8', layers: LAYERS, ...camera });
    await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
    return { line, ann, bob, pairs: [[bob, ann], [ann, bob]] };
}

test('a bad line', { timeout: 150_000 }, async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const held = { up: { hold: [{ sound: 300 }, { picture: 300 }] } };
    const { line, ann, bob, pairs } = await meet(t, held);
    await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN)]);

    await t.test("Ann's sound and Bob's picture are held up by 300 ms: they come into step", async (t) => {
        const steps = await Promise.all(pairs.map((pair) => comesIntoStep(...pair)));
        steps.forEach((step) => t.diagnostic(step));
        await line.set({});
    });

    await t.test('10 % are lost and all wait up to 100 ms: the picture moves, and the sound is clean', async (t) => {
        await line.set({ up: BAD, down: BAD });
        await lasts(ann, 4); // until the first reports of losses
        await line.counts(); // those of before do not count
        const before = await Promise.all(pairs.map((pair) => counts(...pair)));
        await lasts(ann, 10);
        const passed = await line.counts();
        t.diagnostic(JSON.stringify(passed));
        assert.ok(passed.up.dropped > 50 && passed.down.dropped > 50 && passed.up.overtaken > 100, 'the line is bad');
        for (const [index, [viewer, publisher]] of pairs.entries()) {
            const after = await counts(viewer, publisher);
            const more = Object.fromEntries(Object.keys(after).map((name) => [name, after[name] - before[index][name]]));
            t.diagnostic(`${viewer.name} of ${publisher.name}: ${JSON.stringify(more)}`);
            // How many there are depends on what the browser makes of such a line: it sends little.
            assert.ok(more.frames >= LEAST_FRAMES, `${more.frames} pictures in 10 s`);
            assert.ok(more.concealed < MOST_CONCEALED * more.samples, `${more.concealed} of ${more.samples} samples are made up`);
        }
        await line.set({});
    });

    await t.test('both come from another address: the same sessions go on', async (t) => {
        await movesOn(ann, bob);
        const before = await tracksOf(ann, bob);
        const began = Date.now();
        await line.rebind();
        await movesOn(ann, bob, { frames: 50, limitMs: 25_000 });
        t.diagnostic(`${Date.now() - began} ms`);
        assert.deepEqual(await tracksOf(ann, bob), before);
        assert.deepEqual((await ann.events('connection-closed')).filter(({ reason }) => reason !== 'left'), []);
    });

    await t.test('the line is dead: the server frees their sessions', async (t) => {
        const began = Date.now();
        await line.set({ up: { dead: true }, down: { dead: true } });
        await until('no session is left', 30_000, async () => {
            const { participants } = await roomOf(ann);
            const left = participants.flatMap(({ name, edges }) => [...(edges?.publishes ?? []), ...(edges?.watches ?? [])].map((edge) => `${name} ${edge}`));
            if (left.length === 0) return true;
            throw new Error(`${left}`);
        });
        t.diagnostic(`${Date.now() - began} ms`);
    });
});

test('a narrow line', { timeout: 150_000 }, async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const { line, ann, bob } = await meet(t, {}, { fps: 20, layers: LAYERS.map((layer) => ({ ...layer, scalabilityMode: 'L1T3' })) });
    await hasWidth(ann, bob, 640);
    const free = await during(t, ann, bob, 3);
    const seen = [];
    for (const kbps of NARROW) {
        await line.set({ down: { kbps, queueMs: 200 } });
        await hasWidth(ann, bob, 320);
        // The first losses are heard.
        await lasts(bob, 4);
        seen.push(await during(t, ann, bob, 5));
    }
    for (const { concealed } of seen) assert.ok(concealed < MOST_CONCEALED_NARROW, `${concealed} of the sound is made up`);
    assert.ok(seen[0].fps > 2, 'a smaller layer moves');
    assert.ok(seen[1].fps < 0.8 * free.fps, `${seen[1].fps} of ${free.fps} pictures a second: frames are left out`);
    const { down: { dropped } } = await line.counts();
    assert.ok(dropped > 0, 'the line was full');
    await line.set({});
    await hasWidth(ann, bob, 640);
    // The browser's buffer for a slow line empties first.
    await until('as many pictures come as before', 20_000, async () => {
        const after = await during(t, ann, bob, 3);
        if (after.fps > 0.8 * free.fps) return true;
        throw new Error(`${after.fps} of ${free.fps} pictures a second`);
    });
});

function hasWidth(viewer, publisher, width) {
    return until(`${viewer.name} has the layer that is ${width} wide`, 40_000, async () => {
        const { frameWidth } = await viewer.report({ participant: publisher.id }, 'inbound-rtp', 'video');
        if (frameWidth === width) return true;
        throw new Error(`${frameWidth}`);
    });
}

// Pictures a second and the share of sound that is made up, within so many seconds.
async function during(t, viewer, publisher, seconds) {
    const [began, before] = [Date.now(), await counts(viewer, publisher)];
    await lasts(publisher, seconds);
    const after = await counts(viewer, publisher);
    const seen = {
        fps: (1e3 * (after.frames - before.frames)) / (Date.now() - began),
        concealed: (after.concealed - before.concealed) / (after.samples - before.samples),
    };
    t.diagnostic(JSON.stringify(seen));
    return seen;
}

// Waits until Chromium says that picture and sound are in step, by the reports that it has, and it is true.
async function comesIntoStep(viewer, publisher) {
    const { tone, beep } = LOOKS.get(publisher.name);
    await viewer.call('observe', publisher.id, [tone, beep]);
    const noted = { sound: [], frames: [] };
    const flashes = [];
    let began;
    return until(`${viewer.name}'s picture and sound of ${publisher.name} are in step`, 45_000, async () => {
        began ??= Date.now();
        const more = await viewer.call('observed', publisher.id);
        for (const [name, notes] of Object.entries(noted)) notes.push(...more[name]);
        const [picture, sound] = await Promise.all(['video', 'audio'].map((kind) => viewer.report({ participant: publisher.id }, 'inbound-rtp', kind)));
        const says = (picture.estimatedPlayoutTimestamp - sound.estimatedPlayoutTimestamp) / 1e3;
        flashes.push(...inStep(noted).slice(flashes.length).map((is) => ({ says, is })));
        // It says nothing until reports of both have come.
        const last = flashes.slice(-LAST_FLASHES).filter(({ says }) => Number.isFinite(says));
        const apart = median(last.map(({ says }) => Math.abs(says)));
        const unsaid = median(last.map(({ says, is }) => is - says)) - BROWSER_S.usual;
        // A page that is short of time draws its flashes late.
        const drawn = median((await publisher.drawnFlashes()).slice(-LAST_FLASHES).map(({ late }) => late));
        const story = `${viewer.name} of ${publisher.name}: sound after picture, as said and as is: ` +
            `${flashes.map(({ says, is }) => `${Math.round(1e3 * says)}/${Math.round(1e3 * is)}`).join(' ')} ms, ${Date.now() - began} ms`;
        const shown = median(last.map(({ is }) => Math.abs(is)));
        const isSaid = apart < MOST_APART_S && Math.abs(unsaid) < BROWSER_S.tolerance + drawn;
        // Reports that are wrong by 200 ms pass neither.
        if (last.length === LAST_FLASHES && (isSaid || shown < MOST_APART_S + drawn)) return story;
        throw new Error(story);
    }, 1_000);
}

// For each flash in what was noted, by how many seconds its beep came later.
function inStep({ sound, frames }) {
    const begins = (list, is) => list.filter((one, index) => index > 0 && is(one) && !is(list[index - 1])).map(([time]) => time / 1e3);
    return offsets(begins(frames, ([, lit]) => lit), begins(sound, ([, , beep]) => beep > 0.15));
}

async function tracksOf(viewer, publisher) {
    const { participants } = await roomOf(viewer);
    return participants.find(({ id }) => id === publisher.id).tracks.map(({ id, connection }) => [id, connection]);
}

// The room as its owner sees it. Only the browser reaches the server.
function roomOf(participant) {
    return participant.page.evaluate(async (secret) => {
        const response = await fetch('/api/rooms/line', { headers: { authorization: `Bearer ${secret}` } });
        return response.json();
    }, SECRET);
}

async function counts(viewer, publisher) {
    const [picture, sound] = await Promise.all(['video', 'audio'].map((kind) => viewer.report({ participant: publisher.id }, 'inbound-rtp', kind)));
    return {
        frames: picture.framesDecoded,
        freezes: picture.freezeCount,
        frozenS: picture.totalFreezesDuration,
        samples: sound.totalSamplesReceived,
        concealed: sound.concealedSamples - sound.silentConcealedSamples,
    };
}
