// The page's own network interface goes, and another one comes: Wi-Fi to mobile, and back.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { DESK, openApp } from './app.mjs';
import { launch } from './browser.mjs';
import { canMakeNamespaces, makeNetworks, NETWORKS, ROAMING_SERVER_IP } from './netns.mjs';
import { startServer } from './server.mjs';
import { skip, until, within } from './wait.mjs';

const SECRET = 'secret-of-the-test';
// From when the interface is gone until pictures and sounds of everybody come over the other one.
const LONGEST_GAP_MS = 10_000;
// Pictures that are decoded, and packets of sound and pictures.
const MORE = { decoded: 10, heard: 25, sent: 25 };

test('the interface goes and another one comes: the same stay goes on', { timeout: 90_000 }, async (t) => {
    if (!canMakeNamespaces() && skip(t, 'network namespaces need root')) return;
    const { wifi, mobile } = NETWORKS;
    const networks = await makeNetworks(t);
    await networks.enter(wifi);
    // Where webrtcbin serves them they come back with new connections and tracks.
    const env = { SALON_API_SECRET: SECRET, SALON_EDGE: 'auto' };
    const server = await startServer(t, { prefix: networks.prefix, host: ROAMING_SERVER_IP, env });
    // Only secure pages have a camera.
    const args = [`--unsafely-treat-insecure-origin-as-secure=${server.url}`];
    const browser = await launch(t, { executable: networks.executable, args });
    const apps = await Promise.all(['Ann', 'Bob'].map(async (name) => {
        const app = await openApp(browser, server, '/r/roaming', { ...DESK, before: (page) => page.addInitScript(keepConnections) });
        await app.join(name);
        await app.inRoom();
        return Object.assign(app, { nick: name });
    }));
    await come(apps, wifi);
    const room = await listen(t, networks.prefix, server);

    await t.test('Wi-Fi is lost, then there is a mobile network', () => move(t, apps, room, mobile, async () => {
        await networks.leave(wifi);
        await networks.enter(mobile);
    }));
    await t.test('Wi-Fi is there again, then the mobile network is lost', () => move(t, apps, room, wifi, async () => {
        await networks.enter(wifi);
        await networks.leave(mobile);
    }));
    for (const app of apps) assert.deepEqual(app.errors, []);
});

async function move(t, apps, room, network, swap) {
    const before = await Promise.all(apps.map(stay));
    const heard = room.events.length;
    await Promise.all(apps.map((app) => app.page.evaluate(() => window.measureGap())));
    await swap();
    const began = Date.now();
    await come(apps, network, LONGEST_GAP_MS);
    const moved = Date.now() - began;
    const gaps = await Promise.all(apps.map((app) => app.page.evaluate(() => window.longestGap())));
    t.diagnostic(`to ${network.device}: all is there after ${moved} ms; no picture for ${gaps.map(Math.round)} ms`);

    for (const app of apps) {
        await app.get('banner').waitFor({ state: 'detached' });
        await until(`${app.nick}'s socket is back`, 5_000, () => app.page.evaluate(() => window.sockets.at(-1).readyState === WebSocket.OPEN));
        assert.equal(await app.page.locator('.notice.warning').count(), 0, await app.get('notice').allTextContents().then(String));
        assert.equal(await app.get('tile-state').filter({ visible: true }).count(), 0);
    }
    // Whoever came back can be reached: what one says, the other is told.
    const [ann, bob] = apps;
    const unread = Number(await bob.get('unread').textContent()) + 1;
    await say(ann, `over ${network.device}`);
    await bob.get('unread').filter({ hasText: `${unread}` }).waitFor();
    assert.deepEqual(await Promise.all(apps.map(stay)), before);
    const told = room.events.slice(heard).map(({ type }) => type);
    const wrong = told.filter((type) => /participant-(left|joined)|track-(published|unpublished)/.test(type));
    assert.deepEqual(wrong, [], 'for the others nobody went or came');
}

async function say(app, text) {
    if (!(await app.get('chat-input').isVisible())) await app.openPanel('chat');
    await app.get('chat-input').fill(text);
    await app.get('chat-send').click();
}

// Who somebody is, what he publishes, and how many connections his page has made.
async function stay(app) {
    const { participants } = await app.page.evaluate(async (secret) => {
        const response = await fetch('/api/rooms/roaming', { headers: { authorization: `Bearer ${secret}` } });
        return response.json();
    }, SECRET);
    const id = await app.ownId();
    const connections = await app.page.evaluate(() => window.connections.length);
    return { id, connections, tracks: participants.find((one) => one.id === id).tracks.map((track) => track.id) };
}

// Waits until each sees and hears more of the other, and all of it passes that network.
async function come(apps, { browser: address }, limitMs = 20_000) {
    await Promise.all(apps.map(async (app) => {
        const began = await app.page.evaluate(() => window.flows());
        await until(`${app.nick} sends and receives over ${address}`, limitMs, async () => {
            const now = await app.page.evaluate((address_) => window.flows(address_), address);
            if (Object.entries(MORE).every(([name, more]) => now[name] >= began[name] + more)) return true;
            throw new Error(`${JSON.stringify(began)}, now ${JSON.stringify(now)}`);
        });
    }));
}

// The room's events from now on, as a listener in the server's namespace hears them.
async function listen(t, [command, ...prefix], server) {
    const script = `fetch(process.argv[1], { headers: { authorization: 'Bearer ${SECRET}' } })
        .then(async ({ body }) => { for await (const part of body) process.stdout.write(part); });`;
    const child = spawn(command, [...prefix, process.execPath, '-e', script, `${server.url}/api/rooms/roaming/events`], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill());
    const events = [];
    await within('the room is heard', 10_000, new Promise((resolve) => {
        createInterface(child.stdout).on('line', (line) => {
            const [, type] = /^event: ?(.*)$/.exec(line) ?? [];
            if (type) events.push({ type });
            if (type) resolve();
        });
    }));
    return { events };
}

// Runs in the page before its own scripts: they keep their connections to themselves.
function keepConnections() {
    window.connections = [];
    window.sockets = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...args) {
            super(...args);
            window.connections.push(this);
        }
    };
    window.WebSocket = class extends WebSocket {
        constructor(...args) {
            super(...args);
            window.sockets.push(this);
        }
    };
    const reports = async () => {
        const open = window.connections.filter(({ connectionState }) => connectionState !== 'closed');
        return Promise.all(open.map(async (pc) => [...(await pc.getStats()).values()]));
    };
    // What was decoded, heard and sent so far, if an address is given by connections whose path begins there.
    window.flows = async (address) => {
        const sums = { decoded: 0, heard: 0, sent: 0 };
        for (const report of await reports()) {
            const find = (id) => report.find((one) => one.id === id);
            const transport = report.find(({ type, selectedCandidatePairId }) => type === 'transport' && selectedCandidatePairId);
            const local = find(find(transport?.selectedCandidatePairId)?.localCandidateId);
            if (address && local?.address !== address) continue;
            for (const { type, kind, framesDecoded, packetsReceived, packetsSent } of report) {
                if (type === 'inbound-rtp' && kind === 'video') sums.decoded += framesDecoded;
                if (type === 'inbound-rtp' && kind === 'audio') sums.heard += packetsReceived;
                if (type === 'outbound-rtp' && kind === 'video') sums.sent += packetsSent;
            }
        }
        return sums;
    };
    // From now on the longest time without another decoded picture is noted.
    let gap;
    window.measureGap = () => {
        clearInterval(gap?.timer);
        const mine = gap = { longest: 0, decoded: 0, at: performance.now() };
        mine.timer = setInterval(async () => {
            const all = (await reports()).flat().filter(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
            const decoded = all.reduce((sum, { framesDecoded }) => sum + framesDecoded, 0);
            if (decoded === mine.decoded) return;
            const now = performance.now();
            mine.longest = Math.max(mine.longest, now - mine.at);
            Object.assign(mine, { decoded, at: now });
        }, 50);
    };
    window.longestGap = () => {
        clearInterval(gap.timer);
        return gap.longest;
    };
}
