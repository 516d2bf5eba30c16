// The state of the trace search as the URL holds it, and what must hold before it is sent.

import type { TraceSearch } from '../api/jaeger';
import { parseGoDurationUs } from '../format/duration';
import { parseLogfmt } from '../logfmt';
import { toHash } from '../route';
import { DEFAULT_RANGE, resolveRange, type RangeText } from '../timerange';
import { SORT_ORDERS, type SortOrder } from './summary';

export interface SearchState {
  service: string;
  operation: string;
  /** logfmt, as typed. */
  tags: string;
  minDuration: string;
  maxDuration: string;
  range: RangeText;
  limit: number;
  sort: SortOrder;
}

export const LIMIT_DEFAULT = 20;
export const LIMIT_MAX = 1500;

export function parseSearch(params: URLSearchParams): SearchState {
  const limit = Number(params.get('limit') ?? LIMIT_DEFAULT);
  const sort = params.get('sort');
  return {
    service: params.get('service') ?? '',
    operation: params.get('operation') ?? '',
    tags: params.get('tags') ?? '',
    minDuration: params.get('minDuration') ?? '',
    maxDuration: params.get('maxDuration') ?? '',
    range: { from: params.get('from') ?? DEFAULT_RANGE.from, to: params.get('to') ?? DEFAULT_RANGE.to },
    limit: Number.isInteger(limit) && limit >= 1 ? Math.min(limit, LIMIT_MAX) : LIMIT_DEFAULT,
    sort: SORT_ORDERS.find(([name]) => name === sort)?.[0] ?? 'newest',
  };
}

export function searchHash(state: SearchState): string {
  return toHash('traces', {
    service: state.service,
    operation: state.operation,
    tags: state.tags,
    minDuration: state.minDuration,
    maxDuration: state.maxDuration,
    from: state.range.from === DEFAULT_RANGE.from ? '' : state.range.from,
    to: state.range.to === DEFAULT_RANGE.to ? '' : state.range.to,
    limit: state.limit === LIMIT_DEFAULT ? '' : String(state.limit),
    sort: state.sort === 'newest' ? '' : state.sort,
  });
}

/** Complaints by field; no entry means the field is fine. */
export type SearchProblems = Partial<Record<'tags' | 'minDuration' | 'maxDuration' | 'range', string>>;

/** Checks what was typed and turns it into a search. */
export function toSearch(state: SearchState, now_ms: number): { search: TraceSearch } | { problems: SearchProblems } {
  const problems: SearchProblems = {};
  const parsed = parseLogfmt(state.tags);
  if ('problem' in parsed) problems.tags = parsed.problem;
  const bounds_us = { minDuration: 0, maxDuration: Number.POSITIVE_INFINITY };
  for (const field of ['minDuration', 'maxDuration'] as const) {
    if (state[field] === '') continue;
    const us = parseGoDurationUs(state[field]);
    if (us === null) problems[field] = 'Write a duration such as 250ms or 1.5s.';
    else bounds_us[field] = us;
  }
  if (bounds_us.minDuration > bounds_us.maxDuration) problems.maxDuration = 'The longest duration is below the shortest.';
  const range = resolveRange(state.range, now_ms);
  if (!range) problems.range = 'The time range in the URL cannot be read. Choose one here.';
  if (!range || !('tags' in parsed) || Object.keys(problems).length > 0) return { problems };
  const { service, operation, minDuration, maxDuration, limit } = state;
  return { search: { service, operation, tags: parsed.tags, minDuration, maxDuration, range, limit } };
}
