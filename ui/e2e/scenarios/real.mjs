// A walk through a real Pharos that holds some metrics and traces: it asks the server what there is and uses that.
import { equal, ok, paintedPixels, typeExpression, until } from '../expect.mjs';

const api = (page, path) => page.evaluate(async (path) => (await fetch(path)).json(), path);

export const realScenarios = [
  [
    'signs in with the token',
    async ({ page, url, token }) => {
      const response = await page.goto(url);
      ok((response.headers()['content-security-policy'] ?? '').includes("script-src 'self'"), 'the page has a strict policy');
      await page.waitForSelector('#token, footer');
      if (await page.locator('#token').count()) {
        await page.fill('#token', token);
        await page.keyboard.press('Enter');
      }
      await page.waitForSelector('footer >> text=/Pharos \\d/');
    },
  ],
  [
    'lists metrics and draws one of them',
    async ({ page, url }) => {
      await page.goto(`${url}#/explore`);
      await page.waitForSelector('.browser li');
      // The list holds what has samples in the range on show; the API alone would name older metrics too.
      const names = await page.locator('.browser .name').allInnerTexts();
      const name = names.includes('up') ? 'up' : names.find((known) => /_total$/.test(known)) ?? names.find((known) => !/_bucket$/.test(known)) ?? names[0];
      ok(name, 'the server knows a metric');
      await typeExpression(page, /_total$/.test(name) ? `rate(${name}[5m])` : name);
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('.legend tbody tr');
      ok((await until(() => paintedPixels(page), 'painted pixels')) > 500, 'the canvas is nearly empty');
      await page.click('[role=tab] >> text=Table');
      await page.waitForSelector('td.value');
    },
  ],
  [
    'shows the words and the spot of a parse error',
    async ({ page }) => {
      await typeExpression(page, 'sum(rate(up[5m])');
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('[role=alert] >> text=parse error');
      await page.waitForSelector('[role=alert] pre >> text=^');
    },
  ],
  [
    'finds traces and opens one',
    async ({ page, url }) => {
      await page.goto(`${url}#/traces`);
      await page.waitForSelector('.list li');
      await page.click('.list li a >> nth=0');
      await page.waitForSelector('[role=treeitem]');
      const id = /#\/trace\/(\w+)/.exec(page.url())[1];
      const trace = (await api(page, `api/traces/${id}`)).data[0];
      const shown = await page.locator('.facts').first().innerText();
      ok(shown.replaceAll(',', '').includes(`${trace.spans.length} span`), `the head tells ${trace.spans.length} spans: ${shown}`);
    },
  ],
  [
    'shows the details of a span and links to it',
    async ({ page }) => {
      await page.click('[role=treeitem] >> nth=0');
      await page.waitForSelector('aside >> text=service.name');
      await until(() => /span=\w+/.test(page.url()), 'the span in the URL');
      await page.reload();
      await page.waitForSelector('[role=treeitem][aria-selected=true]');
    },
  ],
  [
    'searches by service and operation',
    async ({ page, url }) => {
      await page.goto(`${url}#/traces`);
      await page.waitForSelector('.list li');
      const service = (await api(page, 'api/services')).data[0];
      await page.fill('#service', service);
      const [response] = await Promise.all([page.waitForResponse((response) => response.url().includes('api/traces?service=')), page.click('text=Find traces')]);
      const { data, errors } = await response.json();
      ok(!errors, `the search answers errors: ${JSON.stringify(errors)}`);
      ok(data.length > 0 && data.every((trace) => Object.values(trace.processes).some((process) => process.serviceName === service)), `only traces of ${service}`);
      await until(async () => (await page.locator('.list li').count()) === data.length, `${data.length} rows`);
    },
  ],
  [
    'moves links of the replaced pages',
    async ({ page, url }) => {
      await page.goto(`${url}graph?g0.expr=up&g0.tab=1`);
      await until(() => page.url().includes('#/graph?g0.expr=up'), 'the link of Prometheus');
      await page.waitForSelector('[role=tab][aria-selected=true] >> text=Table');
      equal(new URL(page.url()).pathname, new URL(url).pathname, 'path');
    },
  ],
];
