import { describe, expect, it } from 'vitest';
import { formatTag, parseLogfmt } from './logfmt';
import { exploreHash, parseExplore } from './metrics/query';
import { parseHash, toHash, traceHash } from './route';
import { absoluteRange, alignRange, autoStep, chooseStep, describeRange, instantTicks, resolveRange, shiftRange, STEPS_MAX, zoomOut } from './timerange';
import { parseSearch, searchHash, toSearch } from './traces/query';
import { parseTraceId } from './traces/summary';

const NOW = Date.UTC(2026, 10, 21, 12);
const HOUR = 3_600_000;

describe('routes', () => {
  it.each([
    ['', 'explore'],
    ['#/', 'explore'],
    ['#/explore?expr=up', 'explore'],
    ['#/traces', 'traces'],
    ['#/trace/abc?span=1', 'trace'],
    ['#/trace/', 'unknown'],
    ['#/trace/a/b', 'unknown'],
    ['#/nowhere', 'unknown'],
  ])('%s', (hash, page) => expect(parseHash(hash).page).toBe(page));

  it('survive any text', () => {
    const expr = 'sum(rate(a{b=~"x&y=z#%"}[5m])) > 1';
    expect(parseHash(toHash('explore', { expr })).params.get('expr')).toBe(expr);
    expect(parseHash(traceHash('a%/b')).traceId).toBe('a%/b');
    expect(parseHash('#/trace/%zz').traceId).toBe('%zz');
  });

  it('leave out what is empty', () => expect(toHash('traces', { service: '', limit: undefined, a: '1' })).toBe('#/traces?a=1'));

  it('understand links of Prometheus', () => {
    const state = parseExplore(parseHash('#/graph?g0.expr=up&g0.tab=1&g0.range_input=30m&g0.step_input=15').params);
    expect(state).toMatchObject({ expr: 'up', tab: 'table', step: '15s', range: { from: 'now-30m', to: 'now' } });
    const ended = parseExplore(parseHash('#/graph?g0.expr=up&g0.range_input=1h&g0.end_input=2026-11-21%2012:00:00').params);
    expect(ended.range).toEqual({ from: String(NOW - HOUR), to: String(NOW) });
  });

  it('understand links of Jaeger', () => {
    const hash = `#/search?service=cart&operation=all&tags=${encodeURIComponent('{"error":"true","m":"a b"}')}&lookback=2h&limit=50&minDuration=100ms`;
    expect(parseSearch(parseHash(hash).params)).toMatchObject({
      service: 'cart',
      operation: '',
      tags: 'error=true m="a b"',
      limit: 50,
      minDuration: '100ms',
      range: { from: 'now-2h', to: 'now' },
    });
    const custom = parseSearch(parseHash(`#/search?lookback=custom&start=${NOW * 1000}&end=${(NOW + 5) * 1000}`).params);
    expect(custom.range).toEqual({ from: String(NOW), to: String(NOW + 5) });
  });
});

describe('the state of a page', () => {
  it('of metrics comes back from its URL', () => {
    const state = { ...parseExplore(new URLSearchParams()), expr: 'a + b', tab: 'table' as const, step: '30s', unit: 'bytes' as const, stacked: true, exemplars: false, refresh_s: 30, range: { from: '1', to: '2' } };
    expect(parseExplore(parseHash(exploreHash(state)).params)).toEqual(state);
    expect(exploreHash(parseExplore(new URLSearchParams()))).toBe('#/explore');
  });

  it('of the search comes back from its URL', () => {
    const state = { service: 's', operation: 'GET /x', tags: 'a=1 b="x y"', minDuration: '1ms', maxDuration: '2s', range: { from: 'now-2d', to: 'now' }, limit: 100, sort: 'errors' as const };
    expect(parseSearch(parseHash(searchHash(state)).params)).toEqual(state);
    expect(searchHash(parseSearch(new URLSearchParams()))).toBe('#/traces');
  });

  it('is never taken on trust', () => {
    expect(parseExplore(new URLSearchParams('unit=parsec&tab=x&refresh=7'))).toMatchObject({ unit: 'auto', tab: 'graph', refresh_s: 0 });
    expect(parseSearch(new URLSearchParams('limit=99999&sort=x')).limit).toBe(1500);
    expect(parseSearch(new URLSearchParams('limit=-1')).limit).toBe(20);
  });

  it('names every fault of a search', () => {
    const state = { ...parseSearch(new URLSearchParams()), tags: 'a="open', minDuration: '5', maxDuration: '1s', range: { from: 'soon', to: 'now' } };
    const checked = toSearch(state, NOW);
    expect('problems' in checked && Object.keys(checked.problems).sort()).toEqual(['minDuration', 'range', 'tags']);
    const reversed = toSearch({ ...parseSearch(new URLSearchParams()), minDuration: '2s', maxDuration: '100ms' }, NOW);
    expect('problems' in reversed && reversed.problems.maxDuration).toBeTruthy();
  });
});

describe('ranges', () => {
  it('stay relative until they are used', () => {
    expect(resolveRange({ from: 'now-1h', to: 'now' }, NOW)).toEqual({ from_ms: NOW - HOUR, to_ms: NOW });
    expect(resolveRange({ from: String(NOW - 5), to: 'now-1ms' }, NOW)).toEqual({ from_ms: NOW - 5, to_ms: NOW - 1 });
    expect(resolveRange({ from: 'now', to: 'now-1h' }, NOW)).toBeNull();
    expect(resolveRange({ from: 'now-x', to: 'now' }, NOW)).toBeNull();
  });

  it('are described briefly', () => {
    expect(describeRange({ from: 'now-1h', to: 'now' }, 'utc', NOW)).toBe('Last 1 hour');
    expect(describeRange({ from: 'now-90m', to: 'now' }, 'utc', NOW)).toBe('Last 90m');
    expect(describeRange(absoluteRange({ from_ms: NOW - HOUR, to_ms: NOW }), 'utc', NOW)).toBe('2026-11-21 11:00:00 – 12:00:00');
    expect(describeRange(absoluteRange({ from_ms: NOW - 24 * HOUR, to_ms: NOW }), 'utc', NOW)).toBe('2026-11-20 12:00:00 – 2026-11-21 12:00:00');
  });

  it('never run past now when moved or widened', () => {
    const range = { from_ms: NOW - HOUR, to_ms: NOW };
    expect(zoomOut(range, NOW)).toEqual({ from_ms: NOW - 2 * HOUR, to_ms: NOW });
    expect(zoomOut({ from_ms: NOW - 10 * HOUR, to_ms: NOW - 8 * HOUR }, NOW)).toEqual({ from_ms: NOW - 11 * HOUR, to_ms: NOW - 7 * HOUR });
    expect(shiftRange(range, 1, NOW)).toEqual(range);
    expect(shiftRange(range, -1, NOW)).toEqual({ from_ms: NOW - 1.5 * HOUR, to_ms: NOW - HOUR / 2 });
  });

  it('get a step that the server accepts', () => {
    expect(autoStep({ from_ms: 0, to_ms: HOUR })).toBe(10_000);
    expect(autoStep({ from_ms: 0, to_ms: 30 * 24 * HOUR })).toBe(7_200_000);
    for (const length of [1, 1e3, 1e6, 1e9, 1e12]) expect(length / autoStep({ from_ms: 0, to_ms: length })).toBeLessThanOrEqual(400);
    expect(chooseStep('', { from_ms: 0, to_ms: HOUR })).toEqual({ step_ms: 10_000 });
    expect(chooseStep('15s', { from_ms: 0, to_ms: HOUR })).toEqual({ step_ms: 15_000 });
    const tooFine = chooseStep('1s', { from_ms: 0, to_ms: 24 * HOUR });
    expect('problem' in tooFine && tooFine.problem).toContain('8s or more');
    expect((24 * HOUR) / 8_000).toBeLessThanOrEqual(STEPS_MAX);
    expect('problem' in chooseStep('often', { from_ms: 0, to_ms: HOUR })).toBe(true);
  });

  it('have round ticks in the zone of the reader', () => {
    const range = { from_ms: NOW - HOUR, to_ms: NOW };
    expect(instantTicks(range, 7, 0)).toEqual([0, 1, 2, 3, 4, 5, 6].map((at) => NOW - HOUR + at * 600_000));
    const day = instantTicks({ from_ms: NOW - 72 * HOUR, to_ms: NOW }, 4, 5.5 * HOUR);
    expect(day.map((ms) => new Date(ms + 5.5 * HOUR).toISOString().slice(11, 19))).toEqual(['00:00:00', '00:00:00', '00:00:00']);
  });

  it('stand on the grid of the step', () => {
    expect(alignRange({ from_ms: 12_345, to_ms: 98_765 }, 10_000)).toEqual({ from_ms: 10_000, to_ms: 90_000 });
  });
});

describe('tag filters', () => {
  it.each([
    ['http.status_code=500 error', [['http.status_code', '500'], ['error', 'true']]],
    ['message="not \\"here\\"" a=', [['message', 'not "here"'], ['a', '']]],
    ['a=1 a=2', [['a', '2']]],
    ['', []],
    ['url=http://x/?a', [['url', 'http://x/?a']]],
  ])('%s', (text, pairs) => expect(parseLogfmt(text)).toEqual({ tags: pairs.map(([key, value]) => ({ key, value })) }));

  it.each(['a="open', '="x"', 'a="b"c'])('%s is refused', (text) => expect(parseLogfmt(text)).toHaveProperty('problem'));

  it('round-trip', () => {
    for (const value of ['plain', 'two words', 'a "quoted" \\ one', '']) {
      expect(parseLogfmt(formatTag({ key: 'k', value }))).toEqual({ tags: [{ key: 'k', value }] });
    }
  });
});

describe('pasted trace ids', () => {
  it.each([
    ['0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c'],
    ['  "0AF7651916CD43DD"  ', '0af7651916cd43dd'],
    ['0x1f', '1f'],
    ['https://jaeger.example/trace/0af7651916cd43dd?uiFind=x', '0af7651916cd43dd'],
    ['https://pharos.example/x/#/trace/ab12?span=cd', 'ab12'],
    ['hello', null],
    ['no id', null],
    ['', null],
    ['0af7651916cd43dd8448eb211c80319c00', null],
  ])('%s', (text, id) => expect(parseTraceId(text)).toBe(id));
});
