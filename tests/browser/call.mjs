// What the tests of calls share: who looks and sounds how, and the checks of what arrives.

import assert from 'node:assert/strict';
import { near } from './content.mjs';
import { until } from './wait.mjs';

// Distinct after any codec; the tones are apart from each other and from each other's harmonics.
export const ANN = { colour: [208, 32, 32], tone: 400, beep: 1500 };
export const BOB = { colour: [32, 32, 208], tone: 700, beep: 2300 };
export const CLEO = { colour: [32, 160, 32], tone: 1000, beep: 3100 };
export const PEOPLE = [ANN, BOB, CLEO];

export const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

// Publishes a camera and microphone of the given looks.
export function appear(participant, look, { width = 640, height = 360, fps = 25, ...rest } = {}) {
    const { tone, beep } = look;
    return participant.publish({ video: { colour: css(look.colour), width, height, fps }, audio: { tone, beep }, ...rest });
}

// Waits until one participant sees another's colour, and gives what he sees.
export async function sees(viewer, publisher, look, { limitMs = 15_000, source } = {}) {
    try {
        return await until(`${viewer.name} sees ${publisher.name} in ${look.colour}`, limitMs, async () => {
            const seen = await viewer.look(publisher, source);
            if (seen && near(seen.colour, look.colour)) return seen;
            throw new Error(seen ? `a picture in ${seen.colour}` : 'no picture');
        }, 50);
    } catch (error) {
        for (const one of [viewer, publisher].filter(({ page }) => page)) {
            error.message += `\n${one.name}: ${JSON.stringify(await one.call('summary').catch(String))}`;
        }
        throw error;
    }
}

// Waits until one participant hears another's tone, and none of the other people's.
export function hears(listener, publisher, look, { limitMs = 15_000 } = {}) {
    const others = PEOPLE.filter((one) => one !== look).map((one) => one.tone);
    return until(`${listener.name} hears ${publisher.name} at ${look.tone} Hz`, limitMs, async () => {
        const heard = await listener.listen(publisher, [look.tone, ...others]);
        if (!heard) throw new Error('no sound');
        const [own, ...foreign] = heard.levels;
        if (own > -60 && foreign.every((level) => level < own - 20)) return heard;
        throw new Error(`levels ${heard.levels.map(Math.round)} dB`);
    });
}

// Waits until the picture has moved on by so many frames.
export async function movesOn(viewer, publisher, { frames = 25, limitMs = 10_000, source } = {}) {
    const decoded = async () => {
        const reports = await viewer.stats({ participant: publisher.id });
        return reports.filter((one) => one.type === 'inbound-rtp' && one.kind === 'video').reduce((sum, one) => sum + one.framesDecoded, 0);
    };
    const before = await decoded();
    await until(`${viewer.name}'s picture of ${publisher.name} moves on`, limitMs, async () => (await decoded()) >= before + frames);
    const seen = await viewer.look(publisher, source);
    assert.ok(seen.frames > 0);
}

// Waits until the clock of what a participant publishes has gone on by so many seconds: time as the
// media sees it.
export async function lasts(participant, seconds, connection = 'main') {
    const until_ = (await participant.counter(connection)) + 10 * seconds;
    await until(`${seconds} s of ${participant.name}'s picture`, 1000 * seconds + 10_000, async () => (await participant.counter(connection)) >= until_);
}
