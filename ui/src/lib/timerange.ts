// Time ranges as the URL carries them, and the step that suits one.
//
// A bound is `now`, `now-1h` (any Prometheus duration) or Unix milliseconds. Keeping the text in the
// URL, and not what it resolves to, lets a shared link stay "the last hour".

import { formatDurationUs, formatPromDuration, parsePromDuration } from './format/duration';
import { formatClock, formatDay, formatInstant, type Zone } from './format/time';

export interface RangeText {
  from: string;
  to: string;
}

/** `[from_ms, to_ms]`, Unix milliseconds, `from_ms < to_ms`. */
export interface Range {
  from_ms: number;
  to_ms: number;
}

export const RELATIVE_RANGES: ReadonlyArray<readonly [string, string]> = [
  ['5m', '5 minutes'],
  ['15m', '15 minutes'],
  ['30m', '30 minutes'],
  ['1h', '1 hour'],
  ['3h', '3 hours'],
  ['6h', '6 hours'],
  ['12h', '12 hours'],
  ['1d', '1 day'],
  ['2d', '2 days'],
  ['1w', '1 week'],
  ['2w', '2 weeks'],
  ['30d', '30 days'],
];

export const DEFAULT_RANGE: RangeText = { from: 'now-1h', to: 'now' };

/** Resolves one bound; `null` when the text is not a bound. */
export function resolveBound(text: string, now_ms: number): number | null {
  if (text === 'now') return now_ms;
  if (text.startsWith('now-')) {
    const back_ms = parsePromDuration(text.slice(4));
    return back_ms === null ? null : now_ms - back_ms;
  }
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** Resolves both bounds; `null` when one is malformed or the range is empty. */
export function resolveRange(text: RangeText, now_ms: number): Range | null {
  const from_ms = resolveBound(text.from, now_ms);
  const to_ms = resolveBound(text.to, now_ms);
  if (from_ms === null || to_ms === null || from_ms >= to_ms) return null;
  return { from_ms, to_ms };
}

export function isRelative(text: RangeText): boolean {
  return text.to === 'now' && text.from.startsWith('now-');
}

export function absoluteRange(range: Range): RangeText {
  return { from: String(Math.round(range.from_ms)), to: String(Math.round(range.to_ms)) };
}

/** "Last 1 hour", or "2026-11-21 10:00:00 – 11:00:00" with the day written once where it is one day. */
export function describeRange(text: RangeText, zone: Zone, now_ms: number): string {
  if (isRelative(text)) {
    const span = text.from.slice(4);
    const known = RELATIVE_RANGES.find(([value]) => value === span);
    return `Last ${known ? known[1] : span}`;
  }
  const range = resolveRange(text, now_ms);
  if (range === null) return 'Invalid range';
  const sameDay = formatDay(range.from_ms, zone) === formatDay(range.to_ms, zone);
  const end = sameDay ? formatClock(range.to_ms, zone) : formatInstant(range.to_ms, zone);
  return `${formatInstant(range.from_ms, zone)} – ${end}`;
}

/** The range of twice the length around the same centre, never past `now`. */
export function zoomOut(range: Range, now_ms: number): Range {
  const half = (range.to_ms - range.from_ms) / 2;
  const to_ms = Math.min(range.to_ms + half, Math.max(now_ms, range.to_ms));
  return { from_ms: Math.round(to_ms - 4 * half), to_ms: Math.round(to_ms) };
}

/** The range moved by half its length; forward never past `now`. */
export function shiftRange(range: Range, direction: -1 | 1, now_ms: number): Range {
  const half = (range.to_ms - range.from_ms) / 2;
  let shift = direction * half;
  if (direction > 0) shift = Math.min(shift, Math.max(0, now_ms - range.to_ms));
  return { from_ms: Math.round(range.from_ms + shift), to_ms: Math.round(range.to_ms + shift) };
}

const NICE_STEPS_MS = [
  1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000,
  14_400_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000,
];

/** Round instants inside `range`, at most `count` apart evenly: multiples of a nice step, counted from local or UTC midnight. */
export function instantTicks(range: Range, count: number, offset_ms: number): number[] {
  const step = autoStep(range, Math.max(1, count));
  const first = Math.ceil((range.from_ms + offset_ms) / step) * step - offset_ms;
  const ticks: number[] = [];
  for (let at = first; at <= range.to_ms; at += step) ticks.push(at);
  return ticks;
}

/** Points the server is willing to answer per series (Prometheus' limit, which Pharos keeps). */
export const STEPS_MAX = 11_000;

/** The smallest round step that draws a range with at most `points` points. */
export function autoStep(range: Range, points = 400): number {
  const exact = (range.to_ms - range.from_ms) / Math.max(1, points);
  return NICE_STEPS_MS.find((step) => step >= exact) ?? Math.ceil(exact / 604_800_000) * 604_800_000;
}

/** The step to use for `text` ("" means auto), or a sentence that says why it cannot be used. */
export function chooseStep(text: string, range: Range): { step_ms: number } | { problem: string } {
  if (text.trim() === '') return { step_ms: autoStep(range) };
  const step_ms = parsePromDuration(text);
  if (step_ms === null || step_ms <= 0) return { problem: `“${text}” is not a step. Write a duration such as 15s or 5m.` };
  const steps = (range.to_ms - range.from_ms) / step_ms;
  if (steps > STEPS_MAX) {
    const least = Math.ceil((range.to_ms - range.from_ms) / STEPS_MAX / 1000) * 1000;
    return {
      problem:
        `A step of ${formatPromDuration(step_ms)} over ${formatDurationUs((range.to_ms - range.from_ms) * 1000)} gives ` +
        `${Math.ceil(steps).toLocaleString('en-US')} points per series; the limit is ${STEPS_MAX.toLocaleString('en-US')}. ` +
        `Use ${formatPromDuration(least)} or more.`,
    };
  }
  return { step_ms };
}

/** Aligns a range to its step, so that a refresh moves the points and does not wobble them. */
export function alignRange(range: Range, step_ms: number): Range {
  return {
    from_ms: Math.floor(range.from_ms / step_ms) * step_ms,
    to_ms: Math.floor(range.to_ms / step_ms) * step_ms,
  };
}
