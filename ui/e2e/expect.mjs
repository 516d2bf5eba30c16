// Assertions that name what they looked at, and the moves that many scenarios make.

export function equal(actual, expected, what) {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) throw new Error(`${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(actual)}`);
}

export function ok(condition, what) {
  if (!condition) throw new Error(what);
}

/** Waits until `probe` answers something true; the last answer goes into the message. */
export async function until(probe, what, timeout_ms = 6_000) {
  const end = performance.now() + timeout_ms;
  let last;
  while (performance.now() < end) {
    last = await probe();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`${what}: still ${JSON.stringify(last)} after ${timeout_ms} ms`);
}

/** Types an expression into the editor, replacing what is there. */
export async function typeExpression(page, text) {
  await page.locator('[data-ready=true] .cm-content').click();
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.press('Delete');
  await page.keyboard.insertText(text);
}

/** Number of non-transparent pixels of the chart's canvas: has anything been drawn? */
export function paintedPixels(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector('.chart canvas');
    if (!canvas) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 3; at < data.length; at += 4) if (data[at] > 0) count += 1;
    return count;
  });
}

/** The hash as a person reads it. */
export function hashOf(page) {
  return decodeURIComponent(new URL(page.url()).hash.replaceAll('+', ' '));
}

/** Goes to a place of the application; the document stays when it is loaded already. */
export async function visit(page, url, hash) {
  await page.goto(url + hash);
  await page.waitForSelector('main');
}
