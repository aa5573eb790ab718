// A bad line in front of the server: a relay that all media passes, and that delays, reorders, loses and
// holds it up, lets through so much a second, gives everybody another address, or is dead. Where the kernel has
// no netem, and also where it has: it tells sound and pictures apart, which share a path.
//
// The server binds loopback and announces the address at which the relay listens, as behind a NAT. Run as a
// program (`node line.mjs`) this file is the relay, in the server's namespace, told what to do by its parent.

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { within } from './wait.mjs';

const INSIDE = '127.0.0.1';
const PORTS = { first: 42_000, count: 12 };
// Payload numbers of sound: what Chromium publishes, and what the server offers, is Opus under the first number, or
// redundant under the second.
const SOUND = [111, 63];

// What `startServer` needs so that its media passes the line.
export const behindLine = (address) => ({
    SALON_MEDIA_BIND: INSIDE,
    SALON_MEDIA_IP: address,
    SALON_MEDIA_PORTS: `${PORTS.first}-${PORTS.first + PORTS.count - 1}`,
});

// Starts the relay at `address`, in the namespace that `prefix` names; gone when the test ends.
export async function makeLine(t, { prefix, address }) {
    const [command, ...args] = [...prefix, process.execPath, fileURLToPath(import.meta.url), address];
    const relay = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    t.after(async () => {
        if (relay.exitCode !== null || relay.signalCode !== null) return;
        const gone = once(relay, 'exit');
        relay.kill();
        await within('the line is gone', 5_000, gone);
    });
    const ask = async (message) => {
        const answer = once(relay, 'message');
        relay.send(message);
        const [counts] = await within('the line answers', 5_000, answer);
        return counts;
    };
    await within('the line is there', 10_000, once(relay, 'message'));
    return {
        // Each direction (`up`: to the server; `down`) is as told until it is told anew; what is left out is well:
        // `loss` (share), `jitterMs` (each packet waits up to that long, by chance), `hold` (`{sound: ms}` or
        // `{picture: ms}` for each client in the order in which media of theirs first came: those of that kind wait so
        // long, reports too), `kbps` and `queueMs` (each client's own queue, which drops what would wait longer), `dead`.
        set: ({ up = {}, down = {} }) => ask({ set: { up, down } }),
        // Everybody comes from another address from now on, and nothing passes by the old one.
        rebind: () => ask({ rebind: true }),
        // Packets and bytes by direction since the last time: passed, dropped, overtaken by a later one.
        counts: () => ask({}),
    };
}

// One direction of the line: decides for each packet when it goes on.
class Way {
    rules = {};
    counts = { passed: 0, dropped: 0, overtaken: 0, bytes: 0 };
    #free = new Map(); // client → when what waits for him has gone
    #latest = 0;
    #sound = new Set();
    #media = []; // clients of whom some came
    #random;

    constructor(seed) {
        this.#random = seed;
    }

    // The same packets are lost in each run (mulberry32), as far as the same come.
    random() {
        this.#random = (this.#random + 0x6d2b79f5) | 0;
        let t = Math.imul(this.#random ^ (this.#random >>> 15), 1 | this.#random);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    }

    pass(packet, client, send) {
        const { loss = 0, jitterMs = 0, hold = [], kbps, queueMs = 300, dead = false } = this.rules;
        const now = performance.now();
        const kind = this.#kindOf(packet, client);
        let at = now + jitterMs * this.random() + (hold[this.#media.indexOf(client)]?.[kind] ?? 0);
        let drops = dead || this.random() < loss;
        if (kbps && !drops) {
            const free = Math.max(now, this.#free.get(client) ?? 0) + (8 * packet.length) / kbps;
            drops = free - now > queueMs;
            if (!drops) {
                this.#free.set(client, free);
                at = Math.max(at, free);
            }
        }
        if (drops) return void this.counts.dropped++;
        this.counts.passed++;
        this.counts.bytes += packet.length;
        if (at < this.#latest) this.counts.overtaken++;
        this.#latest = Math.max(this.#latest, at);
        if (at - now < 1) send(packet);
        else sleep(at - now).then(() => send(packet));
    }

    // Headers of RTP are not encrypted (RFC 3711), nor whose a report is.
    #kindOf(packet, client) {
        if (packet.length < 12 || packet[0] < 128 || packet[0] > 191) return 'other';
        const isReport = packet[1] >= 192 && packet[1] <= 223;
        const source = packet.readUInt32BE(isReport ? 4 : 8);
        if (!isReport && !this.#media.includes(client)) this.#media.push(client);
        if (!isReport && SOUND.includes(packet[1] & 127)) this.#sound.add(source);
        return this.#sound.has(source) ? 'sound' : 'picture';
    }
}

async function relay(outside) {
    const ways = { up: new Way(1), down: new Way(2) };
    const clients = new Map(); // address and port of a client, and port of ours → the socket that is he
    let address = 1; // of the client, as the server sees him
    const inside = (outer, rinfo, name) => {
        const socket = createSocket('udp4');
        socket.bind(0, `127.0.0.${address}`);
        socket.on('message', (packet) => ways.down.pass(packet, name, (it) => outer.send(it, rinfo.port, rinfo.address)));
        socket.on('error', () => {}); // the server has closed that port
        return socket;
    };
    for (let port = PORTS.first; port < PORTS.first + PORTS.count; port++) {
        const outer = createSocket('udp4');
        outer.on('error', (error) => { throw error; });
        outer.on('message', (packet, rinfo) => {
            const name = `${rinfo.address} ${rinfo.port} ${port}`;
            ways.up.pass(packet, name, (it) => {
                if (!clients.has(name)) clients.set(name, inside(outer, rinfo, name));
                clients.get(name).send(it, port, INSIDE);
            });
        });
        outer.bind(port, outside);
        await once(outer, 'listening');
    }
    process.on('message', ({ set, rebind }) => {
        const counts = Object.fromEntries(Object.entries(ways).map(([name, way]) => [name, way.counts]));
        for (const way of Object.values(ways)) way.counts = { passed: 0, dropped: 0, overtaken: 0, bytes: 0 };
        for (const [name, rules] of Object.entries(set ?? {})) ways[name].rules = rules;
        if (rebind) {
            clients.forEach((socket) => socket.close());
            clients.clear();
            address++;
        }
        process.send(counts);
    });
    process.on('disconnect', () => process.exit());
    process.send('ready');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await relay(process.argv[2]);
