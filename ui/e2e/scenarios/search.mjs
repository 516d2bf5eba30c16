// The search for traces.
import { equal, hashOf, until, visit } from '../expect.mjs';

export const search = [
  [
    'recent traces are found without any condition; order is part of the URL',
    async ({ page, url }) => {
      await visit(page, url, '#/traces');
      await page.waitForSelector('.list li');
      equal(await page.locator('.list li').count(), 20, 'traces');
      equal(await page.locator('.scatter circle').count(), 20, 'dots');
      await page.selectOption('header select', 'longest');
      await until(() => hashOf(page).includes('sort=longest'), 'order in the URL');
    },
  ],
  [
    'a search by service, operation, tag and duration',
    async ({ page }) => {
      await page.fill('#service', 'paym');
      await page.click('[role=option] >> text=payment');
      await page.click('#operation');
      await page.click('[role=option] >> text=Charge');
      await page.fill('#tags', 'error=true');
      await page.fill('[placeholder="100ms"]', '10ms');
      await page.click('text=Find traces');
      await until(() => hashOf(page).includes('service=payment&operation=Charge&tags=error=true&minDuration=10ms'), 'search in the URL');
      await until(async () => {
        const rows = await page.locator('.list li').allInnerTexts();
        return rows.length > 0 && rows.length < 20 && rows.every((row) => /error/.test(row));
      }, 'only failed traces');
    },
  ],
  [
    'faults of the form are named at their field, nothing is sent',
    async ({ page }) => {
      const before = hashOf(page);
      await page.fill('#tags', 'a="open');
      await page.fill('[placeholder="100ms"]', '5');
      await page.click('text=Find traces');
      await page.waitForSelector('text=Cannot read the tags');
      await page.waitForSelector('text=Write a duration such as');
      equal(hashOf(page), before, 'hash');
    },
  ],
  [
    'no result and a failing search say what to do',
    async ({ page, url, mock }) => {
      await visit(page, url, '#/traces?service=cart&minDuration=10h');
      await page.waitForSelector('text=No traces found');
      mock.options.failSearch = true;
      await visit(page, url, '#/traces?service=cart');
      await page.waitForSelector('[role=alert] >> text=the search index is rebuilding: 42% done');
      mock.options.failSearch = false;
    },
  ],
];
