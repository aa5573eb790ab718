// Light, dark, or as the system says.

import { iconButton, setIcon } from '/dom.js';
import { label } from '/i18n.js';
import { recall, remember } from '/settings.js';

const THEMES = ['auto', 'light', 'dark'];
const ICON = { auto: 'auto', light: 'sun', dark: 'moon' };

let theme = 'auto';

export function startTheme() {
  use(recall('theme', 'auto'));
}

export function themeButton() {
  const button = iconButton(ICON[theme], `theme.${theme}`, 'theme', () => {
    use(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    remember('theme', theme);
    setIcon(button, ICON[theme]);
    label(button, `theme.${theme}`);
  });
  return button;
}

function use(wanted) {
  theme = THEMES.includes(wanted) ? wanted : 'auto';
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
