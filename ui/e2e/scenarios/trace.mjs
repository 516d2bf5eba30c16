// One trace as a waterfall.
import { equal, hashOf, ok, visit } from '../expect.mjs';

const failedCheckout = (mock) => mock.traces.find((trace) => trace.spans.length < 100 && trace.spans.some((span) => span.operationName === 'Charge' && span.tags.some((tag) => tag.key === 'error')));

export const trace = [
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
      await page.keyboard.press('Home');
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
      await page.waitForSelector('.hits >> text=/1 of [0-9]/');
    },
  ],
  [
    'the page follows its URL: to another span, back again, and without asking the server anew',
    async ({ page, url, mock }) => {
      const trace = failedCheckout(mock);
      const [root, edge] = trace.spans;
      let asked = 0;
      const count = (request) => (asked += request.url().includes('/api/traces/') ? 1 : 0);
      await visit(page, url, `#/traces`);
      page.on('request', count);
      await visit(page, url, `#/trace/${trace.traceID}?span=${root.spanID}`);
      await page.waitForSelector(`[data-span="${root.spanID}"][aria-selected=true]`);
      await visit(page, url, `#/trace/${trace.traceID}?span=${edge.spanID}&q=stock`);
      await page.waitForSelector(`[data-span="${edge.spanID}"][aria-selected=true]`);
      equal(await page.inputValue('[aria-label="Search in this trace"]'), 'stock', 'search text');
      await page.goBack();
      await page.waitForSelector(`[data-span="${root.spanID}"][aria-selected=true]`);
      await page.fill('[aria-label="Search in this trace"]', 'acme-pay');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.hits >> text=/1 of [0-9]/');
      page.off('request', count);
      equal(asked, 1, 'requests for the trace');
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
];
