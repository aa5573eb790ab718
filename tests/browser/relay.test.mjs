// A participant whose network lets nothing through but TURN.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { enter, launch } from './browser.mjs';
import { ANN, appear, BOB, hears, movesOn, sees } from './call.mjs';
import { freePort } from './port.mjs';
import { startServer } from './server.mjs';
import { until, within } from './wait.mjs';

test('two people meet through a TURN relay alone', async (t) => {
    const turn = await startTurn(t);
    const server = await startServer(t, { env: { SALON_ICE_SERVERS: JSON.stringify([turn]) } });
    const browser = await launch(t);
    const [ann, bob] = await Promise.all([0, 1].map(() => enter(browser, server, { iceTransportPolicy: 'relay' })));
    await ann.join('relay', 'Ann');
    await bob.join('relay', 'Bob');
    await Promise.all([appear(ann, ANN), appear(bob, BOB)]);
    await Promise.all([ann.subscribeAll(), bob.subscribeAll()]);
    await Promise.all([sees(ann, bob, BOB), sees(bob, ann, ANN), hears(ann, bob, BOB), hears(bob, ann, ANN)]);
    await movesOn(ann, bob);

    for (const of of [{ connection: 'main' }, { participant: bob.id }]) {
        const { local, remote } = await ann.selectedPair(of);
        assert.equal(local.candidateType, 'relay');
        assert.ok((await server.udpPorts()).has(remote.port));
    }
});

// A coturn of our own on loopback; gone when the test ends.
async function startTurn(t) {
    const port = await freePort();
    const folder = await mkdtemp(join(tmpdir(), 'salon-turn-'));
    const turn = spawn('turnserver', [
        '-n', '--no-cli', '--no-tls', '--no-dtls', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`,
        '--min-port=52000', '--max-port=52999', '--lt-cred-mech', '--user=salon:salon', '--realm=salon', '--allow-loopback-peers',
        `--userdb=${join(folder, 'turn.db')}`, `--pidfile=${join(folder, 'turn.pid')}`, '--log-file=stdout', '--simple-log',
    ], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = [];
    for (const stream of [turn.stdout, turn.stderr]) stream.on('data', (part) => said.push(part));
    const exited = new Promise((resolve, reject) => {
        turn.once('error', reject);
        turn.once('exit', resolve);
    });
    exited.catch(() => {});
    t.after(async () => {
        turn.kill('SIGTERM');
        await within('coturn ends', 10_000, exited).catch(() => turn.kill('SIGKILL'));
        await rm(folder, { recursive: true, force: true });
    });
    await until('coturn answers', 10_000, () => {
        if (turn.exitCode !== null) throw new Error(`coturn ended: ${Buffer.concat(said)}`);
        return answersStun(port);
    });
    return { urls: [`turn:127.0.0.1:${port}?transport=udp`], username: 'salon', credential: 'salon' };
}

// A STUN binding request (RFC 8489 §5) and whether anything comes back.
async function answersStun(port) {
    const socket = createSocket('udp4');
    try {
        const request = Buffer.alloc(20);
        request.writeUInt16BE(0x0001, 0);
        request.writeUInt32BE(0x2112a442, 4);
        const answer = new Promise((resolve) => socket.once('message', resolve));
        socket.send(request, port, '127.0.0.1');
        await within('a STUN answer', 300, answer);
        return true;
    } finally {
        socket.close();
    }
}
