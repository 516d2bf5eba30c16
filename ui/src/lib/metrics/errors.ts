// Where in a query the server's complaint points.

export interface QueryPosition {
  /** 1-based, as the server counts. */
  line: number;
  column: number;
}

/** Finds `line:column` in a parse error ("1:5: parse error: …") or an annotation ("… (1:5)"). */
export function errorPosition(message: string): QueryPosition | null {
  const match = /(?:^|[\s"])(\d+):(\d+): parse error/.exec(message) ?? /\((\d+):(\d+)\)$/.exec(message);
  if (!match) return null;
  return { line: Number(match[1]), column: Number(match[2]) };
}

/** The line the position is on, cut around the spot, and the offset of the spot in that cut. */
export function excerpt(query: string, position: QueryPosition, width = 80): { text: string; offset: number } | null {
  const line = query.split('\n')[position.line - 1];
  if (line === undefined) return null;
  const spot = Math.min(Math.max(0, position.column - 1), line.length);
  if (line.length <= width) return { text: line, offset: spot };
  const from = Math.max(0, Math.min(spot - Math.floor(width / 2), line.length - width));
  return { text: `${from > 0 ? '…' : ''}${line.slice(from, from + width)}…`, offset: spot - from + (from > 0 ? 1 : 0) };
}
