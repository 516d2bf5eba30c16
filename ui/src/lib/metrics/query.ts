// The state of the metrics page as the URL holds it, and how one run of it is fetched.

import { queryExemplars, queryInstant, queryRange, type Answer, type QueryData } from '../api/prometheus';
import { UNIT_NAMES, type Unit } from '../format/number';
import { toHash } from '../route';
import { alignRange, chooseStep, DEFAULT_RANGE, resolveRange, type Range, type RangeText } from '../timerange';
import { thinExemplars, type ExemplarPoint } from './exemplars';
import { toPlotData, type PlotData } from './series';

export type Tab = 'graph' | 'table';

export interface ExploreState {
  expr: string;
  range: RangeText;
  tab: Tab;
  /** Step as typed; empty means automatic. */
  step: string;
  unit: Unit | 'auto';
  stacked: boolean;
  exemplars: boolean;
  /** Seconds between automatic refreshes, 0 for none. */
  refresh_s: number;
}

export const REFRESH_CHOICES_S = [0, 5, 15, 30, 60, 300] as const;

export function parseExplore(params: URLSearchParams): ExploreState {
  const unit = params.get('unit');
  const refresh_s = Number(params.get('refresh') ?? 0);
  return {
    expr: params.get('expr') ?? '',
    range: { from: params.get('from') ?? DEFAULT_RANGE.from, to: params.get('to') ?? DEFAULT_RANGE.to },
    tab: params.get('tab') === 'table' ? 'table' : 'graph',
    step: params.get('step') ?? '',
    unit: UNIT_NAMES.find(([name]) => name === unit)?.[0] ?? 'auto',
    stacked: params.get('stacked') === '1',
    exemplars: params.get('exemplars') !== '0',
    refresh_s: REFRESH_CHOICES_S.find((choice) => choice === refresh_s) ?? 0,
  };
}

/** The URL of a state; defaults are left out. */
export function exploreHash(state: ExploreState): string {
  return toHash('explore', {
    expr: state.expr,
    from: state.range.from === DEFAULT_RANGE.from ? '' : state.range.from,
    to: state.range.to === DEFAULT_RANGE.to ? '' : state.range.to,
    tab: state.tab === 'graph' ? '' : state.tab,
    step: state.step,
    unit: state.unit === 'auto' ? '' : state.unit,
    stacked: state.stacked ? '1' : '',
    exemplars: state.exemplars ? '' : '0',
    refresh: state.refresh_s === 0 ? '' : String(state.refresh_s),
  });
}

export interface GraphResult {
  kind: 'graph';
  plot: PlotData;
  exemplars: ExemplarPoint[];
  range: Range;
  step_ms: number;
}

export interface TableResult {
  kind: 'table';
  data: QueryData;
  time_ms: number;
}

export interface RunResult {
  expr: string;
  result: GraphResult | TableResult;
  warnings: string[];
  infos: string[];
  took_ms: number;
}

const EXEMPLAR_SLOTS = 60;

/** Runs the query of `state`. Throws the server's error, or one with a sentence about the range or step. */
export async function runQuery(state: ExploreState, now_ms: number, signal: AbortSignal): Promise<RunResult> {
  const asked = resolveRange(state.range, now_ms);
  if (!asked) throw new Error('The time range in the URL cannot be read. Choose one with the range button.');
  const started = performance.now();
  const finish = ({ warnings, infos }: Answer<unknown>, result: GraphResult | TableResult): RunResult => ({
    expr: state.expr,
    result,
    warnings,
    infos,
    took_ms: performance.now() - started,
  });

  if (state.tab === 'table') {
    const answer = await queryInstant(state.expr, asked.to_ms, signal);
    return finish(answer, { kind: 'table', data: answer.data, time_ms: asked.to_ms });
  }
  const choice = chooseStep(state.step, asked);
  if ('problem' in choice) throw new Error(choice.problem);
  const range = alignRange(asked, choice.step_ms);
  // Exemplars are a bonus: a server without them, or an expression they do not fit, must not hide the graph.
  const [answer, exemplars] = await Promise.all([
    queryRange(state.expr, range, choice.step_ms, signal),
    state.exemplars ? queryExemplars(state.expr, range, signal).catch(() => []) : [],
  ]);
  if (answer.data.resultType !== 'matrix') throw new Error(`A range query answered a ${answer.data.resultType}, not a matrix.`);
  return finish(answer, {
    kind: 'graph',
    plot: toPlotData(answer.data.result, range, choice.step_ms),
    exemplars: thinExemplars(exemplars, range, EXEMPLAR_SLOTS),
    range,
    step_ms: choice.step_ms,
  });
}
