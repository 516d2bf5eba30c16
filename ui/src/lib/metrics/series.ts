// Query results as columns for the chart: one shared time axis, one value column per series.

import type { HistogramJson, Labels, MatrixSeries } from '../api/prometheus';
import { parseSampleValue } from '../format/number';
import type { Range } from '../timerange';

export interface PlotSeries {
  labels: Labels;
  name: string;
  /** One entry per instant of the shared axis; `null` where the series has no sample. */
  values: (number | null)[];
  last: number | null;
  min: number | null;
  max: number | null;
  avg: number | null;
}

export interface PlotData {
  /** Unix seconds, ascending, one per step: what uPlot wants. */
  times_s: number[];
  series: PlotSeries[];
  /** Series that hold only native histograms, which a line cannot show. */
  histogramCount: number;
}

/** A label set as PromQL writes it: `name{a="1", b="2"}`; the empty set is `{}`. */
export function formatLabels(labels: Labels, without?: ReadonlySet<string>): string {
  const { __name__: name = '', ...rest } = labels;
  const pairs = Object.entries(rest)
    .filter(([key]) => !without?.has(key))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${/^[a-zA-Z_]\w*$/.test(key) ? key : JSON.stringify(key)}=${JSON.stringify(value)}`);
  if (name !== '' && pairs.length === 0) return name;
  return `${name}{${pairs.join(', ')}}`;
}

/** Labels, name included, that are the same in every series: said once above the legend, not in every row. */
export function commonLabels(sets: readonly Labels[]): Labels {
  if (sets.length < 2) return {};
  const [first = {}, ...others] = sets;
  return Object.fromEntries(Object.entries(first).filter(([key, value]) => others.every((labels) => labels[key] === value)));
}

/** Lays a matrix on the step grid of its query. Samples off the grid (there are none from a sound server) are dropped. */
export function toPlotData(matrix: readonly MatrixSeries[], range: Range, step_ms: number): PlotData {
  const count = Math.max(0, Math.floor((range.to_ms - range.from_ms) / step_ms)) + 1;
  const times_s = Array.from({ length: count }, (_, index) => (range.from_ms + index * step_ms) / 1000);
  const series: PlotSeries[] = [];
  let histogramCount = 0;
  for (const { metric, values, histograms } of matrix) {
    if (values === undefined || values.length === 0) {
      if (histograms !== undefined && histograms.length > 0) histogramCount += 1;
      continue;
    }
    const column = new Array<number | null>(count).fill(null);
    for (const [time_s, text] of values) {
      const index = Math.round((time_s * 1000 - range.from_ms) / step_ms);
      if (index >= 0 && index < count) column[index] = parseSampleValue(text);
    }
    series.push({ labels: metric, name: formatLabels(metric), values: column, ...statistics(column) });
  }
  return { times_s, series, histogramCount };
}

function statistics(values: readonly (number | null)[]): Pick<PlotSeries, 'last' | 'min' | 'max' | 'avg'> {
  let last: number | null = null;
  let min: number | null = null;
  let max: number | null = null;
  let sum = 0;
  let count = 0;
  for (const value of values) {
    if (value === null) continue;
    last = value;
    if (Number.isNaN(value)) continue;
    if (min === null || value < min) min = value;
    if (max === null || value > max) max = value;
    sum += value;
    count += 1;
  }
  return { last, min, max, avg: count === 0 ? null : sum / count };
}

/** Values the chart can draw: NaN and infinities become gaps. */
export function drawable(values: readonly (number | null)[]): (number | null)[] {
  return values.map((value) => (value !== null && Number.isFinite(value) ? value : null));
}

/**
 * Running sums from the last series up, for the stacked view. A gap counts as nothing, so the layers above it stay
 * joined to those below; a column without any value (a hidden series) stays empty.
 */
export function stack(columns: readonly (readonly (number | null)[])[]): (number | null)[][] {
  const sums: number[] = [];
  const out: (number | null)[][] = new Array(columns.length);
  for (let at = columns.length - 1; at >= 0; at -= 1) {
    const column = drawable(columns[at] ?? []);
    const empty = column.every((value) => value === null);
    out[at] = column.map((value, index) => {
      const sum = (sums[index] ?? 0) + (value ?? 0);
      sums[index] = sum;
      return empty ? null : sum;
    });
  }
  return out;
}

/** "count 120, sum 3.4, 7 buckets": a native histogram in one line. */
export function describeHistogram(histogram: HistogramJson): string {
  const buckets = histogram.buckets?.length ?? 0;
  return `count ${histogram.count}, sum ${histogram.sum}, ${buckets} ${buckets === 1 ? 'bucket' : 'buckets'}`;
}
