// Times how long the page of a large folder takes: node rows.mjs LINK PAGE FIRST LAST ENTRIES
// LINK lets in and is fetched without being shown; PAGE is navigated to then, in a new browser. FIRST selects the
// name in a row of a file; LAST is `end` where the End key leads to the last row, `all` where every row is in the document.
// Prints {"first_ms": ..., "last_ms": ...}, both since the navigation began: the first row was painted, the last one was.
// playwright-core is taken from the directory this is started in; CHROMIUM names the browser's program.
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const [link, pageUrl, first, last, entries] = process.argv.slice(2);
const LONGEST = 240_000; // ms
const { chromium } = createRequire(join(process.cwd(), 'x'))('playwright-core');

// Runs in the page. A row that stands when a frame begins is painted at the end of that frame; a task that was queued
// in it comes after that.
function watch(selector) {
  const look = () => {
    const name = document.querySelector(selector);
    const box = name && name.getBoundingClientRect();
    if (box && box.height > 0 && name.textContent.includes('file ')) setTimeout(() => { window.firstRow = performance.now(); });
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

const painted = () => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(() => resolve(performance.now()))); });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || ['/usr/lib/chromium/chromium', '/usr/bin/chromium'].find(existsSync),
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  timeout: 30_000,
});
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.setDefaultTimeout(LONGEST);
  if (link !== pageUrl) await context.request.get(link);
  const page = await context.newPage();
  // The browser's own first page is not what is measured.
  await page.goto('about:blank');
  await page.addInitScript(`(${watch})(${JSON.stringify(first)})`);
  await page.goto(pageUrl, { waitUntil: 'commit', timeout: LONGEST });
  await page.waitForFunction(() => window.firstRow, null, { polling: 20 });
  if (last === 'end') {
    await page.locator('#rows.virtual tr:not([data-empty])').first().focus();
    await page.keyboard.press('End');
    await page.locator(`#rows tr[aria-rowindex="${Number(entries) + 1}"] ${first.split(' ').pop()}`).waitFor();
  } else {
    await page.waitForFunction(([selector, n]) => document.querySelectorAll(selector).length >= n, [first, Number(entries)], { polling: 100 });
    await page.evaluate((selector) => [...document.querySelectorAll(selector)].pop().scrollIntoView(), first);
  }
  const lastRow = await page.evaluate(painted);
  const firstRow = await page.evaluate(() => window.firstRow);
  console.log(JSON.stringify({ first_ms: firstRow, last_ms: lastRow }));
} finally {
  await browser.close();
}
