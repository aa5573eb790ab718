// Two network namespaces, one for the server, one for Chromium: joined by a cable that loses packets, or by several
// networks that come and go.

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './content.mjs';

export const SERVER_IP = '10.213.7.1';
export const BROWSER_IP = '10.213.7.2';

export const canMakeNamespaces = () => process.getuid() === 0;

// Both namespaces, gone again when the test ends, and Chromium in the one that is the browser's.
async function makeNamespaces(t) {
    const tag = `${process.pid}`;
    const [server, browser] = [`salon-s-${tag}`, `salon-b-${tag}`];
    const folder = await mkdtemp(join(tmpdir(), 'salon-netns-'));
    t.after(async () => {
        await rm(folder, { recursive: true, force: true });
        // Deleting a namespace takes its ends of the cables with it, and the other ends go too.
        for (const name of [server, browser]) await ip('netns', 'del', name).catch(() => {});
    });
    for (const name of [server, browser]) {
        await ip('netns', 'add', name);
        await ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    // Playwright wants one executable.
    const executable = join(folder, 'chromium');
    await writeFile(executable, `#!/bin/sh\nexec ip netns exec ${browser} ${process.env.CHROMIUM ?? '/usr/bin/chromium'} "$@"\n`);
    await chmod(executable, 0o755);
    return { tag, server, browser, executable, prefix: ['ip', 'netns', 'exec', server] };
}

const ip = (...args) => run('ip', args, { limitMs: 10_000 });

// The networks that a browser may be in: each a cable of its own to the server, which is at `ROAMING_SERVER_IP` over
// all of them.
export const ROAMING_SERVER_IP = '10.213.9.1';
export const NETWORKS = {
    wifi: { device: 'wifi0', server: '10.213.7.1', browser: '10.213.7.2', metric: 100 },
    mobile: { device: 'mobile0', server: '10.213.8.1', browser: '10.213.8.2', metric: 200 },
};

// Lays the cables; the browser is in no network yet.
export async function makeNetworks(t) {
    const { server, browser, ...rest } = await makeNamespaces(t);
    await ip('-n', server, 'address', 'add', `${ROAMING_SERVER_IP}/32`, 'dev', 'lo');
    for (const { device, server: address } of Object.values(NETWORKS)) {
        await ip('link', 'add', device, 'netns', server, 'type', 'veth', 'peer', 'name', device, 'netns', browser);
        await ip('-n', server, 'address', 'add', `${address}/24`, 'dev', device);
        await ip('-n', server, 'link', 'set', device, 'up');
    }
    return {
        ...rest,
        // As a network manager does it: of two networks the one of the lower metric is used.
        async enter({ device, server: gateway, browser: address, metric }) {
            await ip('-n', browser, 'link', 'set', device, 'up');
            await ip('-n', browser, 'address', 'add', `${address}/24`, 'dev', device);
            await ip('-n', browser, 'route', 'add', 'default', 'via', gateway, 'dev', device, 'metric', `${metric}`);
        },
        // The interface is down, and its address and routes are gone.
        async leave({ device }) {
            await ip('-n', browser, 'link', 'set', device, 'down');
            await ip('-n', browser, 'address', 'flush', 'dev', device);
        },
    };
}

// Joins both namespaces by a cable. `drop` sets the loss in percent, in both
// directions, of UDP only: signalling over TCP would but be slower.
export async function makeCable(t) {
    const { tag, server, browser, executable, prefix } = await makeNamespaces(t);
    const ends = [
        { name: server, device: `ss${tag}`, ip: SERVER_IP },
        { name: browser, device: `sb${tag}`, ip: BROWSER_IP },
    ];
    await ip('link', 'add', ends[0].device, 'netns', ends[0].name, 'type', 'veth', 'peer', 'name', ends[1].device, 'netns', ends[1].name);
    for (const { name, device, ip: address } of ends) {
        await ip('-n', name, 'address', 'add', `${address}/24`, 'dev', device);
        await ip('-n', name, 'link', 'set', device, 'up');
        // A default route, so that Chromium takes the machine to be online.
        await ip('-n', name, 'route', 'add', 'default', 'via', address === SERVER_IP ? BROWSER_IP : SERVER_IP);
    }

    return {
        prefix,
        browserNamespace: browser,
        executable,
        // Packets are dropped as they come in: dropped on the way out, the sender would be told.
        async drop(percent) {
            const some = percent < 100 ? `numgen random mod 100 < ${percent}` : '';
            for (const { name } of ends) {
                await run('ip', ['netns', 'exec', name, 'nft',
                    `add table inet loss; flush table inet loss;
                     add chain inet loss in { type filter hook input priority 0; };
                     add rule inet loss in meta l4proto udp ${some} counter drop`], { limitMs: 10_000 });
            }
        },
        // How many packets were dropped so far, on both ends.
        async dropped() {
            const counts = await Promise.all(ends.map(async ({ name }) => {
                const text = await run('ip', ['netns', 'exec', name, 'nft', '-j', 'list', 'table', 'inet', 'loss']);
                return JSON.parse(text).nftables.flatMap(({ rule }) => rule?.expr ?? []).reduce((sum, { counter }) => sum + (counter?.packets ?? 0), 0);
            }));
            return counts.reduce((a, b) => a + b, 0);
        },
    };
}
