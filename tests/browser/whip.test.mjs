// WHIP and WHEP with clients that others wrote: npm's @eyevinn/whip-web-client and
// @eyevinn/webrtc-player, unmodified, in Chromium, on a page of another origin than the server's.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';
import { CLIENT, crash, enter, launch } from './browser.mjs';
import { ANN, appear, BOB, css, hears, sees } from './call.mjs';
import { near } from './content.mjs';
import { asScript } from './packages.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

// A page on a server of its own, with our picture and sound (client.js) and the two packages.
async function elsewhere(t, browser, server) {
    const site = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><body>'));
    await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
    t.after(() => site.close());
    const page = await (await browser.newContext()).newPage();
    page.on('pageerror', (error) => server.note(`page error: ${error.stack ?? error}`));
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await page.evaluate(CLIENT);
    await page.evaluate(asScript('whip', '@eyevinn/whip-web-client'));
    await page.evaluate(asScript('player', '@eyevinn/webrtc-player'));
    return page;
}

// Publishes with the package, and gives the session's address.
const ingest = (page, endpoint, look, options = {}) => page.evaluate(async ([endpoint, { tone, beep }, colour, options]) => {
    const stream = window.salon.stream({ colour, width: 640, height: 360 }, { tone, beep });
    window.publisher = new window.whip.WHIPClient({ endpoint, opts: options });
    await window.publisher.ingest(stream);
    return String(await window.publisher.getResourceUrl());
}, [endpoint, look, css(look.colour), options]);

// Plays with the package; what it shows is at `window.salon.look('played')`.
const play = (page, url, key) => page.evaluate(async ([url, key]) => {
    const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, autoplay: true }));
    window.viewer = new window.player.WebRTCPlayer({ video, type: 'whep', detectTimeout: false });
    await window.viewer.load(new URL(url), key);
    // It shows something once its tracks are there.
    while ((video.srcObject?.getTracks().length ?? 0) < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    window.salon.watch('played', video);
}, [url, key]);

const played = (page) => page.evaluate(() => window.salon.look('played'));

// The colour and tone of what is played, and that frames are decoded.
async function plays(page, look) {
    await until(`the player shows ${look.colour}`, 15_000, async () => {
        const seen = await played(page);
        if (seen && near(seen.colour, look.colour)) return seen;
        throw new Error(seen ? `a picture in ${seen.colour}` : 'no picture');
    });
    const { frames } = await played(page);
    await until('the picture moves on', 10_000, async () => (await played(page)).frames >= frames + 25);
    await until(`the player sounds at ${look.tone} Hz`, 10_000, async () => {
        const heard = await page.evaluate((tone) => window.salon.listen('played', [tone]), look.tone);
        if (heard?.levels[0] > -60 && heard.levels[0] > heard.other + 20) return heard;
        throw new Error(JSON.stringify(heard));
    });
}

// What somebody of that name watches through.
async function edgeOf(server, room, name) {
    const { participants } = await server.api('GET', `/api/rooms/${room}`);
    return participants.find((one) => one.name === name).edges.watches[0];
}

// The bare page restarts ICE by PATCH, and its picture goes on.
async function restart(page, session) {
    const { status, pair } = await page.evaluate(async (session) => {
        const pc = window.bare;
        const attribute = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*)$`, 'm'))[1].trim();
        const credentials = (sdp) => ['ice-ufrag', 'ice-pwd'].map((name) => [name, attribute(sdp, name)]);
        const offer = await pc.createOffer({ iceRestart: true });
        const first = pc.remoteDescription.sdp;
        await pc.setLocalDescription(offer);
        const lines = credentials(offer.sdp).map(([name, value]) => `a=${name}:${value}\r\n`);
        const response = await fetch(session, {
            method: 'PATCH',
            headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': window.tag },
            body: `${lines.join('')}m=audio 9 RTP/AVP 0\r\na=mid:0\r\n`,
        });
        const fragment = await response.text();
        const answer = credentials(fragment).reduce((sdp, [name, value]) => sdp.replace(new RegExp(`^a=${name}:.*$`, 'gm'), `a=${name}:${value}\r`), first);
        await pc.setRemoteDescription({ type: 'answer', sdp: answer.replace(/\r+/g, '\r') });
        return { status: response.status, pair: attribute(offer.sdp, 'ice-ufrag') };
    }, session);
    assert.equal(status, 200);
    await until('the page uses the new path', 10_000, () => page.evaluate(async (user) => {
        const reports = [...(await window.bare.getStats()).values()];
        const { selectedCandidatePairId } = reports.find((one) => one.type === 'transport');
        const pair = reports.find((one) => one.id === selectedCandidatePairId);
        return reports.find((one) => one.id === pair?.localCandidateId)?.usernameFragment === user;
    }, pair));
    const { frames } = await page.evaluate(() => window.salon.look('bare'));
    await until("Bob's picture moves on", 10_000, async () => (await page.evaluate(() => window.salon.look('bare'))).frames > frames + 25);
}

test('a page publishes by WHIP and plays by WHEP', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const kim = await enter(browser, server);
    await kim.join('show', 'Kim', { pin: '1234' });
    const page = await elsewhere(t, browser, server);

    // With candidates that trickle, as the package finds that we take them.
    const patched = [];
    page.on('request', (request) => request.method() === 'PATCH' && patched.push(request));
    const session = await ingest(page, `${server.url}/whip/show?name=Ann`, ANN, { authkey: '1234' });
    assert.match(session, /\/whip\/session\/w_\w+$/);
    await kim.subscribeAll();
    const ann = await until('Ann is in the room', 5_000, async () => {
        const { participants } = await server.api('GET', '/api/rooms/show');
        return participants.find(({ name }) => name === 'Ann');
    });
    assert.deepEqual(ann.tracks.map(({ kind }) => kind).sort(), ['audio', 'video']);
    await sees(kim, ann, ANN);
    await hears(kim, ann, ANN);
    const answers = await Promise.all(patched.map(async (request) => (await request.response()).status()));
    assert.ok(answers.length > 0 && answers.every((status) => status === 204), `PATCH: ${answers}`);

    await play(page, `${server.url}/whep/show`, 'Bearer 1234');
    await plays(page, ANN);
    const { participants } = await server.api('GET', '/api/rooms/show');
    assert.equal(await edgeOf(server, 'show', 'WHEP'), process.env.SALON_EDGE === 'webrtcbin' ? 'webrtcbin' : 'fanout');
    assert.deepEqual(participants.map(({ name, role }) => [name, role]), [['Kim', 'moderator'], ['Ann', 'publisher'], ['WHEP', 'viewer']]);

    // Its end is the players' end, and nobody stays.
    await page.evaluate(() => window.publisher.destroy());
    await kim.waitFor({ type: 'participant-left', participant: ann.id, reason: 'left' }, 5_000);
    await until('the viewer is gone', 5_000, async () => (await server.api('GET', '/api/rooms/show')).participants.length === 1);
});

test('one track, and the mix, are played by WHEP; no candidates are needed', async (t) => {
    const server = await startServer(t);
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server)));
    await ann.join('show', 'Ann');
    await bob.join('show', 'Bob');
    await appear(ann, ANN, { codec: 'H264' });
    await bob.publish({ connection: 'main', video: { colour: css(BOB.colour), width: 640, height: 360, fps: 25 }, codec: 'VP8' });
    const page = await elsewhere(t, browser, server);
    const [, theirs] = (await server.api('GET', '/api/rooms/show')).participants;
    const [video] = theirs.tracks.filter(({ kind }) => kind === 'video');

    // By hand, as a bare page does: the offer goes as soon as it is made.
    const bare = await page.evaluate(async (url) => {
        const pc = new RTCPeerConnection();
        pc.addTransceiver('audio', { direction: 'recvonly' });
        const { receiver } = pc.addTransceiver('video', { direction: 'recvonly' });
        const offer = await pc.createOffer();
        await pc.setLocalDescription(offer);
        const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: offer.sdp });
        const answer = await response.text();
        await pc.setRemoteDescription({ type: 'answer', sdp: answer });
        const video = document.body.appendChild(Object.assign(document.createElement('video'), { muted: true, autoplay: true }));
        video.srcObject = new MediaStream([receiver.track]);
        window.salon.watch('bare', video);
        window.bare = pc;
        window.tag = response.headers.get('etag');
        return { status: response.status, location: response.headers.get('location'), answer, offer: offer.sdp };
    }, `${server.url}/whep/show/${video.id}`);
    assert.equal(bare.status, 201);
    assert.ok(!bare.offer.includes('a=candidate:') && bare.answer.includes('a=candidate:'), 'our candidates alone');
    assert.match(bare.answer, /m=audio 9 [^]*a=inactive[^]*m=video 9 [^]*a=sendonly/, 'there is no sound on that track');
    await until("the page shows Bob's picture", 15_000, async () => {
        const seen = await page.evaluate(() => window.salon.look('bare'));
        return seen && near(seen.colour, BOB.colour) && seen.frames > 25;
    });

    if ((await edgeOf(server, 'show', 'WHEP')) === 'fanout') await restart(page, new URL(bare.location, server.url).href);

    await play(page, `${server.url}/whep/show/mix`);
    await until('the player shows both', 20_000, async () => {
        const seen = await played(page);
        if (seen?.width === 1280 && seen.frames > 25) return seen;
        throw new Error(JSON.stringify(seen));
    });
    await until('the player sounds as Ann does', 10_000, async () => {
        const heard = await page.evaluate((tone) => window.salon.listen('played', [tone]), ANN.tone);
        return heard?.levels[0] > -60;
    });

    // Whoever vanishes without a word is gone soon.
    const { length } = (await server.api('GET', '/api/rooms/show')).participants;
    assert.equal(length, 4);
    const ended = await fetch(new URL(bare.location, server.url), { method: 'DELETE' });
    assert.equal(ended.status, 200);
    await until('the bare page is out', 5_000, async () => (await server.api('GET', '/api/rooms/show')).participants.length === 3);
});

test('a publisher who vanishes without a word is out of the room within ten seconds', async (t) => {
    const server = await startServer(t);
    const [browser, other] = [await launch(t), await launch(t)];
    const kim = await enter(browser, server);
    await kim.join('show', 'Kim');
    const page = await elsewhere(t, other, server);
    await ingest(page, `${server.url}/whip/show`, ANN, { noTrickleIce: true });
    await kim.subscribeAll();
    const { participants: [, ann] } = await server.api('GET', '/api/rooms/show');
    await sees(kim, { ...ann, name: 'Ann' }, ANN);
    // No DTLS alert, no DELETE.
    await crash(other);
    await kim.waitFor({ type: 'participant-left', participant: ann.id }, 10_000);
});
