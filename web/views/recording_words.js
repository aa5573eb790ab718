// How a recording is called, and what is said of it in a line.

import { clockText } from '/dom.js';
import { currentLanguage, t } from '/i18n.js';

/** The name that it was given, else when it began. */
export function titleOf({ spec, started_at: started, created_at: created }) {
  return spec?.name || new Date(started ?? created).toLocaleString(currentLanguage(), { dateStyle: 'medium', timeStyle: 'short' });
}

/** Duration, size and number of chapters, as far as they are known. */
export function factsOf({ duration_ms: duration, bytes, markers }) {
  return [
    duration ? clockText(duration / 1000) : null,
    bytes ? sizeText(bytes) : null,
    markers?.length ? t('recordings.chapters.count', { count: markers.length }) : null,
  ].filter(Boolean).join(' · ');
}

export function sizeText(bytes) {
  const [unit, of] = bytes >= 1e9 ? ['GB', 1e9] : bytes >= 1e5 ? ['MB', 1e6] : ['kB', 1e3];
  const format = new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: bytes / of < 10 ? 1 : 0 });
  return `${format.format(bytes / of)} ${unit}`;
}

/** There is one file with everybody in it. */
export function hasMix({ files = [] }) {
  return files.some(({ kind }) => kind === 'composite');
}

/** The single tracks, as they came. */
export function tracksOf({ files = [] }) {
  return files.filter(({ kind }) => kind === 'track');
}
