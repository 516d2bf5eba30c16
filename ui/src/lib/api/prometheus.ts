// The Prometheus HTTP API, as far as the UI uses it. Instants go out as seconds, come in as seconds
// and are milliseconds everywhere else.

import { getJson } from './client';
import type { Range } from '../timerange';

export type Labels = Record<string, string>;

/** A native histogram: `[rule, lower, upper, count]` per bucket. */
export interface HistogramJson {
  count: string;
  sum: string;
  buckets?: [number, string, string, string][];
}

export interface MatrixSeries {
  metric: Labels;
  values?: [number, string][];
  histograms?: [number, HistogramJson][];
}

export interface VectorSample {
  metric: Labels;
  value?: [number, string];
  histogram?: [number, HistogramJson];
}

export type QueryData =
  | { resultType: 'matrix'; result: MatrixSeries[] }
  | { resultType: 'vector'; result: VectorSample[] }
  | { resultType: 'scalar'; result: [number, string] }
  | { resultType: 'string'; result: [number, string] };

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

export interface ExemplarSeries {
  seriesLabels: Labels;
  exemplars: { labels: Labels; value: string; timestamp: number }[];
}

export interface MetricMetadata {
  type: string;
  help: string;
  unit: string;
}

export interface BuildInfo {
  /** The Prometheus whose API this is; `applicationVersion` is Pharos' own. */
  version: string;
  applicationVersion?: string;
  revision?: string;
  branch?: string;
  buildDate?: string;
}

interface Envelope<T> {
  status: 'success' | 'error';
  data: T;
  warnings?: string[];
  infos?: string[];
}

const seconds = (ms: number): string => String(ms / 1000);

async function ask<T>(path: string, form: Record<string, string> | undefined, signal?: AbortSignal): Promise<Answer<T>> {
  const body = await getJson<Envelope<T>>(`api/v1/${path}`, {
    ...(form ? { form: new URLSearchParams(form) } : {}),
    ...(signal ? { signal } : {}),
  });
  return { data: body.data, warnings: body.warnings ?? [], infos: body.infos ?? [] };
}

export function queryInstant(query: string, time_ms: number, signal?: AbortSignal): Promise<Answer<QueryData>> {
  return ask('query', { query, time: seconds(time_ms) }, signal);
}

export function queryRange(query: string, range: Range, step_ms: number, signal?: AbortSignal): Promise<Answer<QueryData>> {
  return ask(
    'query_range',
    { query, start: seconds(range.from_ms), end: seconds(range.to_ms), step: seconds(step_ms) },
    signal,
  );
}

export async function queryExemplars(query: string, range: Range, signal?: AbortSignal): Promise<ExemplarSeries[]> {
  const form = { query, start: seconds(range.from_ms), end: seconds(range.to_ms) };
  return (await ask<ExemplarSeries[] | null>('query_exemplars', form, signal)).data ?? [];
}

/** Metric names, at most `limit`, that had samples in `range`. */
export async function metricNames(range: Range, limit: number, signal?: AbortSignal): Promise<string[]> {
  const query = new URLSearchParams({
    start: seconds(range.from_ms),
    end: seconds(range.to_ms),
    limit: String(limit),
  });
  return (await ask<string[] | null>(`label/__name__/values?${query.toString()}`, undefined, signal)).data ?? [];
}

/** Type, help and unit of every known metric; the first entry stands for the metric. */
export async function metricMetadata(signal?: AbortSignal): Promise<Map<string, MetricMetadata>> {
  const { data } = await ask<Record<string, MetricMetadata[]> | null>('metadata', undefined, signal);
  const found = new Map<string, MetricMetadata>();
  for (const [name, entries] of Object.entries(data ?? {})) {
    if (entries[0]) found.set(name, entries[0]);
  }
  return found;
}

export async function buildInfo(signal?: AbortSignal): Promise<BuildInfo> {
  return (await ask<BuildInfo>('status/buildinfo', undefined, signal)).data;
}
