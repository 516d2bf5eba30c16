// Tag filters in logfmt: `http.status_code=500 error=true message="not found"`. A bare key means `key=true`.

export interface Tag {
  key: string;
  value: string;
}

export type ParsedTags = { tags: Tag[] } | { problem: string };

const WORD = /\s*([^\s="]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*)))?(?=\s|$)/y;

/** Parses a filter. Later keys win over earlier equal ones, as in a JSON object. */
export function parseLogfmt(text: string): ParsedTags {
  const found = new Map<string, string>();
  let position = 0;
  const end = text.trimEnd().length;
  while (position < end) {
    WORD.lastIndex = position;
    const match = WORD.exec(text);
    if (!match) {
      const rest = text.slice(position).trim();
      return { problem: `Cannot read the tags from “${rest}” on. Write key=value pairs, with quotes around values that hold spaces.` };
    }
    const [, key = '', quoted, plain] = match;
    const value = quoted !== undefined ? quoted.replace(/\\(.)/g, '$1') : (plain ?? 'true');
    found.set(key, value);
    position = WORD.lastIndex;
  }
  return { tags: [...found].map(([key, value]) => ({ key, value })) };
}

/** Writes one pair so that `parseLogfmt` reads it back. */
export function formatTag({ key, value }: Tag): string {
  return /[\s"\\]/.test(value) || value === '' ? `${key}="${value.replace(/["\\]/g, '\\$&')}"` : `${key}=${value}`;
}
