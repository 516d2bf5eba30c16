import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { JaegerReference, JaegerSpan, JaegerTrace } from '../api/jaeger';
import { criticalPath } from './critical';
import { assignSlots, PALETTE_SIZE } from './palette';
import { sortSummaries, summarize } from './summary';
import { timeTicks } from './ticks';
import { ancestorsOf, buildTree, collapseBelow, linksOf, searchSpans, visibleRows } from './tree';

const TRACE = 'aa';

function span(spanID: string, parent: string, startTime: number, duration: number, extra: Partial<JaegerSpan> & { refs?: JaegerReference[] } = {}): JaegerSpan {
  const { refs = [], ...rest } = extra;
  return {
    traceID: TRACE,
    spanID,
    operationName: `op ${spanID}`,
    references: [...(parent === '' ? [] : [{ refType: 'CHILD_OF' as const, traceID: TRACE, spanID: parent }]), ...refs],
    startTime,
    duration,
    tags: [],
    logs: [],
    processID: 'p1',
    ...rest,
  };
}

function trace(...spans: JaegerSpan[]): JaegerTrace {
  return { traceID: TRACE, spans, processes: { p1: { serviceName: 'front', tags: [] }, p2: { serviceName: 'back', tags: [] } }, warnings: null };
}

const ids = (tree: ReturnType<typeof buildTree>): string[] => tree.spans.map((node) => node.spanId);
const failing = { tags: [{ key: 'error', type: 'bool' as const, value: true }] };

describe('the tree of a trace', () => {
  it('T2, T3: stands depth first, siblings by start, whatever the order of the answer', () => {
    const spans = [span('d', 'b', 1030, 5), span('c', 'a', 1050, 10), span('a', '', 1000, 100), span('b', 'a', 1010, 30)];
    for (const order of [spans, spans.slice().reverse()]) {
      const tree = buildTree(trace(...order));
      expect(ids(tree)).toEqual(['a', 'b', 'd', 'c']);
      expect(tree.spans.map((node) => node.depth)).toEqual([0, 1, 2, 1]);
      expect(tree.spans.map((node) => node.subtree)).toEqual([3, 1, 0, 0]);
      expect(tree.spans.map((node) => node.parent)).toEqual([-1, 0, 1, 0]);
      expect(tree).toMatchObject({ start_us: 1000, duration_us: 100, depthMax: 2 });
    }
  });

  it('T1: a missing parent makes a root and is marked', () => {
    const tree = buildTree(trace(span('a', '', 0, 10), span('x', 'gone', 2, 3)));
    expect(ids(tree)).toEqual(['a', 'x']);
    expect(tree.spans[1]).toMatchObject({ orphan: true, depth: 0 });
  });

  it('T1: cycles and self references lose no span', () => {
    const tree = buildTree(trace(span('a', 'b', 5, 1), span('b', 'a', 3, 1), span('s', 's', 1, 1)));
    expect(ids(tree).sort()).toEqual(['a', 'b', 's']);
  });

  it('T1: equal span ids (a client and server pair) both stay', () => {
    expect(buildTree(trace(span('a', '', 0, 10), span('a', '', 1, 8))).spans).toHaveLength(2);
  });

  it('is not limited by the call stack', () => {
    const spans = Array.from({ length: 20_000 }, (_, at) => span(`s${at}`, at === 0 ? '' : `s${at - 1}`, at, 1));
    expect(buildTree(trace(...spans)).depthMax).toBe(19_999);
  });

  it('an empty answer is an empty tree', () => {
    expect(buildTree(trace())).toMatchObject({ spans: [], start_us: 0, duration_us: 0 });
  });

  it('takes overlapping children once from the time of their own', () => {
    const tree = buildTree(trace(span('a', '', 0, 100), span('b', 'a', 10, 30), span('c', 'a', 20, 40), span('d', 'a', 90, 50)));
    expect(tree.spans[0]?.self_us).toBe(100 - 50 - 10);
  });

  it('knows failures and carries them up to folded rows', () => {
    const tree = buildTree(trace(span('a', '', 0, 10), span('b', 'a', 1, 5), span('c', 'b', 2, 1, failing)));
    expect(tree.errorCount).toBe(1);
    expect(tree.spans.map((node) => [node.error, node.errorBelow])).toEqual([
      [false, true],
      [false, true],
      [true, false],
    ]);
  });

  it('tells links from the parent', () => {
    const elsewhere = { refType: 'FOLLOWS_FROM' as const, traceID: 'bb', spanID: '1' };
    const linked = span('b', 'a', 0, 1, { refs: [elsewhere] });
    expect(linksOf(linked)).toEqual([elsewhere]);
    expect(buildTree(trace(span('a', '', 0, 1), linked)).spans[1]?.parent).toBe(0);
  });

  it('folds and unfolds', () => {
    const tree = buildTree(trace(span('a', '', 0, 10), span('b', 'a', 1, 5), span('c', 'b', 2, 1), span('d', 'a', 7, 1)));
    expect(visibleRows(tree, new Set())).toEqual([0, 1, 2, 3]);
    expect(visibleRows(tree, new Set(['b']))).toEqual([0, 1, 3]);
    expect(visibleRows(tree, collapseBelow(tree, 0))).toEqual([0]);
    expect(ancestorsOf(tree, 2)).toEqual(['b', 'a']);
  });

  it('finds words in names, tags and events', () => {
    const tree = buildTree(
      trace(
        span('a', '', 0, 10, { tags: [{ key: 'db.system', type: 'string', value: 'PostgreSQL' }] }),
        span('b', 'a', 1, 5, { processID: 'p2', logs: [{ timestamp: 2, fields: [{ key: 'event', type: 'string', value: 'cache miss' }] }] }),
      ),
    );
    expect(searchSpans(tree, 'postgresql')).toEqual([0]);
    expect(searchSpans(tree, 'back miss')).toEqual([1]);
    expect(searchSpans(tree, 'nothing')).toEqual([]);
    expect(searchSpans(tree, '  ')).toEqual([]);
  });
});

describe('the critical path', () => {
  const path = (...spans: JaegerSpan[]): [string, number, number][] => {
    const tree = buildTree(trace(...spans));
    return criticalPath(tree).map((piece) => [tree.spans[piece.index]?.spanId ?? '', piece.from_us, piece.to_us]);
  };

  it('goes through the child that ended last', () => {
    expect(path(span('a', '', 0, 100), span('fast', 'a', 10, 20), span('slow', 'a', 10, 60))).toEqual([
      ['a', 0, 10],
      ['slow', 10, 70],
      ['a', 70, 100],
    ]);
  });

  it('goes through children one after the other', () => {
    expect(path(span('a', '', 0, 100), span('b', 'a', 10, 30), span('c', 'a', 50, 40), span('d', 'c', 60, 10))).toEqual([
      ['a', 0, 10],
      ['b', 10, 40],
      ['a', 40, 50],
      ['c', 50, 60],
      ['d', 60, 70],
      ['c', 70, 90],
      ['a', 90, 100],
    ]);
  });

  it('covers the root exactly once, whatever the children do', () => {
    const pieces = path(span('a', '', 0, 100), span('late', 'a', 80, 500), span('early', 'a', -50, 60), span('x', 'early', -40, 45));
    const covered = pieces.map(([, from, to]) => [from, to] as const);
    expect(covered[0]?.[0]).toBeLessThanOrEqual(50);
    for (let at = 1; at < covered.length; at += 1) expect(covered[at]?.[0]).toBe(covered[at - 1]?.[1]);
  });
});

describe('summaries', () => {
  const one = trace(span('a', '', 1000, 50), span('b', 'a', 1010, 80, { processID: 'p2', ...failing }), span('o', 'gone', 990, 5));

  it('name the root, not the earliest orphan', () => {
    expect(summarize(one)).toMatchObject({
      rootService: 'front',
      rootOperation: 'op a',
      start_us: 990,
      duration_us: 100,
      spanCount: 3,
      errorCount: 1,
      orphanCount: 1,
      services: [
        { name: 'front', spanCount: 2, errorCount: 0 },
        { name: 'back', spanCount: 1, errorCount: 1 },
      ],
    });
  });

  it('sort without touching the original', () => {
    const list = [1, 3, 2].map((size) => ({ ...summarize(one), traceId: String(size), start_us: size, duration_us: -size }));
    expect(sortSummaries(list, 'newest').map((entry) => entry.traceId)).toEqual(['3', '2', '1']);
    expect(sortSummaries(list, 'longest').map((entry) => entry.traceId)).toEqual(['1', '2', '3']);
    expect(list.map((entry) => entry.traceId)).toEqual(['1', '3', '2']);
  });
});

describe('colours', () => {
  it('are distinct while there are enough, and independent of order', () => {
    const names = Array.from({ length: PALETTE_SIZE }, (_, at) => `service-${at}`);
    const slots = assignSlots(names);
    expect(new Set(slots.values()).size).toBe(PALETTE_SIZE);
    expect(assignSlots(names.slice().reverse())).toEqual(slots);
    expect(assignSlots([...names, 'one more']).size).toBe(PALETTE_SIZE + 1);
  });

  it('are the same for the system theme and for the toggle', () => {
    const css = readFileSync(new URL('../../app.css', import.meta.url), 'utf8');
    const block = (start: string): string[] => {
      const from = css.indexOf(start);
      expect(from).toBeGreaterThan(0);
      return css
        .slice(css.indexOf('{', from) + 1, css.indexOf('}', from))
        .split(';')
        .map((line) => line.trim())
        .filter(Boolean);
    };
    expect(block(":root[data-theme='dark']")).toEqual(block(":root:not([data-theme='light'])"));
  });
});

describe('ticks', () => {
  it.each([
    [0, 241_000, 5, [0, 50_000, 100_000, 150_000, 200_000]],
    [0, 1, 2, [0, 0.5, 1]],
    [1_500_000, 9_000_000, 4, [2_000_000, 4_000_000, 6_000_000, 8_000_000]],
    [0, 7_200e6, 4, [0, 1_800e6, 3_600e6, 5_400e6, 7_200e6]],
    [5, 5, 3, [5]],
  ])('%d to %d in %d', (from, to, count, ticks) => expect(timeTicks(from, to, count)).toEqual(ticks));
});
