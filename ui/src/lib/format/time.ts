// Instants as people read and type them, in the browser's zone or in UTC.
//
// Instants are Unix milliseconds (`_ms`) unless a name says otherwise. The format is ISO-like with a
// space and 24 hours: it sorts, and nobody has to guess which of two numbers is the month.

import { formatDurationUs } from './duration';

export type Zone = 'local' | 'utc';

interface Parts {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  ms: number;
}

function partsOf(ms: number, zone: Zone): Parts {
  const d = new Date(ms);
  return zone === 'utc'
    ? {
        year: d.getUTCFullYear(),
        month: d.getUTCMonth() + 1,
        day: d.getUTCDate(),
        hour: d.getUTCHours(),
        minute: d.getUTCMinutes(),
        second: d.getUTCSeconds(),
        ms: d.getUTCMilliseconds(),
      }
    : {
        year: d.getFullYear(),
        month: d.getMonth() + 1,
        day: d.getDate(),
        hour: d.getHours(),
        minute: d.getMinutes(),
        second: d.getSeconds(),
        ms: d.getMilliseconds(),
      };
}

const two = (n: number): string => String(n).padStart(2, '0');

/** "2026-11-21". */
export function formatDay(ms: number, zone: Zone): string {
  const p = partsOf(ms, zone);
  return `${p.year}-${two(p.month)}-${two(p.day)}`;
}

/** "10:03:22", with milliseconds "10:03:22.041". */
export function formatClock(ms: number, zone: Zone, withMs = false): string {
  const p = partsOf(ms, zone);
  const clock = `${two(p.hour)}:${two(p.minute)}:${two(p.second)}`;
  return withMs ? `${clock}.${String(p.ms).padStart(3, '0')}` : clock;
}

/** "2026-11-21 10:03:22", with milliseconds "2026-11-21 10:03:22.041". */
export function formatInstant(ms: number, zone: Zone, withMs = false): string {
  return `${formatDay(ms, zone)} ${formatClock(ms, zone, withMs)}`;
}

/** A microsecond instant in full: "2026-11-21 10:03:22.041337". */
export function formatInstantUs(us: number, zone: Zone): string {
  const ms = Math.floor(us / 1000);
  return `${formatInstant(ms, zone, true)}${String(Math.round(us - ms * 1000)).padStart(3, '0')}`;
}

/** "just now", "42s ago", "3m5s ago", "in 2m". */
export function formatAgo(ms: number, nowMs: number): string {
  const distance = nowMs - ms;
  if (Math.abs(distance) < 1000) return 'just now';
  // Seconds are noise beyond an hour and below one decimals are.
  const unit = Math.abs(distance) < 3_600_000 ? 1_000 : 60_000;
  const text = formatDurationUs(Math.round(Math.abs(distance) / unit) * unit * 1000);
  return distance < 0 ? `in ${text}` : `${text} ago`;
}

/**
 * Parses what a person types for an instant, in `zone` unless it carries an offset:
 * "2026-11-21", "2026-11-21 10:03", "2026-11-21 10:03:22.5", RFC 3339, Unix seconds or milliseconds.
 * `null` when it is none of these or names an impossible date.
 */
export function parseInstant(text: string, zone: Zone): number | null {
  const trimmed = text.trim();
  if (/^\d{9,10}(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  if (/^\d{12,13}$/.test(trimmed)) return Number(trimmed);
  const match =
    /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|[+-]\d{2}:?\d{2})?$/i.exec(trimmed);
  if (!match) return null;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const ms = Math.floor(Number(`0.${match[7] ?? '0'}`) * 1000);
  const offset = match[8];
  if (hour > 23 || minute > 59 || second > 59) return null;
  const asUtc = Date.UTC(year, month - 1, day, hour, minute, second, ms);
  const check = new Date(asUtc);
  if (check.getUTCMonth() !== month - 1 || check.getUTCDate() !== day) return null;
  if (offset !== undefined) {
    if (offset.toUpperCase() === 'Z') return asUtc;
    const digits = offset.replace(/[^\d]/g, '');
    const shift_ms = (Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2))) * 60_000;
    return offset.startsWith('-') ? asUtc + shift_ms : asUtc - shift_ms;
  }
  if (zone === 'utc') return asUtc;
  return new Date(year, month - 1, day, hour, minute, second, ms).getTime();
}

/** The browser's zone as "UTC+1" or "UTC−3:30", at the given instant (offsets change with the season). */
export function zoneLabel(zone: Zone, ms: number): string {
  if (zone === 'utc') return 'UTC';
  const offset = -new Date(ms).getTimezoneOffset();
  if (offset === 0) return 'UTC';
  const size = Math.abs(offset);
  const minutes = size % 60 === 0 ? '' : `:${two(size % 60)}`;
  return `UTC${offset < 0 ? '−' : '+'}${Math.floor(size / 60)}${minutes}`;
}
