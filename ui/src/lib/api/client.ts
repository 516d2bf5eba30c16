// One way to the server: relative URLs (any path prefix works), the session cookie, errors with the
// server's own words, cancellation. It never retries: a person who sees an error decides that.

/** What went wrong, in words fit for the screen. */
export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 when no answer came at all. */
    readonly status: number,
    message: string,
    /** Prometheus' `errorType`, where the answer had one. */
    readonly kind = '',
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

let unauthorized: () => void = () => undefined;

/** Registers what happens when any answer says that the session is missing or over. */
export function onUnauthorized(callback: () => void): void {
  unauthorized = callback;
}

/** Absolute URL of a path below the place where the UI is mounted. */
export function apiUrl(path: string): string {
  return new URL(path, document.baseURI.replace(/[#?].*$/, '')).toString();
}

export interface RequestOptions {
  signal?: AbortSignal;
  /** Sent as a form, which keeps long queries out of the URL and its length limits. */
  form?: URLSearchParams;
  json?: unknown;
  /** Leaves a 401 to the caller; only the session code needs it. */
  allowUnauthorized?: boolean;
}

export async function send(path: string, options: RequestOptions = {}): Promise<Response> {
  const init: RequestInit = { credentials: 'same-origin', headers: { Accept: 'application/json' } };
  if (options.signal) init.signal = options.signal;
  if (options.form) {
    init.method = 'POST';
    init.body = options.form;
  } else if ('json' in options) {
    init.method = 'POST';
    init.body = JSON.stringify(options.json);
    init.headers = { ...init.headers, 'Content-Type': 'application/json' };
  }
  let response: Response;
  try {
    response = await fetch(apiUrl(path), init);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, 'The server did not answer. Is Pharos running, and can this browser reach it?');
  }
  if (response.status === 401 && !options.allowUnauthorized) unauthorized();
  return response;
}

/** Sends a request and reads its JSON; anything but success becomes an `ApiError`. */
export async function getJson<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const response = await send(path, options);
  const text = await response.text();
  const body = parseBody(text);
  if (!response.ok) throw new ApiError(response.status, errorText(response, body, text), errorKind(body));
  if (body === undefined) {
    throw new ApiError(response.status, `The server answered ${path.split('?')[0]} with something that is not JSON.`);
  }
  return body as T;
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Prometheus says `error`, Jaeger `errors[0].msg`, Jaeger v3 `error.message`; a proxy says whatever it likes. */
function errorText(response: Response, body: unknown, text: string): string {
  if (typeof body === 'object' && body !== null) {
    const fields = body as { error?: unknown; message?: unknown; errors?: unknown };
    if (typeof fields.error === 'string') return fields.error;
    if (typeof fields.error === 'object' && fields.error !== null && 'message' in fields.error) return String(fields.error.message);
    if (Array.isArray(fields.errors) && fields.errors.length > 0) {
      return fields.errors.map((entry: { msg?: unknown }) => String(entry?.msg ?? '')).join('; ');
    }
    if (typeof fields.message === 'string') return fields.message;
  }
  const plain = text.trim();
  if (plain !== '' && plain.length < 400 && !plain.startsWith('<')) return plain;
  switch (response.status) {
    case 401:
      return 'You are not signed in, or the session has ended.';
    case 403:
      return 'This token does not permit that.';
    case 429:
      return 'Too many requests for this tenant. Wait a moment and try again.';
    case 502:
    case 503:
    case 504:
      return 'Pharos is not ready, or a proxy in front of it could not reach it.';
    default:
      return `The server answered ${response.status} ${response.statusText}.`.replace(' .', '.');
  }
}

function errorKind(body: unknown): string {
  return typeof body === 'object' && body !== null && 'errorType' in body ? String(body.errorType) : '';
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** The sentence to show for anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
