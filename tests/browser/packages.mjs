// npm packages in a page as they are: their CommonJS files, and a `require` that finds them.

import { readFileSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';

const REQUIRED = /\brequire\((["'])([^"']+)\1\)/g;

// A script that puts what the package exports under `window[name]`.
export function asScript(name, packageName) {
    const modules = {};
    const add = (file) => {
        if (modules[file]) return;
        const source = readFileSync(file, 'utf8');
        const resolve = createRequire(file).resolve;
        // `events` is also an npm package; Node's other own modules are not there in a page, nor needed.
        const found = (wanted) => (wanted === 'events' ? resolve('events/') : isBuiltin(wanted) ? null : resolve(wanted));
        const needs = Object.fromEntries([...source.matchAll(REQUIRED)].map(([, , wanted]) => [wanted, found(wanted)]));
        modules[file] = { source, needs };
        Object.values(needs).filter(Boolean).forEach(add);
    };
    const main = createRequire(import.meta.url).resolve(packageName);
    add(main);
    return `(() => {
        const modules = ${JSON.stringify(modules)};
        const loaded = {};
        const load = (file) => {
            if (!loaded[file]) {
                const { source, needs } = modules[file];
                const module = (loaded[file] = { exports: {} });
                const process = { env: {}, emitWarning: console.warn };
                new Function('module', 'exports', 'require', 'process', source)(module, module.exports, (wanted) => (needs[wanted] ? load(needs[wanted]) : {}), process);
            }
            return loaded[file].exports;
        };
        window[${JSON.stringify(name)}] = load(${JSON.stringify(main)});
    })();`;
}
