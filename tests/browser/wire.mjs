// A cable between pages and the server that can be pulled: passes TCP on, so that signalling is lost
// while media, which is UDP, goes on.

import { connect, createServer } from 'node:net';

// Gives the address to use in place of the server's, and what pulls the cable and puts it back. It is to be closed.
export async function makeWire(server) {
    const { hostname, port } = new URL(server.url);
    const open = new Set();
    let pulled = false;
    const listener = createServer((client) => {
        if (pulled) return void client.destroy();
        const onward = connect(port, hostname);
        for (const [socket, other] of [[client, onward], [onward, client]]) {
            open.add(socket);
            socket.on('error', () => {});
            socket.on('close', () => {
                open.delete(socket);
                other.destroy();
            });
            socket.pipe(other);
        }
    });
    await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return {
        url: `http://127.0.0.1:${listener.address().port}`,
        pull() {
            pulled = true;
            open.forEach((socket) => socket.destroy());
        },
        plug() { pulled = false; },
        close() {
            this.pull();
            listener.close();
        },
    };
}
