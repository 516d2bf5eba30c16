// Durations as people read and type them.
//
// Spans carry whole microseconds (`_us`), PromQL whole milliseconds (`_ms`). Output has no space
// between number and unit, so that what is shown can be pasted into a duration filter.

const US_PER_MS = 1_000;
const US_PER_S = 1_000_000;
const US_PER_MIN = 60 * US_PER_S;
const US_PER_HOUR = 60 * US_PER_MIN;
const US_PER_DAY = 24 * US_PER_HOUR;

/** Rounds to `digits` significant digits and drops trailing zeros: 12.30 becomes "12.3". */
export function significant(value: number, digits = 3): string {
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.max(0, digits - 1 - magnitude);
  return String(Number(value.toFixed(Math.min(decimals, 20))));
}

/** Two units where one would be too coarse: "2m5s", "1h2m", "3d4h". */
function twoUnits(us: number, big: number, bigName: string, small: number, smallName: string): string {
  let whole = Math.floor(us / big);
  let rest = Math.round((us - whole * big) / small);
  if (rest * small >= big) {
    whole += 1;
    rest = 0;
  }
  return rest === 0 ? `${whole}${bigName}` : `${whole}${bigName}${rest}${smallName}`;
}

/** A duration in microseconds with three significant digits: "850µs", "12.3ms", "1.25s", "2m5s". */
export function formatDurationUs(us: number): string {
  if (!Number.isFinite(us)) return '–';
  if (us < 0) return `-${formatDurationUs(-us)}`;
  if (us === 0) return '0s';
  if (us < 1) return `${significant(us * 1_000)}ns`;
  if (us < 999.5) return `${significant(us)}µs`;
  if (us < 999.5 * US_PER_MS) return `${significant(us / US_PER_MS)}ms`;
  if (us < 59.95 * US_PER_S) return `${significant(us / US_PER_S)}s`;
  if (us < US_PER_HOUR - US_PER_S / 2) return twoUnits(us, US_PER_MIN, 'm', US_PER_S, 's');
  if (us < US_PER_DAY - US_PER_MIN / 2) return twoUnits(us, US_PER_HOUR, 'h', US_PER_MIN, 'm');
  return twoUnits(us, US_PER_DAY, 'd', US_PER_HOUR, 'h');
}

/** A duration in seconds, for metric values. Negative, zero and non-finite values are welcome. */
export function formatDurationSeconds(seconds: number): string {
  return formatDurationUs(seconds * US_PER_S);
}

const PROM_UNITS_MS: ReadonlyArray<readonly [string, number]> = [
  ['y', 365 * 86_400_000],
  ['w', 7 * 86_400_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
];

/** Prometheus' duration text for whole milliseconds: 5_400_000 is "1h30m". Zero is "0s". */
export function formatPromDuration(ms: number): string {
  let rest = Math.round(ms);
  if (rest <= 0) return '0s';
  let text = '';
  for (const [unit, size] of PROM_UNITS_MS) {
    // Years and weeks only where they come out even, as Prometheus prints them.
    if ((unit === 'y' || unit === 'w') && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}

/** Parses a Prometheus duration ("1h30m", "90s", "15") to milliseconds; `null` if it is none. A bare number is seconds. */
export function parsePromDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1_000);
  const match = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(trimmed);
  if (!match || trimmed === '') return null;
  return PROM_UNITS_MS.reduce((sum, [, size], index) => sum + Number(match[index + 1] ?? 0) * size, 0);
}

const GO_UNITS_US: Record<string, number> = {
  ns: 1 / 1_000,
  us: 1,
  µs: 1,
  μs: 1,
  ms: US_PER_MS,
  s: US_PER_S,
  m: US_PER_MIN,
  h: US_PER_HOUR,
};

/** Parses a Go duration ("1.2s", "100ms", "1m30s") to microseconds; `null` if it is none. */
export function parseGoDurationUs(text: string): number | null {
  const trimmed = text.trim();
  if (trimmed === '0') return 0;
  let sum = 0;
  let position = 0;
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  while (position < trimmed.length) {
    part.lastIndex = position;
    const match = part.exec(trimmed);
    if (!match) return null;
    sum += Number(match[1]) * (GO_UNITS_US[match[2] ?? ''] ?? Number.NaN);
    position = part.lastIndex;
  }
  return position === 0 ? null : sum;
}
