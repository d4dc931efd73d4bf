// The page as a phone and a desk show it, by day and by night: node tests/browser/looks.mjs LINK [SCREENSHOTS] [FLOW...]
// Nothing may stick out to the side; who gives SCREENSHOTS looks at the rest. The share must have been made by tree.mjs
// and allow view, download, upload, chat and delete.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MIB, fits, launch, open, phone, row, run, slices } from './browser.mjs';

const [link, shots, ...only] = process.argv.slice(2);
const stamp = Date.now().toString(36);

async function look({ browser, shoot, scratch }, options, name) {
  const { page, context, watch } = await open(browser, link, options);
  const closed = () => page.locator('dialog').waitFor({ state: 'detached' });
  const shot = async (what) => { await fits(page, what); await shoot(page, `look-${what}-${name}`); };
  await shot('list');
  await row(page, 'Holiday').locator('.name').click();
  await row(page, 'beach.png').waitFor();
  await shot('folder');
  await row(page, 'beach.png').locator('.check').click();
  await row(page, 'dunes.png').locator('.check').click();
  await shot('selection');
  await page.keyboard.press('Escape');
  await row(page, 'beach.png').locator('.c-more button').click();
  await page.locator('dialog.menu').waitFor();
  await shot('menu');
  await page.keyboard.press('Escape');
  await closed();
  await row(page, 'beach.png').locator('.name').click();
  await page.waitForFunction(() => document.querySelector('dialog.preview img')?.naturalWidth > 0);
  await shot('preview');
  await page.keyboard.press('Escape');
  await closed();
  await row(page, 'notes').locator('.name').click();
  await page.locator('dialog pre').waitFor();
  await shot('preview-text');
  await page.keyboard.press('Escape');
  await closed();
  await page.fill('#q', 'beach');
  await page.locator('#status', { hasText: 'looked at' }).waitFor();
  await shot('search');
  await page.fill('#q', '');
  await row(page, 'dunes.png').waitFor();
  for (const what of ['pass', 'help']) {
    await page.click(`#${what}-open`);
    if (what === 'pass') await page.waitForFunction(() => document.querySelector('.qr')?.naturalWidth > 0);
    await shot(what);
    await page.keyboard.press('Escape');
    await closed();
  }
  const file = join(scratch, `look ${name} ${stamp}.bin`);
  writeFileSync(file, Buffer.alloc(20 * MIB, 4));
  const steer = await slices(page, 1, 'hold');
  await page.setInputFiles('#pick-files', file);
  await page.waitForFunction(() => document.querySelector('.uploads li progress')?.value >= 0.4);
  await shot('upload');
  await page.locator('.uploads [aria-label=Cancel]').first().click();
  steer.go();
  await page.setInputFiles('#pick-files', [1, 2].map((n) => ({ name: `look ${name} ${stamp} ${n}.txt`, mimeType: 'text/plain', buffer: Buffer.from('x') })));
  await page.locator('.uploads h2', { hasText: '2 files uploaded' }).waitFor();
  await shot('uploaded');
  await page.click('#chat-open');
  await page.fill('#nick', 'Ada');
  await page.press('#nick', 'Tab');
  await page.locator('.people li', { hasText: 'Ada (you)' }).waitFor();
  await page.fill('#chat-text', 'The pictures of the beach are in /f/Holiday/, take what you like');
  await page.press('#chat-text', 'Enter');
  await page.locator('.log .mine', { hasText: 'take what you like' }).waitFor();
  await shot('chat');
  assert.deepEqual(watch.errors, []);
  await context.close();
}

const flows = {};
for (const colorScheme of ['light', 'dark']) {
  for (const options of [phone, { viewport: { width: 1280, height: 800 } }, { viewport: { width: 640, height: 400 } }]) {
    const name = `${options.viewport.width}-${colorScheme}`;
    flows[name] = (one) => look(one, { ...options, colorScheme }, name);
  }
}

await run(flows, { link, shots, only, browser: await launch() });
