// Ports for peers that must be told theirs.

import { createSocket } from 'node:dgram';

/** A UDP port that nobody has. */
export async function freePort() {
    const socket = createSocket('udp4');
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
    const { port } = socket.address();
    await new Promise((resolve) => socket.close(resolve));
    return port;
}
