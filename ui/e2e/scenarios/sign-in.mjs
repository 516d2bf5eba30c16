// Coming in: the login page, its refusals, what a browser keeps.
import { equal, hashOf, ok } from '../expect.mjs';
import { CONTENT_SECURITY_POLICY, TOKEN } from '../mock-server.mjs';

export const signIn = [
  [
    'a visitor without a session gets the login page, below a path prefix and under the strict policy',
    async ({ page, url }) => {
      const response = await page.goto(`${url}#/explore?expr=up`);
      equal(response.headers()['content-security-policy'], CONTENT_SECURITY_POLICY, 'policy');
      await page.waitForSelector('text=Sign in to Pharos');
      equal(await page.locator('#token').getAttribute('type'), 'password', 'type of the token field');
    },
  ],
  [
    'a wrong token is refused in words',
    async ({ page }) => {
      await page.fill('#token', 'wrong');
      await page.keyboard.press('Enter');
      await page.waitForSelector('[role=alert] >> text=does not know this token');
    },
  ],
  [
    'the right token leads to where the visitor wanted to go and stays out of the page',
    async ({ page, mock }) => {
      await page.fill('#token', TOKEN);
      await page.click('text=Sign in >> nth=-1');
      await page.waitForSelector('.u-over');
      equal(hashOf(page), '#/explore?expr=up', 'hash');
      await page.waitForSelector('footer >> text=Pharos 0.1.0');
      const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
      ok(!kept.includes(TOKEN) && !kept.includes('pharos_session'), `secrets are in reach of scripts: ${kept}`);
      ok(mock.traces.length > 0, 'fixtures');
    },
  ],
];
