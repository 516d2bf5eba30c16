// The critical path: the pieces of spans that the duration of the trace is made of. Shorten one of
// them and the trace gets shorter; shorten anything else and it does not.
//
// Walks backwards from the end of the root: of the children that ended before the current instant,
// the last one to end is what the parent waited for; between children the parent itself was working.
// The method is the one of "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures"
// (Zhang et al., USENIX ATC 2022). Children that outlive their parent are clipped to it.

import type { TraceTree } from './tree';

/** `[from_us, to_us)` on the row of span `index`, microseconds after the start of the trace. */
export interface CriticalPiece {
  index: number;
  from_us: number;
  to_us: number;
}

export function criticalPath(tree: TraceTree): CriticalPiece[] {
  const root = tree.spans.findIndex((node) => node.parent < 0 && !node.orphan);
  const first = root >= 0 ? root : tree.spans.length > 0 ? 0 : -1;
  if (first < 0) return [];
  const childrenOf = new Map<number, number[]>();
  tree.spans.forEach((node, index) => {
    const siblings = childrenOf.get(node.parent);
    if (siblings) siblings.push(index);
    else childrenOf.set(node.parent, [index]);
  });

  const pieces: CriticalPiece[] = [];
  const stack: { index: number; from_us: number; to_us: number }[] = [];
  const push = (index: number, from_us: number, to_us: number): void => {
    const node = tree.spans[index];
    if (!node) return;
    const clipped = { index, from_us: Math.max(node.offset_us, from_us), to_us: Math.min(node.offset_us + node.duration_us, to_us) };
    if (clipped.to_us > clipped.from_us) stack.push(clipped);
  };
  push(first, 0, Number.POSITIVE_INFINITY);
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { index, from_us } = top;
    let now = top.to_us;
    const endOf = (child: number): number => {
      const node = tree.spans[child];
      return node ? Math.min(node.offset_us + node.duration_us, top.to_us) : 0;
    };
    const children = (childrenOf.get(index) ?? []).slice().sort((a, b) => endOf(b) - endOf(a));
    for (const child of children) {
      const node = tree.spans[child];
      if (!node || endOf(child) > now || endOf(child) <= from_us || node.offset_us >= now) continue;
      const end = endOf(child);
      if (now > end) pieces.push({ index, from_us: end, to_us: now });
      push(child, from_us, end);
      now = Math.max(node.offset_us, from_us);
      if (now <= from_us) break;
    }
    if (now > from_us) pieces.push({ index, from_us, to_us: now });
  }
  return pieces.sort((a, b) => a.from_us - b.from_us || a.index - b.index);
}
