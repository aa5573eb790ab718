// A camera for the tests: tests/camera/camera.py, a real RTSP server in a process of its own.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from './wait.mjs';

const SCRIPT = fileURLToPath(new URL('../camera/camera.py', import.meta.url));

export const ENCODERS = {
    h264: 'x264enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=50 ! video/x-h264,profile=high ! h264parse ! rtph264pay config-interval=0',
    bFrames: 'x264enc speed-preset=veryfast bframes=2 b-adapt=false rc-lookahead=4 bitrate=600 key-int-max=25 ! video/x-h264,profile=high ! h264parse ! rtph264pay',
    h265: 'x265enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=25 ! h265parse ! rtph265pay',
    mjpeg: 'jpegenc ! rtpjpegpay',
    aac: 'avenc_aac bitrate=64000 ! aacparse ! rtpmp4gpay pt=97',
    pcmu: 'audio/x-raw,rate=8000 ! mulawenc ! rtppcmupay pt=0',
};

// Starts a camera that shows a colour and sounds a tone; it ends with the test.
export async function startCamera(t, look, { video = 'h264', audio = 'aac', port = 0, ...more } = {}) {
    const [r, g, b] = look.colour;
    const colour = 0xff000000 + (r << 16) + (g << 8) + b;
    const launch = `( videotestsrc is-live=true pattern=solid-color foreground-color=${colour} `
        + `! video/x-raw,format=I420,width=640,height=360,framerate=25/1 ! ${ENCODERS[video]} name=pay0 pt=96 `
        + `audiotestsrc is-live=true volume=0.5 freq=${look.tone} ! audio/x-raw,rate=48000,channels=1 `
        + `! audioconvert ! audioresample ! ${ENCODERS[audio]} name=pay1 )`;
    const child = spawn('/usr/bin/python3', [SCRIPT, JSON.stringify({ launch, port, ...more })], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    t.after(() => child.kill('SIGKILL'));
    const listening = new Promise((resolve, reject) => {
        createInterface(child.stdout).once('line', (line) => resolve(Number(line)));
        child.once('exit', () => reject(new Error('the camera ended at its start; script/setup --test installs what it needs')));
    });
    listening.catch(() => {}); // only of interest until it listens
    const bound = await within('the camera listens', 10_000, listening);
    const kill = async () => {
        child.kill('SIGKILL');
        await within('a killed camera is gone', 5_000, exited);
    };
    return { port: bound, uri: `rtsp://127.0.0.1:${bound}/live`, kill };
}
