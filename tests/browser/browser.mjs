// A browser for the flows of the other files: starts it, watches what the page logs, asks for and remembers, steers
// uploads and drags. playwright-core is taken from the directory the test is started in.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const MIB = 1024 * 1024;
export const row = (page, name) => page.locator('#rows tr', { hasText: name });
export const names = (page) => page.locator('#rows .name bdi').allTextContents();

export async function until(what, check) {
  const end = Date.now() + 60_000;
  for (;;) {
    const got = await check();
    if (got) return got;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

export function playwright() {
  try {
    return createRequire(join(process.cwd(), 'x'))('playwright-core');
  } catch {
    console.log('skipped: playwright-core is not installed (npm install playwright-core)');
    process.exit(0);
  }
}

// Chromium, or the installed Firefox where LINERATE_BROWSER says so. That takes playwright-core 1.58, the last one found
// that drives a Firefox which is not its own.
export async function launch() {
  if (process.env.LINERATE_BROWSER === 'firefox') {
    return playwright().firefox.launch({ channel: 'moz-firefox', executablePath: process.env.FIREFOX || ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync) });
  }
  return playwright().chromium.launch({
    executablePath: process.env.CHROMIUM || ['/usr/lib/chromium/chromium', '/usr/bin/chromium'].find(existsSync),
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    timeout: 60_000,
  });
}

// Collects in `errors` what must not happen on any page of this context: what is logged as an error or thrown, what
// the content security policy stops, and what is asked of anybody but the share. What a flow provokes on purpose (a
// lost connection) is let through by `expected`.
export async function watched(context, link) {
  const watch = { errors: [], expected: null };
  const note = (text) => { if (!watch.expected?.test(text)) watch.errors.push(text); };
  const { origin, host } = new URL(link);
  context.on('console', (message) => { if (message.type() === 'error') note(message.text()); });
  context.on('weberror', (error) => note(String(error.error())));
  context.on('request', (request) => { if (new URL(request.url()).origin !== origin) note(`asks elsewhere: ${request.url()}`); });
  context.on('page', (page) => page.on('websocket', (socket) => { if (new URL(socket.url()).host !== host) note(`asks elsewhere: ${socket.url()}`); }));
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} stops ${event.blockedURI}`));
  });
  return watch;
}

// What the README of the page says is stored in the browser is all that is.
export async function remembersLittle(page) {
  const kept = await page.evaluate(async () => ({
    local: Object.keys(localStorage), session: Object.keys(sessionStorage), script: document.cookie,
    databases: (await indexedDB.databases()).map((one) => one.name), workers: (await navigator.serviceWorker?.getRegistrations() || []).length,
    caches: self.caches ? await caches.keys() : [],
  }));
  const more = [kept.local.filter((key) => key !== 'lr.uploads'), kept.session.filter((key) => key !== 'lr.nick'), kept.databases, kept.caches].flat();
  assert.deepEqual([more, kept.workers, kept.script], [[], 0, ''], 'the page stores what its README does not name');
  const cookies = await page.context().cookies();
  assert.ok(cookies.length <= 1, 'there is one cookie at most');
  for (const cookie of cookies) assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.expires], [true, 'Strict', -1]);
}

export const arrived = async (page) => {
  await page.waitForURL('**/f/**');
  await page.waitForSelector('#rows.virtual, #empty:not([hidden])');
};

// A page with its own cookies, nowhere yet.
export async function blank(browser, link, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ignoreHTTPSErrors: true, acceptDownloads: true, locale: 'en-US', ...options });
  const watch = await watched(context, link);
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const devtools = browser.browserType().name() === 'chromium' ? await context.newCDPSession(page) : null;
  return { context, page, watch, devtools };
}

// Such a page in the share.
export async function open(browser, link, options) {
  const one = await blank(browser, link, options);
  await one.page.goto(link);
  await arrived(one.page);
  return one;
}

// Runs the flows named by the command line, or all, each in a page of its own, and ends the process: with 0 if each
// went well. A flow is given {page, context, watch, devtools, browser, shoot, scratch}.
export async function run(flows, { link, shots, only = [], browser, options, start = open }) {
  const shoot = camera(shots);
  const scratch = mkdtempSync(join(tmpdir(), 'linerate-page-'));
  let failed = 0;
  for (const [name, flow] of Object.entries(flows)) {
    if (only.length && !only.includes(name)) continue;
    const begun = Date.now();
    let one = null;
    try {
      one = await start(browser, link, options);
      await flow({ ...one, browser, shoot, scratch });
      if (!one.page.isClosed() && one.page.url().startsWith('http')) await remembersLittle(one.page);
      assert.deepEqual(one.watch.errors, [], 'nothing is logged as an error, stopped by the policy or asked elsewhere');
      console.log(`ok ${name} (${Date.now() - begun} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.stack}`);
      if (one) await shoot(one.page, `failed-${name}`).catch(() => {});
    }
    await one?.context.close();
  }
  await browser.close();
  rmSync(scratch, { recursive: true });
  process.exit(failed ? 1 : 0);
}

// Lets `pass` slices of an upload through; what `then` does with the next is 'cut' (the connection is lost) or
// 'hold' (it hangs). Returns the offsets of the slices that were sent after `go` was called; `stopped` comes with the first that
// is not let through, when what went before it has arrived.
export async function slices(page, pass, then) {
  let seen = 0;
  let free = false;
  const offsets = [];
  let reached;
  const stopped = new Promise((resolve) => { reached = resolve; });
  await page.route('**/api/uploads/*', (route) => {
    const request = route.request();
    if (request.method() !== 'PATCH' || free) {
      if (free && request.method() === 'PATCH') offsets.push(Number(request.headers()['upload-offset']));
      return route.continue();
    }
    seen += 1;
    if (seen <= pass) return route.continue();
    reached();
    return then === 'cut' ? route.abort('internetdisconnected') : undefined;
  });
  return { offsets, stopped, go() { free = true; } };
}

// Drops files and folders of the disk onto the middle of the page, as a file manager would.
export async function drop(devtools, files) {
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) await devtools.send('Input.dispatchDragEvent', { type, x: 600, y: 500, data });
}

export function camera(dir) {
  if (dir) mkdirSync(dir, { recursive: true });
  const shoot = async (page, name) => { if (dir) await page.screenshot({ path: join(dir, `${name}.png`) }); };
  return Object.assign(shoot, { wanted: Boolean(dir) });
}

export const fits = async (page, what) => {
  // Not innerWidth: on a phone that grows with what sticks out.
  const wide = await page.evaluate(() => document.documentElement.scrollWidth) - page.viewportSize().width;
  assert.ok(wide <= 0, `${what}: ${wide} px stick out to the side`);
};

// One state of a page as a phone and a desk show it, by day and by night if there are pictures to be taken.
export async function shootAll(shoot, page, name) {
  for (const colorScheme of shoot.wanted ? ['dark', 'light'] : ['light']) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of [[1280, 800], [360, 740]]) {
      await page.setViewportSize({ width, height });
      await fits(page, `${name} at ${width}`);
      await shoot(page, `${name}-${width}-${colorScheme}`);
    }
  }
}

export const phone = {
  viewport: { width: 360, height: 740 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true,
  userAgent: 'Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36',
};
