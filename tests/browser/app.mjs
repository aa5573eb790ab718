// The page that people use, as a test drives it: its hooks are listed in web/README.md.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { near } from './content.mjs';
import { until } from './wait.mjs';

const SCREENSHOTS = process.env.SALON_SCREENSHOTS ?? fileURLToPath(new URL('../../target/screenshots', import.meta.url));
export const DESK = { name: 'desk', viewport: { width: 1280, height: 800 } };
export const PHONE = { name: 'phone', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

// The page in a context of its own. Whatever goes wrong in its scripts fails the test. `before` is given
// the page before it is loaded; `until` waits for something that it says on its console.
export async function openApp(browser, server, path, { name, before, until: said, ...context } = DESK) {
    const page = await (await browser.newContext({ locale: 'en-US', ...context })).newPage();
    page.setDefaultTimeout(15_000);
    const app = new App(page, name, server);
    page.on('pageerror', (error) => app.errors.push(String(error.stack ?? error)));
    page.on('console', (message) => message.type() === 'error' && server.note(`page: ${message.text()}`));
    await before?.(page);
    const heard = said && page.waitForEvent('console', (message) => said(message.text()));
    await page.goto(`${server.url}${path}`);
    await heard;
    return app;
}

class App {
    errors = [];

    constructor(page, device, server) {
        Object.assign(this, { page, device, server });
    }

    get(testid, rest = '') {
        return this.page.locator(`[data-testid="${testid}"]${rest}`);
    }

    // On a phone the less used buttons are behind "more".
    async press(testid) {
        const button = this.get(testid);
        await button.waitFor({ state: 'attached' });
        if (!(await button.isVisible())) await this.get('more').click();
        await button.click();
    }

    // Shows a view of the panel, whether another one is open or none; on a phone one covers the buttons.
    async openPanel(view) {
        const panel = this.get('panel');
        if ((await panel.isVisible()) && !(await this.get(`${view}-toggle`).isVisible())) await this.get('panel-close').click();
        await this.press(`${view}-toggle`);
        await this.get('panel', `[data-view="${view}"]`).waitFor();
    }

    async join(nickname, pin) {
        await this.get('nickname').fill(nickname);
        if (pin !== undefined) await this.get('pin').fill(pin);
        await this.get('join').click();
    }

    inRoom() {
        return this.get('stage').waitFor();
    }

    async screenshot(what) {
        await mkdir(SCREENSHOTS, { recursive: true });
        await this.page.screenshot({ path: join(SCREENSHOTS, `${what}-${this.device}.png`), animations: 'disabled' });
    }

    // The tile of a participant's camera or screen.
    tile(participant, source = 'camera') {
        return this.get('tile', `[data-participant="${participant}"][data-source="${source}"]`);
    }

    // What this page's participant is called in the API and in others' tiles.
    async ownId() {
        return this.get('tile', '.self').first().getAttribute('data-participant');
    }

    // Waits until a video has shown so many more frames.
    async movesOn(video, frames = 15, limitMs = 15_000) {
        const shown = () => video.evaluate((element) => element.getVideoPlaybackQuality().totalVideoFrames);
        const before = await shown();
        await until('the picture moves on', limitMs, async () => (await shown()) >= before + frames);
    }

    // The colour that a video or an image shows near its lower right corner.
    colourOf(selector) {
        return this.page.evaluate((selector_) => {
            const picture = document.querySelector(selector_);
            const [width, height] = [picture?.videoWidth ?? picture?.naturalWidth, picture?.videoHeight ?? picture?.naturalHeight];
            if (!width) return null;
            const canvas = new OffscreenCanvas(width, height);
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            return [...context.getImageData(0.9 * width, 0.9 * height, 1, 1).data].slice(0, 3);
        }, selector);
    }

    async shows(selector, colour) {
        await until(`${selector} shows ${colour}`, 15_000, async () => {
            const seen = await this.colourOf(selector);
            if (seen && near(seen, colour)) return true;
            throw new Error(`it shows ${seen}`);
        });
    }

    async fits() {
        const [wide, window] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(wide <= window, `the page is ${wide} pixels wide in a window of ${window}`);
    }
}
