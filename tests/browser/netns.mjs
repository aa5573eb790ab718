// Two network namespaces joined by a cable that loses packets: one for the server, one for Chromium.

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './content.mjs';

export const SERVER_IP = '10.213.7.1';
export const BROWSER_IP = '10.213.7.2';

export const canMakeNamespaces = () => process.getuid() === 0;

// Makes both namespaces; gone again when the test ends. `drop` sets the loss in percent, in both
// directions, of UDP only: signalling over TCP would but be slower.
export async function makeCable(t) {
    const tag = `${process.pid}`;
    const ends = [
        { name: `salon-s-${tag}`, device: `ss${tag}`, ip: SERVER_IP },
        { name: `salon-b-${tag}`, device: `sb${tag}`, ip: BROWSER_IP },
    ];
    const ip = (...args) => run('ip', args, { limitMs: 10_000 });
    const folder = await mkdtemp(join(tmpdir(), 'salon-netns-'));
    t.after(async () => {
        await rm(folder, { recursive: true, force: true });
        // Deleting a namespace takes its end of the cable with it, and the other end goes too.
        for (const { name } of ends) await ip('netns', 'del', name).catch(() => {});
    });

    for (const { name } of ends) await ip('netns', 'add', name);
    await ip('link', 'add', ends[0].device, 'netns', ends[0].name, 'type', 'veth', 'peer', 'name', ends[1].device, 'netns', ends[1].name);
    for (const { name, device, ip: address } of ends) {
        await ip('-n', name, 'address', 'add', `${address}/24`, 'dev', device);
        await ip('-n', name, 'link', 'set', device, 'up');
        await ip('-n', name, 'link', 'set', 'lo', 'up');
        // A default route, so that Chromium takes the machine to be online.
        await ip('-n', name, 'route', 'add', 'default', 'via', address === SERVER_IP ? BROWSER_IP : SERVER_IP);
    }

    // Playwright wants one executable.
    const executable = join(folder, 'chromium');
    await writeFile(executable, `#!/bin/sh\nexec ip netns exec ${ends[1].name} ${process.env.CHROMIUM ?? '/usr/bin/chromium'} "$@"\n`);
    await chmod(executable, 0o755);

    return {
        prefix: ['ip', 'netns', 'exec', ends[0].name],
        browserNamespace: ends[1].name,
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
