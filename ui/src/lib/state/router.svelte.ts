// The current route, kept equal to `location.hash`.

import { parseHash, type Route } from '../route';

const current = $state<{ route: Route }>({ route: parseHash(location.hash) });

window.addEventListener('hashchange', () => {
  current.route = parseHash(location.hash);
});

export const router = {
  get route(): Route {
    return current.route;
  },
  /** Goes to `hash`. With `replace` no history entry is made: for what the Back button should skip. */
  go(hash: string, replace = false): void {
    if (hash === location.hash) return;
    if (replace) {
      history.replaceState(null, '', hash);
      current.route = parseHash(hash);
    } else {
      location.hash = hash;
    }
  },
};
