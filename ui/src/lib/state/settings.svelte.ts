// What one browser remembers: theme, time zone, recent queries, column widths. Nothing here is
// needed to understand a shared URL, and the UI works the same where storage is blocked.

import type { Zone } from '../format/time';

export type Theme = 'system' | 'light' | 'dark';

const RECENT_MAX = 30;

function read<T>(key: string, fallback: T, valid: (value: unknown) => value is T): T {
  try {
    const text = localStorage.getItem(`pharos.${key}`);
    if (text === null) return fallback;
    const value: unknown = key === 'theme' || key === 'zone' ? text : JSON.parse(text);
    return valid(value) ? value : fallback;
  } catch {
    return fallback;
  }
}

function write(key: string, text: string): void {
  try {
    localStorage.setItem(`pharos.${key}`, text);
  } catch {
    // Blocked or full: the setting lasts for this page only.
  }
}

const isTheme = (value: unknown): value is Theme => value === 'system' || value === 'light' || value === 'dark';
const isZone = (value: unknown): value is Zone => value === 'local' || value === 'utc';
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((entry) => typeof entry === 'string');
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);

const systemDark = window.matchMedia('(prefers-color-scheme: dark)');

const state = $state({
  theme: read<Theme>('theme', 'system', isTheme),
  zone: read<Zone>('zone', 'local', isZone),
  systemDark: systemDark.matches,
  recent: read<string[]>('recent', [], isTexts),
  nameColumn: read<number>('nameColumn', 380, isNumber),
  detailPane: read<number>('detailPane', 440, isNumber),
});

systemDark.addEventListener('change', (event) => {
  state.systemDark = event.matches;
});

export const settings = {
  get theme(): Theme {
    return state.theme;
  },
  /** The theme in force, with `system` resolved. */
  get dark(): boolean {
    return state.theme === 'dark' || (state.theme === 'system' && state.systemDark);
  },
  setTheme(theme: Theme): void {
    state.theme = theme;
    write('theme', theme);
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  },

  get zone(): Zone {
    return state.zone;
  },
  setZone(zone: Zone): void {
    state.zone = zone;
    write('zone', zone);
  },

  get recent(): readonly string[] {
    return state.recent;
  },
  /** Puts a query first among the recent ones. */
  remember(query: string): void {
    const text = query.trim();
    if (text === '' || state.recent[0] === text) return;
    state.recent = [text, ...state.recent.filter((known) => known !== text)].slice(0, RECENT_MAX);
    write('recent', JSON.stringify(state.recent));
  },

  get nameColumn(): number {
    return state.nameColumn;
  },
  setNameColumn(width: number): void {
    state.nameColumn = width;
    write('nameColumn', String(Math.round(width)));
  },
  get detailPane(): number {
    return state.detailPane;
  },
  setDetailPane(width: number): void {
    state.detailPane = width;
    write('detailPane', String(Math.round(width)));
  },
};
