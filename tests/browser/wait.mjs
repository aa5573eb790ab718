// Waiting with a deadline, and skipping in a way that cannot hide in CI.

import { setTimeout as after } from 'node:timers/promises';

// Asks again until `probe` gives something that is not false, null or undefined; what it was last
// is in the error.
export async function until(what, limitMs, probe, everyMs = 100) {
    const deadline = Date.now() + limitMs;
    let last;
    for (;;) {
        try {
            last = await probe();
        } catch (error) {
            last = error;
        }
        if (last && !(last instanceof Error)) return last;
        if (Date.now() >= deadline) {
            const shown = last instanceof Error ? last.message : JSON.stringify(last);
            throw new Error(`not within ${limitMs} ms: ${what} (last: ${shown})`);
        }
        await after(Math.min(everyMs, Math.max(1, deadline - Date.now())));
    }
}

// Rejects if `promise` is not settled in time, and says what was waited for.
export async function within(what, limitMs, promise) {
    const timer = new AbortController();
    const late = after(limitMs, null, { signal: timer.signal }).then(() => {
        throw new Error(`not within ${limitMs} ms: ${what}`);
    });
    late.catch(() => {}); // aborted below when the promise was first
    try {
        return await Promise.race([promise, late]);
    } finally {
        timer.abort();
    }
}

const inCi = !['', '0', 'false', undefined].includes(process.env.CI);

// Skips the test with a reason; in CI that is a failure. Use as `if (skip(t, …)) return;`.
export function skip(t, reason) {
    if (inCi) throw new Error(`cannot run here, and CI may skip nothing: ${reason}`);
    t.skip(reason);
    return true;
}
