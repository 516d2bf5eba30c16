// Exemplars: single measurements that name the trace they came from.

import type { ExemplarSeries, Labels } from '../api/prometheus';
import { parseSampleValue } from '../format/number';
import type { Range } from '../timerange';

export interface ExemplarPoint {
  time_ms: number;
  value: number;
  seriesLabels: Labels;
  labels: Labels;
  /** Empty when the exemplar names no trace. */
  traceId: string;
  spanId: string;
}

/** More diamonds above one another cannot be told apart. */
const SLOT_POINTS_MAX = 3;

const TRACE_ID_LABELS = ['trace_id', 'traceID', 'traceId', 'traceid', 'TraceID'];
const SPAN_ID_LABELS = ['span_id', 'spanID', 'spanId', 'spanid', 'SpanID'];

function firstOf(labels: Labels, keys: readonly string[]): string {
  for (const key of keys) if (labels[key]) return labels[key];
  return '';
}

/**
 * Thins exemplars so that at most one per series, and three of all, stand in each of `slots` equal parts of `range`:
 * the largest, because the slow or big ones are what people look for. The answer ascends in time.
 */
export function thinExemplars(series: readonly ExemplarSeries[], range: Range, slots: number): ExemplarPoint[] {
  const width_ms = (range.to_ms - range.from_ms) / slots;
  const points: ExemplarPoint[] = [];
  for (const { seriesLabels, exemplars } of series) {
    const best = new Map<number, ExemplarPoint>();
    for (const { labels, value: text, timestamp } of exemplars) {
      const value = parseSampleValue(text);
      const time_ms = timestamp * 1000;
      if (!Number.isFinite(value) || time_ms < range.from_ms || time_ms > range.to_ms) continue;
      const slot = Math.floor((time_ms - range.from_ms) / width_ms);
      const known = best.get(slot);
      if (known !== undefined && known.value >= value) continue;
      best.set(slot, {
        time_ms,
        value,
        seriesLabels,
        labels,
        traceId: firstOf(labels, TRACE_ID_LABELS),
        spanId: firstOf(labels, SPAN_ID_LABELS),
      });
    }
    points.push(...best.values());
  }
  const perSlot = new Map<number, number>();
  return mergeBuckets(points, width_ms)
    .sort((a, b) => b.value - a.value)
    .filter((point) => {
      const slot = Math.floor((point.time_ms - range.from_ms) / width_ms);
      const count = (perSlot.get(slot) ?? 0) + 1;
      perSlot.set(slot, count);
      return count <= SLOT_POINTS_MAX;
    })
    .sort((a, b) => a.time_ms - b.time_ms);
}

/** A classic histogram repeats one measurement in many `le` buckets' series: the same trace at the same instant is one point. */
function mergeBuckets(points: readonly ExemplarPoint[], width_ms: number): ExemplarPoint[] {
  const seen = new Map<string, ExemplarPoint>();
  for (const point of points) {
    const key = point.traceId === '' ? `${point.time_ms}:${point.value}` : `${point.traceId}:${Math.floor(point.time_ms / width_ms)}`;
    const known = seen.get(key);
    if (known === undefined || known.value < point.value) seen.set(key, point);
  }
  return [...seen.values()];
}
