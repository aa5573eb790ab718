// Plays a file in VLC, as the user would, and looks at the pictures it showed.

import { spawn } from 'node:child_process';
import { chmod, chown, copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { frames, run } from './content.mjs';
import { within } from './wait.mjs';

// VLC refuses to run as root.
const NOBODY = 65534;

// Plays `source` (a file, copied first, or a URL) from its beginning to its end at its own
// pace and gives every `every`th picture, in order, and what VLC said. What has no end is played for
// so many `seconds`.
export async function play(source, { limitMs = 90_000, every = 5, seconds = 0 } = {}) {
    const folder = await mkdtemp(join(tmpdir(), 'salon-vlc-'));
    const asRoot = process.getuid() === 0;
    try {
        let media = source;
        if (!source.includes('://')) {
            media = join(folder, 'played.mp4');
            await copyFile(source, media);
            await chmod(media, 0o644);
        }
        if (asRoot) await chown(folder, NOBODY, NOBODY);
        const said = await cvlc(folder, media, { every, limitMs, seconds }, asRoot);
        return { pictures: await pictures(folder), said };
    } finally {
        await rm(folder, { recursive: true, force: true });
    }
}

async function cvlc(folder, media, { every, limitMs, seconds }, asRoot) {
    const args = [
        '--intf=dummy', '--no-color', '--play-and-exit', '--no-video-title-show', '--no-media-library',
        '--vout=dummy', '--aout=dummy', '--avcodec-hw=none', '--no-drop-late-frames', '--no-skip-frames',
        '--video-filter=scene', '--scene-format=png', '--scene-width=320', '--scene-height=180', `--scene-ratio=${every}`, `--scene-path=${folder}`, '--scene-prefix=shown',
        ...(seconds ? [`--run-time=${seconds}`] : []), media,
    ];
    const options = {
        cwd: folder,
        env: { PATH: process.env.PATH, HOME: folder, XDG_RUNTIME_DIR: folder, LANG: 'C.UTF-8' },
        stdio: ['ignore', 'ignore', 'pipe'],
        ...(asRoot && { uid: NOBODY, gid: NOBODY }),
    };
    const child = spawn('cvlc', args, { ...options, detached: true });
    const said = [];
    child.stderr.on('data', (part) => said.push(part));
    const ended = new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
    });
    try {
        await within(`VLC plays ${media} to its end`, limitMs, ended);
    } catch (error) {
        error.message += `\n${Buffer.concat(said)}`;
        throw error;
    } finally {
        // cvlc is a shell that starts vlc: the group is both.
        if (child.exitCode === null && child.pid) process.kill(-child.pid, 'SIGKILL');
    }
    return Buffer.concat(said).toString();
}

// The pictures the scene filter wrote, as frames without a time.
async function pictures(folder) {
    const names = (await readdir(folder)).filter((name) => /^shown\d+\.png$/.test(name)).sort();
    const list = join(folder, 'shown.mkv');
    if (names.length === 0) return [];
    // Unencoded into one file, so that the same reader serves pictures and recordings.
    await run('ffmpeg', ['-nostdin', '-v', 'error', '-pattern_type', 'glob', '-framerate', '25', '-i', join(folder, 'shown*.png'),
        '-c:v', 'ffv1', '-y', list]);
    return frames(list);
}
