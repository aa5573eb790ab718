// What went wrong, in words that say what to do: text keys for protocol errors and device problems.

import { hasText } from '/i18n.js';

/** `[key, args]` for a `ProtocolError`; what has no text of its own shows the server's sentence. */
export function textOfError(error) {
  const key = `error.${error.code}`;
  return hasText(key) ? [key, { message: error.message }] : ['error.other', { message: error.message }];
}

/** `[key, args]` for a device that cannot be used. `kind`: `camera`, `microphone`, `screen` or `both`. */
export function textOfProblem({ kind, problem }) {
  if (problem === 'insecure') return ['device.insecure'];
  const key = `device.${kind}.${problem}`;
  return [hasText(key) ? key : `device.${kind}.unknown`];
}
