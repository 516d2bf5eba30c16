// The hash router: which page, and its state as query parameters. Everything a colleague needs to
// see the same thing stands in the URL; the path stays the document's own, so any prefix works.

import { parsePromDuration } from './format/duration';

export type Page = 'explore' | 'traces' | 'trace' | 'unknown';

export interface Route {
  page: Page;
  /** The trace id of page `trace`, empty elsewhere. */
  traceId: string;
  params: URLSearchParams;
}

/** Parses `location.hash`. An empty hash is the metrics page. */
export function parseHash(hash: string): Route {
  const text = hash.replace(/^#\/?/, '');
  const cut = text.indexOf('?');
  const path = cut < 0 ? text : text.slice(0, cut);
  const params = new URLSearchParams(cut < 0 ? '' : text.slice(cut + 1));
  const [first = '', second = '', ...more] = path.split('/');
  if (more.length === 0) {
    if ((first === '' || first === 'explore') && second === '') return { page: 'explore', traceId: '', params };
    if (first === 'traces' && second === '') return { page: 'traces', traceId: '', params };
    if (first === 'trace' && second !== '') return { page: 'trace', traceId: safeDecode(second), params };
    if ((first === 'graph' || first === 'query') && second === '') {
      return { page: 'explore', traceId: '', params: fromPrometheusGraph(params) };
    }
    if (first === 'search' && second === '') return { page: 'traces', traceId: '', params: fromJaegerSearch(params) };
  }
  return { page: 'unknown', traceId: '', params };
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Writes a hash; empty parameters are left out, so that URLs stay short. */
export function toHash(path: string, params: Record<string, string | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') query.set(key, value);
  }
  const text = query.toString();
  return `#/${path}${text === '' ? '' : `?${text}`}`;
}

export function traceHash(traceId: string, params: Record<string, string | undefined> = {}): string {
  return toHash(`trace/${encodeURIComponent(traceId)}`, params);
}

/** A link of Prometheus' own page (`/graph?g0.expr=…`), as alerts carry it in their generator URL. */
function fromPrometheusGraph(params: URLSearchParams): URLSearchParams {
  const out = new URLSearchParams();
  const copy = (from: string, to: string, map: (value: string) => string = (value) => value): void => {
    const value = params.get(`g0.${from}`);
    if (value !== null && value !== '') out.set(to, map(value));
  };
  copy('expr', 'expr');
  copy('tab', 'tab', (value) => (value === '1' || value === 'table' ? 'table' : 'graph'));
  copy('step_input', 'step', (value) => `${value}s`);
  const range = params.get('g0.range_input') ?? '1h';
  const end = Date.parse(`${(params.get('g0.end_input') ?? '').replace(' ', 'T')}Z`);
  if (Number.isNaN(end)) {
    out.set('from', `now-${range}`);
  } else {
    const length_ms = parsePromDuration(range) || 3_600_000;
    out.set('from', String(end - length_ms));
    out.set('to', String(end));
  }
  return out;
}

/** A link of Jaeger's search page (`/search?service=…&start=…`); its instants are microseconds. */
function fromJaegerSearch(params: URLSearchParams): URLSearchParams {
  const out = new URLSearchParams();
  for (const key of ['service', 'operation', 'minDuration', 'maxDuration', 'limit']) {
    const value = params.get(key);
    if (value !== null && value !== '' && value !== 'all') out.set(key, value);
  }
  const tags = params.get('tags');
  if (tags !== null) out.set('tags', tagsToLogfmt(tags));
  const lookback = params.get('lookback');
  if (lookback !== null && /^\d+[smhdw]$/.test(lookback)) {
    out.set('from', `now-${lookback}`);
  } else if (params.has('start') && params.has('end')) {
    out.set('from', String(Math.floor(Number(params.get('start')) / 1000)));
    out.set('to', String(Math.ceil(Number(params.get('end')) / 1000)));
  }
  return out;
}

function tagsToLogfmt(json: string): string {
  try {
    const tags = JSON.parse(json) as Record<string, unknown>;
    return Object.entries(tags)
      .map(([key, value]) => (/[\s"=]/.test(String(value)) ? `${key}=${JSON.stringify(String(value))}` : `${key}=${String(value)}`))
      .join(' ');
  } catch {
    return '';
  }
}
