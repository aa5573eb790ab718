// The measuring instruments, measured: on files made for it, each must see what is there and must
// not see what is not. A check that cannot fail checks nothing.

import assert from 'node:assert/strict';
import { copyFile, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer, createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { before, after } from 'node:test';
import { launch } from './browser.mjs';
import { beeps, flashes, frames, median, near, offsets, probe, run, samples, still, tone } from './content.mjs';
import { canMakeNamespaces, makeCable, SERVER_IP } from './netns.mjs';
import { play } from './vlc.mjs';
import { brightBelow, drawn, likeness } from './text.mjs';
import { skip, until, within } from './wait.mjs';

let folder;
const file = (name) => join(folder, name);
before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'salon-helpers-'));
});
after(() => rm(folder, { recursive: true, force: true }));

// Left half red, right half blue; a flash at the top left each second, a beep `late` seconds after it.
async function makeCall(name, { late = 0, seconds = 4, noise = 0 } = {}) {
    const patch = `drawbox=x=160:y=36:w=320:h=72:c=white:t=fill:enable='lt(mod(t\\,1)\\,0.1)'`;
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-y',
        '-f', 'lavfi', '-i', `color=red:s=640x360:r=25:d=${seconds},drawbox=x=160:y=36:w=320:h=72:c=black:t=fill,${patch}[l];color=blue:s=640x360:r=25:d=${seconds}[r];[l][r]hstack,noise=alls=${noise}:allf=t`,
        '-f', 'lavfi', '-i', `aevalsrc='0.1*sin(2*PI*400*t)+0.4*sin(2*PI*1500*t)*gte(t\\,${late})*lt(mod(t-${late}+1\\,1)\\,0.1)':s=48000:d=${seconds}`,
        '-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p', '-c:a', 'aac', file(name)]);
    return file(name);
}

const LEFT = { x: 0, y: 0, width: 0.5, height: 1 };

test('colours, tones, size, rate and duration of a file are read', async () => {
    const call = await makeCall('plain.mp4');
    const { video, audio, duration } = await probe(call);
    assert.equal(`${video.codec_name} ${video.width}x${video.height} ${video.avg_frame_rate}`, 'h264 1280x360 25/1');
    assert.equal(audio.codec_name, 'aac');
    assert.ok(Math.abs(duration - 4) < 0.1, `${duration}`);

    const list = await frames(call);
    assert.equal(list.length, 100);
    assert.ok(near(list[50].at(0.1, 0.9), [255, 0, 0]) && near(list[50].at(0.9, 0.9), [0, 0, 255]));
    assert.ok(!near(list[50].at(0.1, 0.9), [0, 0, 255]) && !near(list[50].at(0.1, 0.9), [0, 128, 0]));
    const blue = list[50].find([0, 0, 255]);
    assert.ok(Math.abs(blue.x - 0.5) < 0.02 && Math.abs(blue.width - 0.5) < 0.02 && blue.height > 0.98, JSON.stringify(blue));
    assert.equal(list[50].find([0, 255, 0]), null);

    const sound = await samples(call);
    assert.ok(Math.abs(tone(sound, 400, 1.2, 1.9) - 0.1) < 0.02);
    assert.ok(tone(sound, 700, 1.2, 1.9) < 0.01);
});

test('the offset of sound to picture is measured to within a frame', async () => {
    for (const late of [0, 0.12]) {
        const call = await makeCall(`late${late}.mp4`, { late });
        const pairs = offsets(flashes(await frames(call), LEFT), beeps(await samples(call), 1500));
        assert.ok(pairs.length >= 3, `${pairs}`);
        assert.ok(pairs.every((offset) => Math.abs(offset - late) < 0.03), `${late}: ${pairs}`);
    }
    assert.deepEqual(beeps(new Float32Array(48_000), 1500), []);
    assert.deepEqual(offsets([1, 2], []), []);
    assert.equal(median([3, 1, 2]), 2);
});

test('a damaged file is an error, and so is one that is cut', async () => {
    const call = await makeCall('whole.mp4', { noise: 20 });
    const { size } = await stat(call);
    assert.equal((await frames(call)).length, 100);
    await copyFile(call, file('damaged.mp4'));
    const handle = await open(file('damaged.mp4'), 'r+');
    await handle.write(Buffer.alloc(4000), 0, 4000, Math.floor(size / 2));
    await handle.close();
    await assert.rejects(frames(file('damaged.mp4')));

    await copyFile(call, file('cut.mp4'));
    await truncate(file('cut.mp4'), Math.floor(size / 2));
    await assert.rejects(frames(file('cut.mp4')));
});

test('VLC shows a file to its end, and shows nothing of what is none', async () => {
    const call = await makeCall('vlc.mp4', { seconds: 3 });
    const { pictures } = await play(call, { limitMs: 30_000 });
    assert.ok(pictures.length >= 10, `${pictures.length} pictures`);
    assert.ok(pictures.every((picture) => near(picture.at(0.1, 0.9), [255, 0, 0]) && near(picture.at(0.9, 0.9), [0, 0, 255])));

    await truncate(call, 300);
    assert.equal((await play(call, { limitMs: 30_000 })).pictures.length, 0);
});

test('the browser draws the pattern that the file reader reads', async (t) => {
    const browser = await launch(t);
    const page = await browser.newPage();
    await page.evaluate(await readFile(new URL('client.js', import.meta.url), 'utf8'));
    // A loop within the page: published, sent and received by two connections of its own.
    const { pixels, seen } = await page.evaluate(async () => {
        const [one, two] = [new RTCPeerConnection(), new RTCPeerConnection()];
        one.onicecandidate = ({ candidate }) => two.addIceCandidate(candidate ?? undefined);
        two.onicecandidate = ({ candidate }) => one.addIceCandidate(candidate ?? undefined);
        const client = window.salon;
        client.socket = { send() {} };
        client.request = async (verb, { sdp }) => {
            if (verb !== 'publish') return {};
            await two.setRemoteDescription({ type: 'offer', sdp });
            await two.setLocalDescription();
            return { sdp: two.localDescription.sdp, tracks: [] };
        };
        const native = window.RTCPeerConnection;
        window.RTCPeerConnection = function () { return one; };
        const shown = new Promise((resolve) => {
            two.ontrack = ({ track }) => {
                if (track.kind !== 'video') return;
                const video = document.createElement('video');
                Object.assign(video, { muted: true, autoplay: true, srcObject: new MediaStream([track]) });
                document.body.append(video);
                video.requestVideoFrameCallback(() => resolve(video));
            };
        });
        await client.publish({ video: { colour: 'rgb(0, 128, 0)' }, audio: { tone: 400, beep: 1500 } });
        window.RTCPeerConnection = native;
        const video = await shown;
        client.subscriptions.set('x', { participant: 'p', received: new Map([['camera', { video }]]) });
        let seen = null;
        for (let tries = 0; tries < 300 && !(seen?.counter > 3); tries++) {
            await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
            seen = client.look('p');
        }
        const canvas = document.createElement('canvas');
        Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
        canvas.getContext('2d').drawImage(video, 0, 0);
        return { seen, pixels: canvas.toDataURL('image/png').split(',')[1] };
    });
    assert.ok(near(seen.colour, [0, 128, 0]), JSON.stringify(seen));
    assert.ok(seen.counter > 3, JSON.stringify(seen));
    await writeFile(file('drawn.png'), Buffer.from(pixels, 'base64'));
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-y', '-i', file('drawn.png'), '-c:v', 'ffv1', file('drawn.mkv')]);
    const [frame] = await frames(file('drawn.mkv'));
    assert.ok(Math.abs(frame.counter() - seen.counter) <= 2, `${frame.counter()} against ${seen.counter}`);
    assert.ok(near(frame.at(0.9, 0.9), [0, 128, 0]));
});

test('a drawn text is told from others that are like it', async (t) => {
    const page = await (await launch(t)).newPage();
    const texts = ['김철수 & <b>', '김철수 &amp; &lt;b&gt;', '김철수 & b', '□□□ & <b>', '이영희 & <b>'];
    // Another program draws: ffmpeg, as the recorder's GStreamer is another one too.
    await writeFile(file('words.txt'), texts[0]);
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-y', '-f', 'lavfi', '-i', 'color=red:s=1280x720:r=25:d=1', '-vf',
        `drawtext=font='Noto Sans CJK KR':textfile=${file('words.txt')}:expansion=none:fontsize=28:fontcolor=white:box=1:boxcolor=black@0.75:x=20:y=660`,
        '-c:v', 'libx264', '-pix_fmt', 'yuv420p', file('words.mp4')]);
    const label = brightBelow(await still(file('words.mp4'), 0.5), 0.65);
    const scores = await Promise.all(texts.map(async (text) => likeness(label, await drawn(page, text))));
    t.diagnostic(scores.map((score) => score.toFixed(2)).join(' '));
    assert.ok(scores[0] > 0.5 && scores.slice(1).every((score) => score < scores[0] - 0.1), `${scores}`);
    assert.equal(likeness(brightBelow(await still(file('words.mp4'), 0.5), 0, 256), label), 0);
});

test('the cable loses what it is told to lose', async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const cable = await makeCable(t);
    const lost = async (percent) => {
        await cable.drop(percent);
        const [command, ...prefix] = cable.prefix;
        // Kinds: 0 counted, 1 over, 2 are you there. There are enough of the last two to be lost.
        const receive = run(command, [...prefix, process.execPath, '-e', `
            const socket = require('dgram').createSocket('udp4');
            let got = 0;
            socket.on('message', ([kind], from) => {
                if (kind === 0) got++;
                else if (kind === 2) socket.send(Buffer.from([2]), from.port, from.address);
                else { socket.close(); console.log(got); }
            });
            socket.bind(9000);`], { limitMs: 20_000 });
        const send = run('ip', ['netns', 'exec', cable.browserNamespace, process.execPath, '-e', `
            const socket = require('dgram').createSocket('udp4');
            const send = (kind) => socket.send(Buffer.from([kind]), 9000, '${SERVER_IP}');
            const hello = setInterval(() => send(2), 20);
            socket.once('message', () => {
                clearInterval(hello);
                let sent = 0;
                const timer = setInterval(() => {
                    for (let n = 0; n < 10; n++, sent++) send(sent < 1500 ? 0 : 1);
                    if (sent > 1700) { clearInterval(timer); setImmediate(() => socket.close()); }
                }, 2);
            });`], { limitMs: 20_000 });
        await send;
        return 1 - Number(await receive) / 1500;
    };
    assert.ok((await lost(0)) < 0.01);
    const rate = await lost(5);
    assert.ok(rate > 0.025 && rate < 0.09, `${rate}`);
    assert.ok((await cable.dropped()) > 0);
});

test('waiting ends at its deadline and says for what', async () => {
    await assert.rejects(until('never', 50, () => false), /never/);
    await assert.rejects(until('boom', 50, () => { throw new Error('why'); }), /why/);
    assert.equal(await until('now', 50, () => 7), 7);
    await assert.rejects(within('slow', 30, new Promise(() => {})), /slow/);
    const server = createServer().listen(0, '127.0.0.1');
    await within('a port', 1_000, new Promise((resolve) => server.once('listening', resolve)));
    const socket = createConnection(server.address().port, '127.0.0.1');
    await within('a connection', 1_000, new Promise((resolve) => socket.once('connect', resolve)));
    socket.destroy();
    server.close();
});
