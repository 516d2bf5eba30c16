import { describe, expect, it } from 'vitest';
import { errorPosition, excerpt } from './errors';
import { thinExemplars } from './exemplars';
import { commonLabels, drawable, formatLabels, stack, toPlotData } from './series';

describe('labels', () => {
  it.each([
    [{}, '{}'],
    [{ __name__: 'up' }, 'up'],
    [{ __name__: 'up', job: 'a', b: 'x"y' }, 'up{b="x\\"y", job="a"}'],
    [{ 'http.route': '/x' }, '{"http.route"="/x"}'],
  ])('%o', (labels, text) => expect(formatLabels(labels as Record<string, string>)).toBe(text));

  it('say once what all series share', () => {
    expect(commonLabels([{ a: '1', b: '2' }, { a: '1', b: '3' }, { a: '1' }])).toEqual({ a: '1' });
    expect(commonLabels([{ a: '1' }])).toEqual({});
  });
});

describe('plot data', () => {
  const range = { from_ms: 10_000, to_ms: 50_000 };

  it('stand on the grid, with gaps where samples are missing', () => {
    const plot = toPlotData(
      [
        { metric: { a: '1' }, values: [[10, '1'], [30, 'NaN'], [50, '3']] },
        { metric: { a: '2' }, histograms: [[10, { count: '1', sum: '1' }]] },
      ],
      range,
      10_000,
    );
    expect(plot.times_s).toEqual([10, 20, 30, 40, 50]);
    expect(plot.series[0]?.values).toEqual([1, null, Number.NaN, null, 3]);
    expect(plot.series[0]).toMatchObject({ last: 3, min: 1, max: 3, avg: 2 });
    expect(plot.series).toHaveLength(1);
    expect(plot.histogramCount).toBe(1);
  });

  it('ignore samples outside the range', () => {
    expect(toPlotData([{ metric: {}, values: [[0, '1'], [60, '2'], [20, '5']] }], range, 10_000).series[0]?.values).toEqual([null, 5, null, null, null]);
  });

  it('draw what is finite', () => expect(drawable([1, Number.NaN, Number.POSITIVE_INFINITY, null])).toEqual([1, null, null, null]));

  it('stack from the last series up, over gaps', () => {
    expect(stack([[1, 2, null], [10, null, 30], [100, 200, 300]])).toEqual([[111, 202, 330], [110, 200, 330], [100, 200, 300]]);
    expect(stack([[1, 2], [null, null], [10, 20]])).toEqual([[11, 22], [null, null], [10, 20]]);
  });
});

describe('exemplars', () => {
  const range = { from_ms: 0, to_ms: 100_000 };
  const exemplar = (timestamp: number, value: string, trace_id = `t${timestamp}`): { labels: Record<string, string>; value: string; timestamp: number } => ({ labels: { trace_id }, value, timestamp });

  it('keep the largest of each part of the range', () => {
    const points = thinExemplars([{ seriesLabels: {}, exemplars: [exemplar(1, '1'), exemplar(3, '5'), exemplar(4, '2'), exemplar(55, '1'), exemplar(400, '9'), exemplar(56, 'NaN')] }], range, 10);
    expect(points.map((point) => [point.traceId, point.value])).toEqual([['t3', 5], ['t55', 1]]);
  });

  it('keep three of many series in one part', () => {
    const series = [4, 1, 5, 3, 2].map((value) => ({ seriesLabels: { pod: String(value) }, exemplars: [exemplar(value, String(value))] }));
    expect(thinExemplars(series, range, 1).map((point) => point.value)).toEqual([3, 4, 5]);
  });

  it('show one measurement of several buckets once', () => {
    const series = ['1', '+Inf'].map((le) => ({ seriesLabels: { le }, exemplars: [exemplar(5, '0.7', 'same')] }));
    expect(thinExemplars(series, range, 10)).toHaveLength(1);
  });

  it.each(['trace_id', 'traceID', 'traceId'])('find the trace under %s', (key) => {
    const [point] = thinExemplars([{ seriesLabels: {}, exemplars: [{ labels: { [key]: 'abc', span_id: 's' }, value: '1', timestamp: 1 }] }], range, 1);
    expect(point).toMatchObject({ traceId: 'abc', spanId: 's' });
  });
});

describe('positions of errors', () => {
  it.each([
    ['invalid parameter "query": 1:18: parse error: unclosed left parenthesis', { line: 1, column: 18 }],
    ['2:3: parse error: unexpected identifier', { line: 2, column: 3 }],
    ['PromQL info: metric might not be a counter (1:6)', { line: 1, column: 6 }],
    ['query timed out', null],
  ])('%s', (message, position) => expect(errorPosition(message)).toEqual(position));

  it('show the line around the spot', () => {
    expect(excerpt('sum(\n  rate(x[5m])', { line: 2, column: 3 })).toEqual({ text: '  rate(x[5m])', offset: 2 });
    expect(excerpt('up', { line: 1, column: 99 })).toEqual({ text: 'up', offset: 2 });
    expect(excerpt('up', { line: 4, column: 1 })).toBeNull();
    const cut = excerpt('x'.repeat(100) + '!' + 'y'.repeat(100), { line: 1, column: 101 }, 40);
    expect(cut?.text[cut.offset]).toBe('!');
    expect(cut?.text.length).toBe(42);
  });
});
