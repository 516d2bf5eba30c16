// What is around the pages: addresses, theme, keys, the end of a session. Comes last, because it signs out.
import { equal, hashOf, ok, until, visit } from '../expect.mjs';
import { TOKEN } from '../mock-server.mjs';

export const around = [
  [
    'an unknown trace and an unknown page say so',
    async ({ page, url }) => {
      await visit(page, url, '#/trace/00000000000000000000000000000001');
      await page.waitForSelector('text=This trace is not here');
      await visit(page, url, '#/nowhere');
      await page.waitForSelector('text=There is no such page');
    },
  ],
  [
    'a trace id pasted into the field in the header opens the trace',
    async ({ page, mock }) => {
      const trace = mock.traces[3];
      await page.fill('[aria-label="Trace id"]', 'no id');
      await page.keyboard.press('Enter');
      equal(await page.locator('[aria-label="Trace id"]').getAttribute('aria-invalid'), 'true', 'invalid mark');
      await page.fill('[aria-label="Trace id"]', ` https://other/trace/${trace.traceID.toUpperCase()} `);
      await page.keyboard.press('Enter');
      await page.waitForSelector('[role=treeitem]');
      ok(hashOf(page).startsWith(`#/trace/${trace.traceID}`), hashOf(page));
    },
  ],
  [
    'the theme follows the toggle and is remembered',
    async ({ page }) => {
      const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await background();
      await page.click('[aria-label^="Theme"]');
      await page.click('[aria-label^="Theme"]');
      await until(async () => (await background()) !== light, 'another background');
      const dark = await background();
      await page.reload();
      await page.waitForSelector('[aria-label="Theme: dark"]');
      equal(await background(), dark, 'background after a reload');
      await page.click('[aria-label^="Theme"]');
      equal(await background(), light, 'background with the system theme');
    },
  ],
  [
    'keys lead between pages and to their list',
    async ({ page, url }) => {
      await visit(page, url, '#/traces');
      await page.waitForSelector('.list li');
      await page.keyboard.press('g');
      await page.keyboard.press('m');
      await until(() => hashOf(page).startsWith('#/explore'), 'metrics page');
      await page.keyboard.press('?');
      await page.waitForSelector('dialog[open]');
      await page.keyboard.press('Escape');
      await page.waitForSelector('dialog', { state: 'detached' });
    },
  ],
  [
    'a session that ends leads to the login and back to the same place',
    async ({ page, url, mock }) => {
      await visit(page, url, '#/explore?expr=up&tab=table');
      await page.waitForSelector('td.value');
      mock.endSessions();
      await page.click('[aria-label="Refresh"]');
      await page.waitForSelector('text=Your session has ended');
      await page.fill('#token', TOKEN);
      await page.keyboard.press('Enter');
      await page.waitForSelector('td.value');
      equal(hashOf(page), '#/explore?expr=up&tab=table', 'hash');
    },
  ],
  [
    'signing out ends the session',
    async ({ page }) => {
      await page.click('text=on-call');
      await page.click('text=Sign out');
      await page.waitForSelector('#token');
      await page.reload();
      await page.waitForSelector('#token');
    },
  ],
  [
    'without authentication nobody is asked for a token',
    async ({ page, url, mock }) => {
      mock.options.auth = 'off';
      await page.goto('about:blank');
      await visit(page, url, '#/explore?expr=up');
      await page.waitForSelector('footer >> text=no authentication');
      equal(await page.locator('.account').count(), 0, 'account menus');
    },
  ],
];
