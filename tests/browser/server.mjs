// The server under test: the real binary with ports of the system's choice and folders of its own.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from './wait.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BINARY = process.env.SALON_BIN ?? join(ROOT, 'target/debug/salon');
const KEPT_LINES = 400;

// Starts a server that ends with the test; its log is printed if the test fails.
// `prefix`: a command to run it under, e.g. `ip netns exec …`; `host`: the address to listen on.
export async function startServer(t, { env = {}, prefix = [], host = '127.0.0.1' } = {}) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: cargo build, or set SALON_BIN`);
    const folder = await mkdtemp(join(tmpdir(), 'salon-test-'));
    await mkdir(join(folder, 'recordings'));
    const server = new Server(folder, { env, prefix, host });
    server.showLogIfFailed(t);
    t.after(async () => {
        await server.stop();
        await rm(folder, { recursive: true, force: true });
    });
    await server.start();
    return server;
}

// `t.passed` came with Node 21.7; before that the log is shown when asked for.
function passed(t) {
    return t.passed ?? !process.env.SALON_TEST_LOG;
}

class Server {
    log = [];

    constructor(folder, { env, prefix, host }) {
        this.folder = folder;
        this.recordings = join(folder, 'recordings');
        this.prefix = prefix;
        this.host = host;
        this.env = {
            PATH: process.env.PATH,
            HOME: folder,
            LANG: 'C.UTF-8',
            NO_COLOR: '1',
            SALON_HTTP_LISTEN: `${host}:0`,
            SALON_HTTPS_LISTEN: '',
            SALON_RTSP_LISTEN: `${host}:0`,
            SALON_SRT_LISTEN: `${host}:0`,
            SALON_MEDIA_BIND: host,
            SALON_RECORDINGS_DIR: this.recordings,
            SALON_DATA_DIR: folder,
            SALON_LOG: process.env.SALON_LOG ?? 'info',
            // All of these tests are to pass over both edges.
            ...(process.env.SALON_EDGE && { SALON_EDGE: process.env.SALON_EDGE }),
            ...(process.env.GST_DEBUG && { GST_DEBUG: process.env.GST_DEBUG }),
            ...env,
        };
    }

    async start() {
        const [command, ...args] = [...this.prefix, BINARY, 'serve'];
        this.process = spawn(command, args, { cwd: this.folder, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
        this.exited = new Promise((resolve) => {
            this.process.once('exit', (code, signal) => resolve({ code, signal }));
            this.process.once('error', (error) => resolve({ code: null, signal: null, error }));
        });
        createInterface(this.process.stderr).on('line', (line) => this.note(line));
        const urls = new Map();
        const listening = new Promise((resolve) => {
            createInterface(this.process.stdout).on('line', (line) => {
                this.note(line);
                const [, scheme, rest] = /^listening on (https?|rtsp|srt):\/\/(\S+)/.exec(line) ?? [];
                if (scheme) urls.set(scheme, `${scheme}://${rest}`);
                const expected = ['http', ...(this.env.SALON_HTTPS_LISTEN ? ['https'] : []), ...(this.env.SALON_RTSP_LISTEN ? ['rtsp'] : []), ...(this.env.SALON_SRT_LISTEN ? ['srt'] : [])];
                if (expected.every((one) => urls.has(one))) resolve();
            });
        });
        const ended = this.exited.then(({ code, signal, error }) => {
            throw new Error(`the server ended at its start: ${error ?? signal ?? code}\n${this.log.join('\n')}`);
        });
        ended.catch(() => {}); // only of interest until it listens
        await within('the server listens', 20_000, Promise.race([listening, ended]));
        this.url = urls.get('http').replace(/\/$/, '');
        this.rtspUrl = urls.get('rtsp');
        this.srtUrl = urls.get('srt');
        this.httpsUrl = urls.get('https')?.replace(/\/$/, '');
        // A server that is started again is found where it was.
        this.env.SALON_HTTP_LISTEN = new URL(this.url).host;
    }

    // For a test, or a part of one: a failed part does not make its whole look failed in time.
    showLogIfFailed(t) {
        t.after(() => passed(t) || console.error(`--- server of "${t.name}"\n${this.log.join('\n')}\n---`));
    }

    note(line) {
        this.log.push(line);
        if (this.log.length > KEPT_LINES) this.log.shift();
    }

    // As the power switch does.
    async kill() {
        this.process.kill('SIGKILL');
        await within('a killed server is gone', 5_000, this.exited);
    }

    // As an operator does; a server that does not end in time is killed and that is an error.
    async stop() {
        if (this.process.exitCode !== null || this.process.signalCode !== null) return;
        this.process.kill('SIGTERM');
        try {
            await within('the server ends after SIGTERM', 25_000, this.exited);
        } catch (error) {
            await this.kill();
            throw error;
        }
    }

    // A request to the HTTP API as its owner; anything but 2xx is an error.
    async api(method, path, body) {
        const response = await fetch(`${this.url}${path}`, {
            method,
            headers: body ? { 'content-type': 'application/json' } : {},
            body: body && JSON.stringify(body),
            signal: AbortSignal.timeout(40_000),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return text ? JSON.parse(text) : null;
    }

    // The local ports of the process's UDP sockets: its descriptors, looked up in the kernel's table
    // of its network namespace.
    async udpPorts() {
        const { pid } = this.process;
        const links = await Promise.all((await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
        const inodes = new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
        const rows = (await readFile(`/proc/${pid}/net/udp`, 'utf8')).trim().split('\n').slice(1).map((row) => row.trim().split(/\s+/));
        return new Set(rows.filter((row) => inodes.has(row[9])).map((row) => parseInt(row[1].split(':')[1], 16)));
    }

    // The newest media file below the recordings folder that is not empty.
    async fileBeingWritten() {
        const names = (await readdir(this.recordings, { recursive: true })).filter((name) => /\.(mp4|part)$/.test(name));
        const files = await Promise.all(names.map(async (name) => ({ path: join(this.recordings, name), ...(await stat(join(this.recordings, name))) })));
        const written = files.filter(({ size }) => size > 0).sort((a, b) => b.mtimeMs - a.mtimeMs)[0];
        if (!written) throw new Error(`no recording is being written: ${names}`);
        return written.path;
    }

    // The bytes of a recording, over HTTP.
    async download(id) {
        const response = await fetch(`${this.url}/api/recordings/${id}/file`, { signal: AbortSignal.timeout(40_000) });
        if (!response.ok) throw new Error(`download of ${id}: ${response.status}`);
        return Buffer.from(await response.arrayBuffer());
    }
}
