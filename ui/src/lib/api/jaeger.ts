// The Jaeger v1 HTTP API, as far as the UI uses it. Its instants and durations are microseconds.

import { getJson } from './client';
import type { Tag } from '../logfmt';
import type { Range } from '../timerange';

export interface KeyValue {
  key: string;
  type: 'string' | 'bool' | 'int64' | 'float64' | 'binary';
  value: string | number | boolean;
}

export interface JaegerReference {
  refType: 'CHILD_OF' | 'FOLLOWS_FROM';
  traceID: string;
  spanID: string;
}

export interface JaegerLog {
  timestamp: number;
  fields: KeyValue[];
}

export interface JaegerSpan {
  traceID: string;
  spanID: string;
  parentSpanID?: string;
  operationName: string;
  references: JaegerReference[] | null;
  startTime: number;
  duration: number;
  tags: KeyValue[] | null;
  logs: JaegerLog[] | null;
  processID: string;
  warnings?: string[] | null;
}

export interface JaegerProcess {
  serviceName: string;
  tags?: KeyValue[] | null;
}

export interface JaegerTrace {
  traceID: string;
  spans: JaegerSpan[];
  processes: Record<string, JaegerProcess>;
  warnings: string[] | null;
}

interface Envelope<T> {
  data: T | null;
  total: number;
  errors: { code?: number; msg: string; traceID?: string }[] | null;
}

export interface TraceSearch {
  service: string;
  operation: string;
  tags: Tag[];
  minDuration: string;
  maxDuration: string;
  range: Range;
  limit: number;
}

export async function listServices(signal?: AbortSignal): Promise<string[]> {
  const body = await getJson<Envelope<string[]>>('api/services', signal ? { signal } : {});
  return (body.data ?? []).slice().sort((a, b) => a.localeCompare(b));
}

export async function listOperations(service: string, signal?: AbortSignal): Promise<string[]> {
  const body = await getJson<Envelope<string[]>>(`api/services/${encodeURIComponent(service)}/operations`, signal ? { signal } : {});
  return (body.data ?? []).slice().sort((a, b) => a.localeCompare(b));
}

/** Search answers whole traces, with the notes the server has about them. */
export async function searchTraces(search: TraceSearch, signal?: AbortSignal): Promise<{ traces: JaegerTrace[]; notes: string[] }> {
  const query = new URLSearchParams();
  if (search.service !== '') query.set('service', search.service);
  if (search.operation !== '') query.set('operation', search.operation);
  if (search.tags.length > 0) query.set('tags', JSON.stringify(Object.fromEntries(search.tags.map((tag) => [tag.key, tag.value]))));
  if (search.minDuration !== '') query.set('minDuration', search.minDuration);
  if (search.maxDuration !== '') query.set('maxDuration', search.maxDuration);
  query.set('start', String(Math.round(search.range.from_ms * 1000)));
  query.set('end', String(Math.round(search.range.to_ms * 1000)));
  query.set('limit', String(search.limit));
  const body = await getJson<Envelope<JaegerTrace[]>>(`api/traces?${query.toString()}`, signal ? { signal } : {});
  return { traces: body.data ?? [], notes: (body.errors ?? []).map((entry) => entry.msg) };
}

/** One trace, or `null` when the server does not know it. */
export async function fetchTrace(traceId: string, signal?: AbortSignal): Promise<JaegerTrace | null> {
  const body = await getJson<Envelope<JaegerTrace[]>>(`api/traces/${encodeURIComponent(traceId)}`, signal ? { signal } : {});
  return body.data?.[0] ?? null;
}
