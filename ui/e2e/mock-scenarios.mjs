// What must work, step by step, against the mock server.
import { equal, ok, paintedPixels, typeExpression, until } from './expect.mjs';
import { CONTENT_SECURITY_POLICY, TOKEN } from './mock-server.mjs';

const hashOf = (page) => decodeURIComponent(new URL(page.url()).hash.replaceAll('+', ' '));
const visit = async (page, url, hash) => {
  await page.goto(url + hash);
  await page.waitForSelector('main');
};
const QUANTILE = 'histogram_quantile(0.95, sum by (service, le) (rate(http_server_request_duration_seconds_bucket[5m])))';
const failedCheckout = (mock) => mock.traces.find((trace) => trace.spans.length < 100 && trace.spans.some((span) => span.operationName === 'Charge' && span.tags.some((tag) => tag.key === 'error')));

export const mockScenarios = [
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
  [
    'a trace opens from the list as a waterfall',
    async ({ page, url, mock }) => {
      await visit(page, url, '#/traces?tags=error%3Dtrue&service=payment');
      await page.click('.list li a >> nth=0');
      await page.waitForSelector('[role=tree]');
      const id = /#\/trace\/(\w+)/.exec(hashOf(page))[1];
      const trace = mock.traces.find((known) => known.traceID === id);
      equal(await page.locator('[role=treeitem]').count(), trace.spans.length, 'rows');
      equal(await page.locator('[role=treeitem] .alert').count(), trace.spans.filter((span) => span.tags.some((tag) => tag.key === 'error')).length, 'error marks');
      ok((await page.locator('.critical').count()) > 3, 'pieces of the critical path');
    },
  ],
  [
    'a click on a span shows its details; the URL leads back to it',
    async ({ page, url, mock }) => {
      const trace = failedCheckout(mock);
      const charge = trace.spans.find((span) => span.operationName === 'Charge');
      await visit(page, url, `#/trace/${trace.traceID}`);
      await page.click(`[data-span="${charge.spanID}"]`);
      await page.waitForSelector('aside >> text=card declined: insufficient funds');
      for (const text of ['payment.provider', 'acme-pay', 'CardDeclined', 'k8s.pod.name', charge.spanID]) {
        ok((await page.locator('aside').innerText()).includes(text), `the details name ${text}`);
      }
      const shift = charge.logs[0].timestamp - charge.startTime;
      ok(shift > 0 && (await page.locator('.event .when >> nth=0').innerText()).startsWith('+'), 'events have relative times');
      ok(hashOf(page).includes(`span=${charge.spanID}`), 'the span is in the URL');
      await page.reload();
      await page.waitForSelector(`[data-span="${charge.spanID}"][aria-selected=true]`);
      await page.waitForSelector('aside');
      await page.click('[aria-label="Copy the span id"]');
      equal(await page.evaluate(() => navigator.clipboard.readText()), charge.spanID, 'clipboard');
    },
  ],
  [
    'the waterfall is worked with keys alone',
    async ({ page, url, mock }) => {
      const trace = failedCheckout(mock);
      await visit(page, url, `#/trace/${trace.traceID}`);
      await page.waitForSelector('[role=treeitem]');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowLeft');
      equal(await page.locator('[role=treeitem]').count(), 1, 'rows after folding the root');
      equal(await page.locator('[role=treeitem]').getAttribute('aria-expanded'), 'false', 'state of the root');
      await page.keyboard.press('ArrowRight');
      equal(await page.locator('[role=treeitem]').count(), trace.spans.length, 'rows after unfolding');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await page.waitForSelector('aside >> text=gateway');
      await page.keyboard.press('Escape');
      equal(await page.locator('aside').count(), 0, 'details after Escape');
      await page.keyboard.press('/');
      await page.keyboard.type('acme-pay');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.hits >> text=/1 of \\d/');
    },
  ],
  [
    'dragging the strip zooms and Escape shows all again',
    async ({ page, url, mock }) => {
      await visit(page, url, `#/trace/${failedCheckout(mock).traceID}`);
      const box = await page.locator('.strip').boundingBox();
      const wide = await page.locator('.bar >> nth=4').boundingBox();
      await page.mouse.move(box.x + box.width * 0.0, box.y + 20);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.25, box.y + 20, { steps: 4 });
      await page.mouse.up();
      await page.waitForSelector('text=Show all');
      const zoomed = await page.locator('.bar >> nth=4').boundingBox();
      ok(zoomed.width > wide.width * 1.5, `a bar grows from ${wide.width} to ${zoomed.width}`);
      await page.keyboard.press('Escape');
      await page.waitForSelector('text=Show all', { state: 'detached' });
    },
  ],
  [
    'thousands of spans stay quick: only rows in view are in the document',
    async ({ page, url, mock }) => {
      const trace = mock.traces.find((known) => known.spans.length > 1000);
      await visit(page, url, `#/trace/${trace.traceID}`);
      await page.waitForSelector('[role=treeitem]');
      ok((await page.locator('[role=treeitem]').count()) < 80, 'rows in the document');
      await page.locator('[role=tree]').evaluate((tree) => (tree.scrollTop = tree.scrollHeight));
      await page.waitForSelector(`#span-${trace.spans.length - 1}`);
      await page.keyboard.press('Home');
      await page.waitForSelector('#span-0[aria-selected=true]');
      await page.click('[aria-label="Fold all"]');
      // The root and its sixty batches, twenty-five pixels each.
      equal(await page.locator('.canvas').evaluate((canvas) => canvas.offsetHeight), 61 * 25, 'height after folding the batches');
    },
  ],
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
