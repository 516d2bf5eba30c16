// One line per trace for the result list, and the orders in which the list can stand.

import type { JaegerSpan, JaegerTrace } from '../api/jaeger';
import { isError, parentIdOf, type ServiceCount } from './tree';

export interface TraceSummary {
  traceId: string;
  rootService: string;
  rootOperation: string;
  start_us: number;
  duration_us: number;
  spanCount: number;
  errorCount: number;
  services: ServiceCount[];
  /** Spans whose parent is not in the trace: a sign that parts were not received. */
  orphanCount: number;
}

export const SORT_ORDERS = [
  ['newest', 'Newest first'],
  ['longest', 'Longest first'],
  ['shortest', 'Shortest first'],
  ['spans', 'Most spans'],
  ['errors', 'Most errors'],
] as const;

export type SortOrder = (typeof SORT_ORDERS)[number][0];

/** The root is the earliest span without a parent, or the earliest of all when every span names one. */
function rootOf(trace: JaegerTrace): JaegerSpan | undefined {
  let root: JaegerSpan | undefined;
  let rootIsTrue = false;
  for (const span of trace.spans) {
    const isTrue = parentIdOf(span) === '';
    if (root === undefined || (isTrue && !rootIsTrue) || (isTrue === rootIsTrue && span.startTime < root.startTime)) {
      root = span;
      rootIsTrue = isTrue;
    }
  }
  return root;
}

export function summarize(trace: JaegerTrace): TraceSummary {
  const ids = new Set(trace.spans.map((span) => span.spanID));
  const counts = new Map<string, ServiceCount>();
  let start_us = Number.POSITIVE_INFINITY;
  let end_us = 0;
  let errorCount = 0;
  let orphanCount = 0;
  for (const span of trace.spans) {
    start_us = Math.min(start_us, span.startTime);
    end_us = Math.max(end_us, span.startTime + span.duration);
    const failed = isError(span);
    if (failed) errorCount += 1;
    const parent = parentIdOf(span);
    if (parent !== '' && !ids.has(parent)) orphanCount += 1;
    const name = trace.processes[span.processID]?.serviceName ?? 'unknown service';
    const count = counts.get(name) ?? { name, spanCount: 0, errorCount: 0 };
    count.spanCount += 1;
    if (failed) count.errorCount += 1;
    counts.set(name, count);
  }
  const root = rootOf(trace);
  return {
    traceId: trace.traceID,
    rootService: root ? (trace.processes[root.processID]?.serviceName ?? 'unknown service') : 'no spans',
    rootOperation: root?.operationName ?? '',
    start_us: Number.isFinite(start_us) ? start_us : 0,
    duration_us: Number.isFinite(start_us) ? Math.max(0, end_us - start_us) : 0,
    spanCount: trace.spans.length,
    errorCount,
    services: [...counts.values()].sort((a, b) => b.spanCount - a.spanCount || a.name.localeCompare(b.name)),
    orphanCount,
  };
}

const COMPARE: Record<SortOrder, (a: TraceSummary, b: TraceSummary) => number> = {
  newest: (a, b) => b.start_us - a.start_us,
  longest: (a, b) => b.duration_us - a.duration_us,
  shortest: (a, b) => a.duration_us - b.duration_us,
  spans: (a, b) => b.spanCount - a.spanCount,
  errors: (a, b) => b.errorCount - a.errorCount,
};

/** A sorted copy; equal traces stand newest first, then by id. */
export function sortSummaries(summaries: readonly TraceSummary[], order: SortOrder): TraceSummary[] {
  return summaries
    .slice()
    .sort((a, b) => COMPARE[order](a, b) || b.start_us - a.start_us || a.traceId.localeCompare(b.traceId));
}

/** Trims what people paste: quotes, spaces, `0x`, a whole URL that ends in an id. `null` if no id is in it. */
export function parseTraceId(text: string): string | null {
  const match = /(?:^|[/\s="':])(?:0x)?([0-9a-f]{1,32})["'\s]*$/i.exec(text.trim().replace(/\?.*$/, ''));
  return match?.[1]?.toLowerCase() ?? null;
}
