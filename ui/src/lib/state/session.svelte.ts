// Who is signed in. The token goes to the server once and is never kept here: what stays is an
// HttpOnly cookie that no script can read.

import { ApiError, getJson, messageOf, onUnauthorized, send } from '../api/client';

export interface Session {
  name: string;
  scopes: string[];
  tenant: string;
  auth: 'on' | 'off';
}

type Phase = 'checking' | 'signed-out' | 'signed-in' | 'unreachable';

const state = $state<{ phase: Phase; session: Session | null; problem: string; ended: boolean }>({
  phase: 'checking',
  session: null,
  problem: '',
  ended: false,
});

onUnauthorized(() => {
  // Several requests may fail at once; the first one to say so wins.
  if (state.phase !== 'signed-in') return;
  state.ended = true;
  state.session = null;
  state.phase = 'signed-out';
});

export const session = {
  get phase(): Phase {
    return state.phase;
  },
  get current(): Session | null {
    return state.session;
  },
  get problem(): string {
    return state.problem;
  },
  /** True when the login page shows because a session ended, and not because none began. */
  get ended(): boolean {
    return state.ended;
  },
  /** True unless the server told the scopes and this one is not among them. */
  may(scope: string): boolean {
    const scopes = state.session?.scopes ?? [];
    return scopes.length === 0 || scopes.includes(scope) || scopes.includes('admin');
  },

  /** Asks the server who we are. */
  async check(): Promise<void> {
    state.problem = '';
    try {
      state.session = await getJson<Session>('auth/session', { allowUnauthorized: true });
      state.phase = 'signed-in';
      state.ended = false;
    } catch (error) {
      state.session = null;
      if (error instanceof ApiError && error.status === 401) {
        state.phase = 'signed-out';
      } else if (error instanceof ApiError && error.status === 404) {
        // A server without sessions: whatever it demands, its answers will say.
        state.phase = 'signed-in';
      } else {
        state.problem = messageOf(error);
        state.phase = 'unreachable';
      }
    }
  },

  /** Trades a token for a session. Answers the sentence to show when it did not work, or the empty string. */
  async signIn(token: string): Promise<string> {
    try {
      const response = await send('auth/login', { json: { token }, allowUnauthorized: true });
      if (response.status === 401 || response.status === 403) return 'Pharos does not know this token, or it has expired.';
      if (response.status === 429) return 'Too many attempts. Wait a moment and try again.';
      if (!response.ok) return `Signing in failed: the server answered ${response.status}.`;
    } catch (error) {
      return messageOf(error);
    }
    await session.check();
    if (state.phase === 'signed-in') return '';
    return state.problem || 'The token was accepted, but the browser did not keep the session cookie. Are cookies blocked for this site?';
  },

  async signOut(): Promise<void> {
    try {
      await send('auth/logout', { json: {}, allowUnauthorized: true });
    } finally {
      state.session = null;
      state.ended = false;
      state.phase = 'signed-out';
    }
  },
};
