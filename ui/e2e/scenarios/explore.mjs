// The metrics page.
import { equal, hashOf, ok, paintedPixels, typeExpression, until, visit } from '../expect.mjs';

const QUANTILE = 'histogram_quantile(0.95, sum by (service, le) (rate(http_server_request_duration_seconds_bucket[5m])))';

export const explore = [
  [
    'the list of metrics offers the first question about each',
    async ({ page, url }) => {
      await visit(page, url, '#/explore');
      await page.fill('[aria-label="Filter metrics"]', 'duration bucket');
      equal(await page.locator('.browser li').count(), 1, 'matching metrics');
      await page.click('.browser .start');
      await page.waitForSelector('.u-over');
      ok(hashOf(page).includes('histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket[5m])))'), hashOf(page));
    },
  ],
  [
    'an expression is typed, completed and run with Ctrl+Enter; the graph is drawn',
    async ({ page, url }) => {
      await visit(page, url, '#/explore');
      await typeExpression(page, 'process_res');
      await page.keyboard.press('Control+Space');
      await page.click('.cm-tooltip-autocomplete >> text=process_resident_memory_bytes');
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('.u-over');
      equal(hashOf(page), '#/explore?expr=process_resident_memory_bytes', 'hash');
      ok((await until(() => paintedPixels(page), 'painted pixels')) > 2000, 'the canvas is nearly empty');
      equal(await page.locator('.legend tbody tr').count(), 5, 'rows of the legend');
      ok(/MiB$/.test(await page.locator('.legend tbody tr >> nth=0 >> td >> nth=1').innerText()), 'bytes are written as MiB');
    },
  ],
  [
    'running a query closes the suggestions, which would cover the result',
    async ({ page, url }) => {
      await visit(page, url, '#/explore');
      await typeExpression(page, 'u');
      await page.keyboard.press('Control+Space');
      await page.waitForSelector('.cm-tooltip-autocomplete');
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('.cm-tooltip-autocomplete', { state: 'detached' });
      await visit(page, url, '#/explore?expr=process_resident_memory_bytes');
      await until(async () => (await page.locator('.legend tbody tr').count()) === 5, 'the legend');
    },
  ],
  [
    'a click in the legend isolates a series and a second one brings all back',
    async ({ page }) => {
      const before = await paintedPixels(page);
      await page.click('.legend tbody tr >> nth=2');
      equal(await page.locator('.legend tr.off').count(), 4, 'series switched off');
      await until(async () => (await paintedPixels(page)) < before, 'fewer lines');
      await page.click('.legend tbody tr >> nth=2');
      equal(await page.locator('.legend tr.off').count(), 0, 'series switched off');
    },
  ],
  [
    'dragging in the graph zooms, the URL carries it and Back undoes it',
    async ({ page }) => {
      const box = await page.locator('.u-over').boundingBox();
      await page.mouse.move(box.x + box.width * 0.3, box.y + 80);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.6, box.y + 90, { steps: 6 });
      await page.mouse.up();
      await until(() => /from=\d{13}&to=\d{13}/.test(hashOf(page)), 'absolute range in the URL');
      const [, from, to] = /from=(\d+)&to=(\d+)/.exec(hashOf(page));
      ok(Math.abs((to - from) / 60_000 - 18) < 1, `zoomed to ${(to - from) / 60_000} minutes of 60 × 0.3`);
      await page.goBack();
      await until(() => !hashOf(page).includes('from='), 'relative range again');
    },
  ],
  [
    'exemplars stand on the graph and lead to their trace',
    async ({ page, url, mock }) => {
      await visit(page, url, `#/explore?expr=${encodeURIComponent(QUANTILE)}`);
      const diamond = page.locator('a.diamond').first();
      await diamond.waitFor();
      await diamond.hover();
      await page.waitForSelector('.card >> text=trace_id');
      await diamond.click();
      await page.waitForSelector('[role=treeitem][aria-selected=true]');
      const id = /#\/trace\/(\w+)/.exec(hashOf(page))[1];
      ok(mock.traces.some((trace) => trace.traceID === id), `trace ${id} is a fixture`);
    },
  ],
  [
    'the table shows the digits of the server and sorts by value',
    async ({ page, url }) => {
      await visit(page, url, '#/explore?expr=process_resident_memory_bytes&tab=table');
      await page.waitForSelector('td.value');
      equal(await page.locator('tbody tr').count(), 5, 'rows');
      await page.click('th.value button');
      const names = await page.locator('td.labels').allInnerTexts();
      ok(names[0].includes('service="payment"'), `largest first, found ${names[0]}`);
    },
  ],
  [
    'a native histogram shows its buckets',
    async ({ page, url }) => {
      await visit(page, url, '#/explore?expr=queue_latency_seconds&tab=table');
      await page.click('summary');
      await page.waitForSelector('.buckets >> text=612');
    },
  ],
  [
    'a parse error shows the words of the server and the spot',
    async ({ page, url }) => {
      await visit(page, url, `#/explore?expr=${encodeURIComponent('sum(rate(up[5m])')}`);
      await page.waitForSelector('[role=alert] >> text=unclosed left parenthesis');
      const [line, caret] = (await page.locator('[role=alert] pre').innerText()).split('\n');
      equal([line, caret.indexOf('^')], ['sum(rate(up[5m])', 16], 'excerpt and caret');
    },
  ],
  [
    'execution errors, annotations and empty results each have their words',
    async ({ page, url }) => {
      await visit(page, url, '#/explore?expr=explode');
      await page.waitForSelector('[role=alert] >> text=too many samples');
      await visit(page, url, `#/explore?expr=${encodeURIComponent('rate(process_resident_memory_bytes[5m])')}`);
      await page.waitForSelector('[role=status] >> text=might not be a counter');
      await visit(page, url, '#/explore?expr=nothing');
      await page.waitForSelector('text=No series match');
      await visit(page, url, '#/explore?expr=up&step=1ms');
      await page.waitForSelector('[role=alert] >> text=the limit is 11,000');
    },
  ],
  [
    'many series are limited until asked for',
    async ({ page, url }) => {
      await visit(page, url, '#/explore?expr=many');
      await page.waitForSelector('text=Showing the first 200 of 260');
      await page.click('text=draw all');
      await until(async () => (await page.locator('.legend tbody tr').count()) === 260, 'all rows');
    },
  ],
  [
    'the range picker sets relative and absolute ranges and refuses nonsense',
    async ({ page, url }) => {
      await visit(page, url, '#/explore?expr=up');
      await page.click('button.when');
      await page.click('.spans >> text=6 hours');
      await until(() => hashOf(page).includes('from=now-6h'), 'six hours');
      await page.click('button.when');
      await page.fill('label:has-text("From") input', 'yesterday');
      await page.click('text=Apply');
      await page.waitForSelector('[role=alert] >> text=Cannot read');
      await page.fill('label:has-text("From") input', '2026-01-31 10:00');
      await page.fill('label:has-text("To") input', '2026-01-31 11:00');
      await page.click('text=Apply');
      const from = Date.UTC(2026, 0, 31, 9);
      await until(() => hashOf(page).includes(`from=${from}&to=${from + 3_600_000}`), 'Berlin winter time');
      await page.click('button.when');
      await page.keyboard.press('Escape');
      equal(await page.locator('[role=dialog]').count(), 0, 'open dialogs after Escape');
    },
  ],
];
