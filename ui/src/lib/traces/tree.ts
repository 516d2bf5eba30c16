// A Jaeger trace as a tree of spans, ready to draw.
//
// Invariants
// - T1 Every span of the answer appears exactly once, whatever its parents claim: a missing parent
//   makes a root (an orphan), a cycle is cut at its earliest span.
// - T2 `spans` is the depth-first order; the descendants of `spans[i]` are `spans[i+1 .. i+subtree]`.
// - T3 Siblings ascend by start, then by span id, so the same trace always looks the same.

import type { JaegerSpan, JaegerTrace, KeyValue } from '../api/jaeger';

export interface SpanNode {
  span: JaegerSpan;
  spanId: string;
  service: string;
  operation: string;
  processTags: KeyValue[];
  /** Microseconds after the start of the trace. */
  offset_us: number;
  duration_us: number;
  /** Time in the span that no child covers. */
  self_us: number;
  depth: number;
  /** Index of the parent in `spans`, -1 for roots. */
  parent: number;
  /** Number of descendants. */
  subtree: number;
  children: number;
  error: boolean;
  /** True when some descendant failed: shown on a collapsed row. */
  errorBelow: boolean;
  kind: string;
  /** The parent it names is not in the trace. */
  orphan: boolean;
}

export interface TraceTree {
  traceId: string;
  spans: SpanNode[];
  start_us: number;
  duration_us: number;
  errorCount: number;
  services: ServiceCount[];
  depthMax: number;
  warnings: string[];
}

export interface ServiceCount {
  name: string;
  spanCount: number;
  errorCount: number;
}

export function tagOf(tags: KeyValue[] | null | undefined, key: string): KeyValue['value'] | undefined {
  return tags?.find((tag) => tag.key === key)?.value;
}

export function isError(span: JaegerSpan): boolean {
  const flag = tagOf(span.tags, 'error');
  return flag === true || flag === 'true' || tagOf(span.tags, 'otel.status_code') === 'ERROR';
}

/** The parent's span id, empty for roots. A CHILD_OF into the same trace wins over FOLLOWS_FROM. */
export function parentIdOf(span: JaegerSpan): string {
  const local = (span.references ?? []).filter((ref) => ref.traceID === span.traceID && ref.spanID !== span.spanID);
  const parent = local.find((ref) => ref.refType === 'CHILD_OF') ?? local.find((ref) => ref.refType === 'FOLLOWS_FROM');
  return parent?.spanID ?? span.parentSpanID ?? '';
}

/** Every span reference that is not the parent: links to other spans and traces. */
export function linksOf(span: JaegerSpan): { traceID: string; spanID: string; refType: string }[] {
  const parent = parentIdOf(span);
  return (span.references ?? []).filter((ref) => ref.traceID !== span.traceID || ref.spanID !== parent);
}

const byStart = (a: JaegerSpan, b: JaegerSpan): number =>
  a.startTime - b.startTime || (a.spanID < b.spanID ? -1 : a.spanID > b.spanID ? 1 : 0);

export function buildTree(trace: JaegerTrace): TraceTree {
  const spans = trace.spans.slice().sort(byStart);
  const byId = new Map<string, JaegerSpan>();
  for (const span of spans) if (!byId.has(span.spanID)) byId.set(span.spanID, span);

  const childrenOf = new Map<JaegerSpan, JaegerSpan[]>();
  const roots: { span: JaegerSpan; orphan: boolean }[] = [];
  for (const span of spans) {
    const parentId = parentIdOf(span);
    const parent = parentId === '' ? undefined : byId.get(parentId);
    if (parent === undefined || parent === span) {
      roots.push({ span, orphan: parentId !== '' });
    } else {
      const siblings = childrenOf.get(parent);
      if (siblings) siblings.push(span);
      else childrenOf.set(parent, [span]);
    }
  }

  const start_us = spans.reduce((least, span) => Math.min(least, span.startTime), Number.POSITIVE_INFINITY);
  const end_us = spans.reduce((most, span) => Math.max(most, span.startTime + span.duration), 0);
  const nodes: SpanNode[] = [];
  const seen = new Set<JaegerSpan>();

  // An explicit stack: a hostile trace may be deeper than the call stack.
  const visit = (root: JaegerSpan, orphan: boolean): void => {
    const stack: { span: JaegerSpan; parent: number; depth: number; orphan: boolean }[] = [{ span: root, parent: -1, depth: 0, orphan }];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      if (seen.has(top.span)) continue;
      seen.add(top.span);
      const children = (childrenOf.get(top.span) ?? []).filter((child) => !seen.has(child));
      const index = nodes.push(nodeOf(trace, top.span, children, start_us, top)) - 1;
      for (let at = children.length - 1; at >= 0; at -= 1) {
        const child = children[at];
        if (child) stack.push({ span: child, parent: index, depth: top.depth + 1, orphan: false });
      }
    }
  };
  for (const { span, orphan } of roots) visit(span, orphan);
  // Whatever is left hangs in a cycle: cut it at its earliest span (T1).
  for (const span of spans) if (!seen.has(span)) visit(span, true);

  for (let index = nodes.length - 1; index >= 0; index -= 1) {
    const node = nodes[index];
    const parent = node && node.parent >= 0 ? nodes[node.parent] : undefined;
    if (node && parent) {
      parent.subtree += node.subtree + 1;
      parent.children += 1;
      if (node.error || node.errorBelow) parent.errorBelow = true;
    }
  }
  return {
    traceId: trace.traceID,
    spans: nodes,
    start_us: Number.isFinite(start_us) ? start_us : 0,
    duration_us: Number.isFinite(start_us) ? Math.max(0, end_us - start_us) : 0,
    errorCount: nodes.filter((node) => node.error).length,
    services: countServices(trace),
    depthMax: nodes.reduce((most, node) => Math.max(most, node.depth), 0),
    warnings: trace.warnings ?? [],
  };
}

function nodeOf(
  trace: JaegerTrace,
  span: JaegerSpan,
  children: JaegerSpan[],
  start_us: number,
  place: { parent: number; depth: number; orphan: boolean },
): SpanNode {
  const process = trace.processes[span.processID];
  return {
    span,
    spanId: span.spanID,
    service: process?.serviceName ?? 'unknown service',
    operation: span.operationName,
    processTags: process?.tags ?? [],
    offset_us: span.startTime - start_us,
    duration_us: span.duration,
    self_us: selfTime(span, children),
    depth: place.depth,
    parent: place.parent,
    subtree: 0,
    children: 0,
    error: isError(span),
    errorBelow: false,
    kind: String(tagOf(span.tags, 'span.kind') ?? ''),
    orphan: place.orphan,
  };
}

/** Duration less the union of the children's intervals, clipped to the span. Children ascend by start (T3). */
export function selfTime(span: JaegerSpan, children: JaegerSpan[]): number {
  const end = span.startTime + span.duration;
  let covered = 0;
  let reached = span.startTime;
  for (const child of children) {
    const from = Math.max(child.startTime, reached);
    const to = Math.min(child.startTime + child.duration, end);
    if (to > from) {
      covered += to - from;
      reached = to;
    }
  }
  return span.duration - covered;
}

function countServices(trace: JaegerTrace): ServiceCount[] {
  const counts = new Map<string, ServiceCount>();
  for (const span of trace.spans) {
    const name = trace.processes[span.processID]?.serviceName ?? 'unknown service';
    const count = counts.get(name) ?? { name, spanCount: 0, errorCount: 0 };
    count.spanCount += 1;
    if (isError(span)) count.errorCount += 1;
    counts.set(name, count);
  }
  return [...counts.values()].sort((a, b) => b.spanCount - a.spanCount || a.name.localeCompare(b.name));
}

/** Indices of the rows to draw, given the spans whose children are folded away. */
export function visibleRows(tree: TraceTree, collapsed: ReadonlySet<string>): number[] {
  const rows: number[] = [];
  for (let index = 0; index < tree.spans.length; index += 1) {
    const node = tree.spans[index];
    if (!node) break;
    rows.push(index);
    if (node.subtree > 0 && collapsed.has(node.spanId)) index += node.subtree;
  }
  return rows;
}

/** Span ids to fold so that nothing deeper than `depth` shows. */
export function collapseBelow(tree: TraceTree, depth: number): Set<string> {
  return new Set(tree.spans.filter((node) => node.children > 0 && node.depth >= depth).map((node) => node.spanId));
}

/** Ids of all ancestors: unfold these to bring a span into view. */
export function ancestorsOf(tree: TraceTree, index: number): string[] {
  const ids: string[] = [];
  for (let at = tree.spans[index]?.parent ?? -1; at >= 0; at = tree.spans[at]?.parent ?? -1) {
    const node = tree.spans[at];
    if (node) ids.push(node.spanId);
  }
  return ids;
}

/** Indices of spans in which every word occurs: in service, operation, ids, tags, events or warnings. */
export function searchSpans(tree: TraceTree, text: string): number[] {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== '');
  if (words.length === 0) return [];
  const found: number[] = [];
  tree.spans.forEach((node, index) => {
    const hay = haystack(node);
    if (words.every((word) => hay.includes(word))) found.push(index);
  });
  return found;
}

function haystack(node: SpanNode): string {
  const pair = (tag: KeyValue): string => `${tag.key}=${String(tag.value)}`;
  return [
    node.service,
    node.operation,
    node.spanId,
    ...(node.span.tags ?? []).map(pair),
    ...node.processTags.map(pair),
    ...(node.span.logs ?? []).flatMap((log) => log.fields.map(pair)),
    ...(node.span.warnings ?? []),
  ]
    .join('\n')
    .toLowerCase();
}
