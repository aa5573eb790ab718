// Starts Chromium, or Firefox, and gives each participant a page that speaks the native protocol (client.js).

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { chromium, firefox } from 'playwright-core';

export const CLIENT = await readFile(new URL('client.js', import.meta.url), 'utf8');

const FLAGS = [
    '--no-sandbox', // the tests may run as root
    '--allow-loopback-in-peer-connection',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
];
const AUTOPLAY = ['--autoplay-policy=no-user-gesture-required'];
const FAKE_DEVICES = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];

// One browser process, closed when the test ends. `executable`: for a browser in a namespace;
// `devices: false`: it asks for the camera as a user's does, and has none; `autoplay: false`: it plays
// sound only after a gesture, as a user's does.
export async function launch(t, { executable = process.env.CHROMIUM ?? '/usr/bin/chromium', devices = true, autoplay = true, args = [] } = {}) {
    const browser = await chromium.launch({
        executablePath: executable,
        headless: true,
        args: [...FLAGS, ...(autoplay ? AUTOPLAY : []), ...(devices ? FAKE_DEVICES : []), ...args],
        // Playwright mutes what it starts, and what is muted may always play.
        ignoreDefaultArgs: autoplay ? [] : ['--mute-audio'],
        timeout: 30_000,
    });
    t.after(() => browser.close());
    return browser;
}

export const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
export const hasFirefox = () => existsSync(FIREFOX);

// Hz, of its fake microphone.
export const FIREFOX_TONE = 400;
const FIREFOX_PREFS = {
    'media.navigator.streams.fake': true,
    'media.navigator.audio.fake_frequency': FIREFOX_TONE,
    'media.navigator.permission.disabled': true,
    'media.peerconnection.ice.loopback': true,
    'media.peerconnection.ice.obfuscate_host_addresses': false,
    'media.autoplay.default': 0,
    'media.autoplay.blocking_policy': 0,
};

// Firefox as distributions ship it, over WebDriver BiDi: Playwright's own protocol wants its own build.
export async function launchFirefox(t) {
    const browser = await firefox.launch({
        channel: 'moz-firefox', executablePath: FIREFOX, headless: true, firefoxUserPrefs: FIREFOX_PREFS, timeout: 30_000,
    });
    t.after(() => browser.close());
    return browser;
}

// Ends a browser as a crash does: its main process is killed, and says goodbye to nobody.
export async function crash(browser) {
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    const gone = new Promise((resolve) => browser.once('disconnected', resolve));
    for (const { id } of processInfo.filter(({ type }) => type === 'browser')) process.kill(id, 'SIGKILL');
    await gone;
}

// A page of the server's origin with a participant in it who has not joined yet. What his page
// writes to its console is kept and shown when the test fails.
export async function enter(browser, server, options = {}) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true });
    const page = await context.newPage();
    page.on('pageerror', (error) => server.note(`page error: ${error.stack ?? error}`));
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && server.note(`page: ${message.text()}`));
    // Any page of the origin will do; this one has no script of its own.
    await page.goto(`${server.url}/healthz`, { timeout: 15_000 });
    await page.evaluate(CLIENT);
    // Firefox tells a page that has no device only of the address of its default route.
    if (browser.browserType().name() === 'firefox') {
        await page.evaluate(async () => { window.device = await navigator.mediaDevices.getUserMedia({ audio: true }); });
    }
    const participant = new Participant(page);
    await participant.call('connect', `${server.url.replace(/^http/, 'ws')}/ws`, options);
    return participant;
}

// The Node side of a participant: each method is one of `window.salon` in client.js.
export class Participant {
    constructor(page) {
        this.page = page;
    }

    call(method, ...args) {
        return this.page.evaluate(([name, values]) => window.salon[name](...values), [method, args]);
    }

    async join(room, name, fields) {
        const joined = await this.call('join', room, name, fields);
        this.id = joined.participant;
        this.access = joined.access;
        this.name = name;
        return joined;
    }

    request(type, fields) { return this.call('request', type, fields); }
    publish(what) { return this.call('publish', what); }
    unpublish(connection) { return this.call('unpublish', connection); }
    subscribeAll() { return this.call('subscribeAll'); }
    resize(connection, width, height) { return this.call('resize', connection, width, height); }
    setTone(connection, on) { return this.call('setTone', connection, on); }
    setLayer(connection, rid, active) { return this.call('setLayer', connection, rid, active); }
    drawnFlashes(connection) { return this.call('drawnFlashes', connection); }
    counter(connection) { return this.call('counter', connection); }
    look(at, source) { return this.call('look', at.id ?? at, source); }
    listen(to, frequencies, source) { return this.call('listen', to.id ?? to, frequencies, source); }
    stats(of) { return this.call('stats', of); }
    waitFor(event, limitMs) { return this.call('waitFor', event, limitMs); }
    events(type) { return this.call('eventsOfType', type); }
    leave() { return this.call('leave'); }
    canSend(codec) { return this.page.evaluate((name) => window.canSend(name), codec); }

    // The one report of a kind, from this participant's publication or from a subscription.
    async report(of, type, kind) {
        const reports = await this.stats(of);
        return reports.find((one) => one.type === type && (!kind || one.kind === kind));
    }

    // The two ends of the pair that ICE chose.
    async selectedPair(of) {
        const reports = await this.stats(of);
        const byId = new Map(reports.map((one) => [one.id, one]));
        const transport = reports.find((one) => one.type === 'transport' && one.selectedCandidatePairId);
        const pair = transport && byId.get(transport.selectedCandidatePairId);
        return pair && { local: byId.get(pair.localCandidateId), remote: byId.get(pair.remoteCandidateId) };
    }
}
