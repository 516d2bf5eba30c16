// Metric values as people read them: SI and IEC prefixes, durations, ratios.
//
// The server sends numbers as text so that no digit is lost; what is shown here is rounded for
// reading, and every place that shows it offers the server's text in full.

import { formatDurationSeconds, significant } from './duration';

export type Unit = 'none' | 'seconds' | 'bytes' | 'bytesPerSecond' | 'ratio';

export const UNIT_NAMES: ReadonlyArray<readonly [Unit, string]> = [
  ['none', 'plain number'],
  ['seconds', 'seconds'],
  ['bytes', 'bytes'],
  ['bytesPerSecond', 'bytes per second'],
  ['ratio', 'ratio as %'],
];

const SI_UP = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
const SI_DOWN = ['', 'm', 'µ', 'n', 'p'];
const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

function withSi(value: number, digits: number): string {
  const size = Math.abs(value);
  if (size >= 1e21 || size < 1e-12) return value.toExponential(digits - 1);
  let step = 0;
  if (size >= 1) {
    // 999.96 with four digits would print as "1000": move on to the next prefix before that.
    while (step < SI_UP.length - 1 && Number(significant(size / 1000 ** step, digits)) >= 1000) step += 1;
    return significant(value / 1000 ** step, digits) + SI_UP[step];
  }
  if (size >= 0.001) return significant(value, digits);
  while (step < SI_DOWN.length - 1 && size * 1000 ** step < 1) step += 1;
  return significant(value * 1000 ** step, digits) + SI_DOWN[step];
}

function withIec(value: number, digits: number): string {
  let step = 0;
  while (step < IEC.length - 1 && Number(significant(Math.abs(value) / 1024 ** step, digits)) >= 1024) step += 1;
  return `${significant(value / 1024 ** step, digits)} ${IEC[step]}`;
}

/** A value for reading, rounded to `digits` significant digits. `null` (a gap) is an en dash. */
export function formatValue(value: number | null | undefined, unit: Unit = 'none', digits = 4): string {
  if (value === null || value === undefined) return '–';
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  if (value === 0) return unit === 'ratio' ? '0%' : unit === 'bytes' ? '0 B' : unit === 'bytesPerSecond' ? '0 B/s' : '0';
  switch (unit) {
    case 'seconds':
      return formatDurationSeconds(value);
    case 'bytes':
      return withIec(value, digits);
    case 'bytesPerSecond':
      return `${withIec(value, digits)}/s`;
    case 'ratio':
      return `${significant(value * 100, digits)}%`;
    case 'none':
      return withSi(value, digits);
  }
}

/** An integer with thin grouping: 1234567 becomes "1,234,567". */
export function formatCount(value: number): string {
  return value.toLocaleString('en-US');
}

/** "1 span", "2 spans": the count with its noun, regular plural unless one is given. */
export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : nouns}`;
}

/** Parses the server's number text, which knows NaN and ±Inf. */
export function parseSampleValue(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return Number(text);
}

/**
 * Guesses the unit of an expression from the metric names in it. It prefers silence to a wrong unit:
 * where a function takes the unit away (a rate of seconds, a count, a ratio of two metrics), the answer is `none`.
 */
export function guessUnit(expression: string): Unit {
  const text = expression
    .replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`/g, '')
    .replace(/\{[^}]*\}/g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  const names = [...text.matchAll(/[a-zA-Z_:][\w:]*/g)]
    .map((match) => match[0])
    .filter((name) => /_(?:seconds|bytes|ratio)(?:_|$)/.test(name));
  if (names.length === 0 || /(?:^|[\s(])(?:count|count_over_time|absent|changes|resets)\s*\(/.test(text)) return 'none';
  const divides = text.includes('/');
  const rates = /\b(?:i?rate|deriv)\s*\(/.test(text);
  const quantile = /\bhistogram_(?:quantile|avg|stddev)\s*\(/.test(text);

  if (names.every((name) => /_ratio$/.test(name))) return divides ? 'none' : 'ratio';
  if (names.every((name) => /_seconds(?:_|$)/.test(name))) {
    if (quantile) return 'seconds';
    // Sum over count of one histogram is its mean: still seconds.
    if (divides) return names.length === 2 && /_sum$/.test(names[0] ?? '') && /_count$/.test(names[1] ?? '') ? 'seconds' : 'none';
    if (rates || names.some((name) => /_(?:count|bucket)$/.test(name))) return 'none';
    return 'seconds';
  }
  if (names.every((name) => /_bytes(?:_|$)/.test(name))) {
    if (divides || (!quantile && names.some((name) => /_(?:count|bucket)$/.test(name)))) return 'none';
    return rates && !quantile ? 'bytesPerSecond' : 'bytes';
  }
  return 'none';
}
