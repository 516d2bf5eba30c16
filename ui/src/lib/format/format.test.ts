import { describe, expect, it } from 'vitest';
import { formatDurationUs, formatPromDuration, parseGoDurationUs, parsePromDuration } from './duration';
import { formatValue, guessUnit, plural, parseSampleValue } from './number';
import { formatAgo, formatInstant, formatInstantUs, parseInstant } from './time';

describe('durations of spans', () => {
  it.each([
    [0, '0s'],
    [0.25, '250ns'],
    [1, '1µs'],
    [999.4, '999µs'],
    [999.6, '1ms'],
    [1_234, '1.23ms'],
    [12_300, '12.3ms'],
    [999_499, '999ms'],
    [999_600, '1s'],
    [1_250_000, '1.25s'],
    [59_940_000, '59.9s'],
    [59_990_000, '1m'],
    [125_000_000, '2m5s'],
    [119_900_000, '2m'],
    [3_599_900_000, '1h'],
    [3_720_000_000, '1h2m'],
    [86_400_000_000 * 3.5, '3d12h'],
    [-1_500, '-1.5ms'],
    [Number.NaN, '–'],
  ])('%d µs reads %s', (us, text) => expect(formatDurationUs(us)).toBe(text));

  it('what is shown can be typed into a filter', () => {
    for (const us of [1, 850, 12_300, 1_250_000, 125_000_000]) expect(parseGoDurationUs(formatDurationUs(us))).toBe(us);
  });

  it.each([
    ['1.2s', 1_200_000],
    ['100ms', 100_000],
    ['1m30s', 90_000_000],
    ['.5h', 1_800_000_000],
    ['500us', 500],
    ['0', 0],
    ['', null],
    ['12', null],
    ['1x', null],
    ['1s ', 1_000_000],
    ['1s 2s', null],
  ])('Go duration %s', (text, us) => expect(parseGoDurationUs(text)).toBe(us));
});

describe('durations of PromQL', () => {
  it.each([
    ['15s', 15_000],
    ['1h30m', 5_400_000],
    ['1w', 604_800_000],
    ['15', 15_000],
    ['0.5', 500],
    ['250ms', 250],
    ['1m1h', null],
    ['', null],
    ['x', null],
  ])('%s', (text, ms) => expect(parsePromDuration(text)).toBe(ms));

  it.each([
    [0, '0s'],
    [15_000, '15s'],
    [5_400_000, '1h30m'],
    [604_800_000, '1w'],
    [691_200_000, '8d'],
    [1_250, '1s250ms'],
  ])('%d ms is written %s', (ms, text) => {
    expect(formatPromDuration(ms)).toBe(text);
    if (ms > 0) expect(parsePromDuration(text)).toBe(ms);
  });
});

describe('values', () => {
  it.each([
    [0, 'none', '0'],
    [1234.5, 'none', '1.234k'],
    [999.99, 'none', '1k'],
    [1e7, 'none', '10M'],
    [0.00042, 'none', '420µ'],
    [0.1 + 0.2, 'none', '0.3'],
    [-2.5e9, 'none', '-2.5G'],
    [1e30, 'none', '1.000e+30'],
    [1536, 'bytes', '1.5 KiB'],
    [1048575.9, 'bytes', '1 MiB'],
    [2097152, 'bytesPerSecond', '2 MiB/s'],
    [0.0423, 'seconds', '42.3ms'],
    [0.12345, 'ratio', '12.35%'],
    [null, 'none', '–'],
    [Number.NaN, 'seconds', 'NaN'],
    [Number.POSITIVE_INFINITY, 'bytes', '+Inf'],
  ] as const)('%s as %s', (value, unit, text) => expect(formatValue(value, unit)).toBe(text));

  it('reads the numbers of the server', () => {
    expect(parseSampleValue('+Inf')).toBe(Number.POSITIVE_INFINITY);
    expect(parseSampleValue('-Inf')).toBe(Number.NEGATIVE_INFINITY);
    expect(parseSampleValue('1e-7')).toBe(1e-7);
    expect(parseSampleValue('NaN')).toBeNaN();
  });

  it('counts with the right noun', () => {
    expect(plural(1, 'span')).toBe('1 span');
    expect(plural(1234, 'span')).toBe('1,234 spans');
    expect(plural(2, 'series', 'series')).toBe('2 series');
  });
});

describe('the unit of an expression', () => {
  it.each([
    ['process_resident_memory_bytes', 'bytes'],
    ['sum by (job) (process_resident_memory_bytes{job="a_seconds"})', 'bytes'],
    ['rate(node_network_receive_bytes_total[5m])', 'bytesPerSecond'],
    ['histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))', 'seconds'],
    ['rate(http_request_duration_seconds_sum[5m]) / rate(http_request_duration_seconds_count[5m])', 'seconds'],
    ['rate(http_request_duration_seconds_count[5m])', 'none'],
    ['rate(process_cpu_seconds_total[5m])', 'none'],
    ['process_start_time_seconds', 'seconds'],
    ['free_bytes / size_bytes', 'none'],
    ['cache_hit_ratio', 'ratio'],
    ['count(process_resident_memory_bytes)', 'none'],
    ['up', 'none'],
    ['', 'none'],
  ])('%s', (expression, unit) => expect(guessUnit(expression)).toBe(unit));
});

describe('instants', () => {
  const noon = Date.UTC(2026, 10, 21, 12, 3, 4, 56);

  it('are written so that they sort', () => {
    expect(formatInstant(noon, 'utc')).toBe('2026-11-21 12:03:04');
    expect(formatInstant(noon, 'utc', true)).toBe('2026-11-21 12:03:04.056');
    expect(formatInstantUs(noon * 1000 + 7, 'utc')).toBe('2026-11-21 12:03:04.056007');
  });

  it.each([
    ['2026-11-21 12:03:04.056', noon],
    ['2026-11-21T13:03:04.056+01:00', noon],
    ['2026-11-21 12:03:04.056Z', noon],
    ['2026-11-21', Date.UTC(2026, 10, 21)],
    ['1795262584', 1_795_262_584_000],
    ['1795262584056', 1_795_262_584_056],
    ['2026-02-30', null],
    ['2026-11-21 24:00', null],
    ['yesterday', null],
  ])('reads %s', (text, ms) => expect(parseInstant(text, 'utc')).toBe(ms));

  it('reads back what it writes, in both zones', () => {
    for (const zone of ['utc', 'local'] as const) expect(parseInstant(formatInstant(noon, zone, true), zone)).toBe(noon);
  });

  it('tells how long ago', () => {
    expect(formatAgo(noon - 400, noon)).toBe('just now');
    expect(formatAgo(noon - 42_300, noon)).toBe('42s ago');
    expect(formatAgo(noon - 7_265_000, noon)).toBe('2h1m ago');
    expect(formatAgo(noon + 120_000, noon)).toBe('in 2m');
  });
});
