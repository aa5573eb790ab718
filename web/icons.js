// The icons: strokes on a 24 × 24 grid, drawn in the colour of the text around them.
// Each is a list of shapes: a path's data, or `[x, y, radius]` for a filled dot.

const SLASH = 'M4 4l16 16';
const MIC = ['M12 3.5a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0v-5a3 3 0 0 1 3-3z', 'M5.5 11.5a6.5 6.5 0 0 0 13 0', 'M12 18v3'];
const CAMERA = ['M5 6.5h8.5a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2z', 'M15.5 11l5-3v8l-5-3'];
const SCREEN = ['M4.5 4.5h15A1.5 1.5 0 0 1 21 6v9a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 15V6a1.5 1.5 0 0 1 1.5-1.5z', 'M8.5 20h7'];

const ICONS = {
  mic: MIC,
  'mic-off': [...MIC, SLASH],
  camera: CAMERA,
  'camera-off': [...CAMERA, SLASH],
  screen: [...SCREEN, 'M12 13.5V8', 'M9.5 10l2.5-2.5 2.5 2.5'],
  'screen-off': [...SCREEN, 'M9.5 8.5l5 4.5', 'M14.5 8.5l-5 4.5'],
  chat: ['M5 4.5h14a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5h-7.5L7 20.5v-4H5A1.5 1.5 0 0 1 3.5 15V6A1.5 1.5 0 0 1 5 4.5z', 'M8 9h8', 'M8 12.5h5'],
  people: ['M9 11.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5z', 'M2.5 19.5a6.5 6.5 0 0 1 13 0', 'M16 5.3a3.25 3.25 0 0 1 0 5.9', 'M18 14.2a6.5 6.5 0 0 1 3.5 5.3'],
  record: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', [12, 12, 4]],
  stop: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M9.5 9.5h5v5h-5z'],
  pause: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M10 9v6', 'M14 9v6'],
  resume: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M10.3 8.8l5 3.2-5 3.2z'],
  marker: ['M7 4.5h10v15l-5-4-5 4z'],
  film: ['M5 4.5h14A1.5 1.5 0 0 1 20.5 6v12a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 18V6A1.5 1.5 0 0 1 5 4.5z', 'M10 9l5 3-5 3z'],
  layout: ['M5 4.5h14A1.5 1.5 0 0 1 20.5 6v12a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 18V6A1.5 1.5 0 0 1 5 4.5z', 'M14.5 4.5v15', 'M14.5 12h6'],
  sparkle: ['M11 4l1.8 5.2L18 11l-5.2 1.8L11 18l-1.8-5.2L4 11l5.2-1.8z', 'M18.5 15.5l.8 2.2 2.2.8-2.2.8-.8 2.2-.8-2.2-2.2-.8 2.2-.8z'],
  drag: [[9, 6, 1.4], [15, 6, 1.4], [9, 12, 1.4], [15, 12, 1.4], [9, 18, 1.4], [15, 18, 1.4]],
  up: ['M6 14.5l6-6 6 6'],
  down: ['M6 9.5l6 6 6-6'],
  invite: ['M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1', 'M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1'],
  copy: ['M10 8.5h8A1.5 1.5 0 0 1 19.5 10v8a1.5 1.5 0 0 1-1.5 1.5h-8A1.5 1.5 0 0 1 8.5 18v-8A1.5 1.5 0 0 1 10 8.5z', 'M15.5 8.5V6A1.5 1.5 0 0 0 14 4.5H6A1.5 1.5 0 0 0 4.5 6v8A1.5 1.5 0 0 0 6 15.5h2.5'],
  share: ['M12 14.5V4', 'M8 7.5L12 3.5l4 4', 'M7 11H5.5v9.5h13V11H17'],
  expand: ['M9 4H4v5', 'M15 4h5v5', 'M9 20H4v-5', 'M15 20h5v-5'],
  shrink: ['M4 9h5V4', 'M20 9h-5V4', 'M4 15h5v5', 'M20 15h-5v5'],
  gear: ['M4 7h9', 'M17 7h3', 'M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4z', 'M4 17h3', 'M11 17h9', 'M9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4z'],
  help: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M9.6 9.6a2.5 2.5 0 1 1 3.6 2.250c-.8.4-1.2.9-1.2 1.9', [12, 16.5, 1]],
  leave: ['M10 4.5H6A1.5 1.5 0 0 0 4.5 6v12A1.5 1.5 0 0 0 6 19.5h4', 'M10 12h10', 'M16.5 8.5L20 12l-3.5 3.5'],
  more: [[5.5, 12, 1.6], [12, 12, 1.6], [18.5, 12, 1.6]],
  close: ['M6 6l12 12', 'M18 6L6 18'],
  send: ['M4 12l16-8-5 16-3.5-6.5z', 'M11.5 13.5L20 4'],
  pin: ['M9 4h6l-.7 6 3.2 3.5h-11L9.7 10z', 'M12 13.5V20'],
  star: ['M12 4.5l2.3 4.7 5.2.7-3.8 3.6.9 5.2-4.6-2.5-4.6 2.5.9-5.2-3.8-3.6 5.2-.7z'],
  chevron: ['M6.5 9.5l5.5 5.5 5.5-5.5'],
  tracks: ['M4 7h10', 'M4 12h10', 'M4 17h6', 'M16.5 10.5l4.5 3-4.5 3z'],
  download: ['M12 4v10.5', 'M8 11l4 4 4-4', 'M5 19.5h14'],
  play: ['M8 5.5l10 6.5-10 6.5z'],
  edit: ['M5 19h3.5L19 8.5 15.5 5 5 15.5z', 'M13.5 7l3.5 3.5'],
  globe: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M3.5 12h17', 'M12 3.5c3 3 3 14 0 17', 'M12 3.5c-3 3-3 14 0 17'],
  auto: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z', 'M12 3.5v17', 'M12 8h4.5', 'M12 12h5', 'M12 16h4.5'],
  sun: ['M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z', 'M12 2.5v2', 'M12 19.5v2', 'M2.5 12h2', 'M19.5 12h2', 'M5.3 5.3l1.4 1.4', 'M17.3 17.3l1.4 1.4', 'M5.3 18.7l1.4-1.4', 'M17.3 6.7l1.4-1.4'],
  moon: ['M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z'],
  sound: ['M4 9.5h3.5L12 5.5v13l-4.5-4H4z', 'M15.5 9a4 4 0 0 1 0 6', 'M18 6.5a8 8 0 0 1 0 11'],
  warning: ['M12 4l9 15.5H3z', 'M12 10v4', [12, 16.8, 0.9]],
  check: ['M5 12.5l4.5 4.5L19 7.5'],
  dice: ['M6 4h12a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2z', [8.5, 8.5, 1.3], [12, 12, 1.3], [15.5, 15.5, 1.3]],
  bin: ['M5 7h14', 'M9.5 7V4.5h5V7', 'M7 7l.8 12.5h8.4L17 7', 'M10.5 10.5v5.5', 'M13.5 10.5v5.5'],
  remove: ['M9 11.5A3.25 3.25 0 1 0 9 5a3.25 3.25 0 0 0 0 6.5z', 'M2.5 19.5a6.5 6.5 0 0 1 13 0', 'M16 10.5h5.5'],
};

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  svg.dataset.icon = name;
  svg.append(...ICONS[name].map(shape));
  return svg;
}

function shape(what) {
  if (typeof what === 'string') return svgElement('path', { d: what });
  const [cx, cy, r] = what;
  return svgElement('circle', { cx, cy, r, class: 'dot' });
}

/** An SVG element with these attributes. */
export function svgElement(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The mark: an arched doorway with a light behind it, as in `/icon.svg`. */
export function mark() {
  const image = document.createElement('img');
  image.src = '/icon.svg';
  image.alt = '';
  image.className = 'mark';
  return image;
}
