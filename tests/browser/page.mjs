// Uses the page of a share in a real browser: node tests/browser/page.mjs LINK [SCREENSHOTS] [FLOW...]
// The share must have been made by tree.mjs and allow view, download, upload, chat and delete. Exit code 0 means
// that every flow went well and no page logged an error.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MIB, drop, launch, names, open, row, run, slices, until } from './browser.mjs';

const [link, shots, ...only] = process.argv.slice(2);
if (!link) {
  console.error('usage: node tests/browser/page.mjs LINK [SCREENSHOTS] [FLOW...]');
  process.exit(2);
}
const stamp = Date.now().toString(36);
const leftInStore = (page) => page.evaluate(() => Object.keys(JSON.parse(localStorage.getItem('lr.uploads') || '{}')).length);

const flows = {
  async list({ page, shoot }) {
    const first = await names(page);
    assert.ok(first.includes('Holiday') && first.includes('main.rs'));
    await page.click('[data-sort=size] a');
    await page.waitForSelector('[data-sort=size][aria-sort=descending]');
    await page.click('[data-sort=size] a');
    await page.waitForSelector('[data-sort=size][aria-sort=ascending]');
    await page.click('[data-sort=name] a');
    await page.waitForSelector('[data-sort=name][aria-sort=ascending]');
    await page.click('#rows .name:has-text("Holiday")');
    await page.waitForURL('**/f/Holiday/');
    await row(page, 'beach.png').waitFor();
    await shoot(page, 'folder');
    await page.reload();
    await row(page, 'beach.png').waitFor();
    await page.goBack();
    await row(page, 'main.rs').waitFor();
    await page.goForward();
    await row(page, 'beach.png').waitFor();
    await page.click('#crumbs a >> nth=0');
    await row(page, 'main.rs').waitFor();
  },

  async many({ page }) {
    await page.click('#rows .name:has-text("many")');
    await row(page, 'file 000000').waitFor();
    const total = Number(await page.getAttribute('#list', 'aria-rowcount')) - 1;
    assert.ok((await page.locator('#rows tr').count()) < 120, 'only rows in sight are in the document');
    await page.locator('#rows tr').first().focus();
    await page.keyboard.press('End');
    const last = page.locator(`#rows tr[aria-rowindex="${total + 1}"]`);
    await until('the last row is filled', async () => (await last.locator('.name').count()) === 1);
    assert.ok(await last.evaluate((node) => node === document.activeElement));
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight / 2));
    await until('the middle is filled', async () => (await page.locator('#rows tr[data-empty]').count()) === 0);
    await page.keyboard.press('Home');
    await row(page, 'file 000000').waitFor();
    await page.keyboard.press('Backspace');
    await row(page, 'main.rs').waitFor();
  },

  async filter({ page }) {
    await page.click('#rows .name:has-text("Holiday")');
    await row(page, 'notes').waitFor();
    await page.click('.chip[data-type=image]');
    await row(page, 'notes').waitFor({ state: 'detached' });
    assert.deepEqual(await names(page), ['beach.png', 'dunes.png', 'sunset.png']);
    await page.click('.chip[data-type=""]');
    await row(page, 'notes').waitFor();
  },

  async search({ page, shoot }) {
    await page.keyboard.press('/');
    await page.keyboard.type('beach png');
    await row(page, 'beach.png').waitFor();
    await page.locator('#status', { hasText: 'looked at' }).waitFor();
    await shoot(page, 'search');
    await page.reload();
    await row(page, 'beach.png').waitFor();
    await page.focus('#q');
    await page.keyboard.press('Escape');
    await row(page, 'main.rs').waitFor();
    await page.fill('#q', 'file');
    await page.locator('#status', { hasText: /1[,. ]?000 hits/ }).waitFor();
    await page.keyboard.press('Escape');
    await row(page, 'main.rs').waitFor();
  },

  async preview({ page, shoot }) {
    await page.click('#rows .name:has-text("Holiday")');
    await page.click('#rows .name:has-text("beach.png")');
    await page.waitForFunction(() => document.querySelector('dialog.preview img')?.naturalWidth > 0);
    await shoot(page, 'preview');
    await page.keyboard.press('ArrowRight');
    await page.locator('dialog h2', { hasText: 'dunes.png' }).waitFor();
    await page.keyboard.press('ArrowLeft');
    await page.locator('dialog h2', { hasText: 'beach.png' }).waitFor();
    await page.click('dialog >> text=BLAKE3');
    await page.waitForFunction(() => /^[0-9a-f]{64}$/.test(document.querySelector('dialog .sum code')?.textContent || ''));
    await page.reload();
    await page.locator('dialog h2', { hasText: 'beach.png' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.waitForURL((url) => !url.hash);
    await page.goto(new URL('/f/', page.url()).href);
    await page.click('#rows .name:has-text("big.txt")');
    await page.locator('dialog pre').waitFor();
    assert.equal(await page.evaluate(() => document.querySelector('dialog pre').textContent.length), 256 * 1024);
    await shoot(page, 'preview-text');
    await page.evaluate(() => history.back());
    await page.locator('dialog').waitFor({ state: 'detached' });
  },

  async download({ page, shoot }) {
    const got = async (act) => (await Promise.all([page.waitForEvent('download'), act()]))[0];
    await row(page, 'main.rs').locator('.c-more button').click();
    await page.locator('dialog.menu').waitFor();
    await shoot(page, 'menu');
    await got(() => page.click('dialog.menu >> text=Download'));
    await row(page, 'main.rs').locator('input').check();
    await row(page, 'big.txt').locator('input').check();
    await shoot(page, 'selection');
    const zip = await got(() => page.click('#selection >> text=Download .zip'));
    assert.match(zip.suggestedFilename(), /\.zip$/);
    await page.keyboard.press('Escape');
    await page.locator('#selection').waitFor({ state: 'hidden' });
    await page.locator('#rows tr').first().focus();
    await page.keyboard.press('Control+a');
    assert.equal(await page.locator('#rows tr[aria-selected=false]').count(), 0);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Space');
    await page.keyboard.press('Shift+ArrowDown');
    await until('two are selected', async () => (await page.locator('#rows tr[aria-selected=true]').count()) === 2);
    await page.keyboard.press('Escape');
    await got(() => page.click('#get-zip'));
  },

  async drag({ page, devtools, scratch }) {
    const dir = join(scratch, `dropped-${stamp}`);
    mkdirSync(join(dir, 'inner'), { recursive: true });
    for (let n = 0; n < 130; n += 1) writeFileSync(join(dir, `${n}.txt`), `file ${n}`);
    writeFileSync(join(dir, 'inner', 'deep.txt'), 'deep');
    writeFileSync(join(dir, 'empty.txt'), '');
    await drop(devtools, [dir]);
    await page.locator('.uploads h2', { hasText: /^132 files uploaded/ }).waitFor();
    await row(page, `dropped-${stamp}`).waitFor();
    await page.goto(new URL(`/f/dropped-${stamp}/inner/`, page.url()).href);
    await row(page, 'deep.txt').waitFor();
  },

  // The connection is cut at about half; what arrived is not sent again.
  async cut({ page, watch, shoot, scratch }) {
    watch.expected = /ERR_INTERNET_DISCONNECTED|ERR_NETWORK|ERR_FAILED/;
    const file = join(scratch, `cut-${stamp}.bin`);
    writeFileSync(file, Buffer.alloc(40 * MIB, 7));
    const steer = await slices(page, 2, 'cut');
    await page.setInputFiles('#pick-files', file);
    await page.locator('.uploads li', { hasText: 'Trying again' }).waitFor();
    await shoot(page, 'upload-cut');
    steer.go();
    await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
    assert.deepEqual(steer.offsets, [16, 24, 32].map((at) => at * MIB), 'what arrived is not sent again');
    assert.equal(await leftInStore(page), 0);
    await shoot(page, 'upload-done');
  },

  // An upload that goes on while a part of it is still hashed sends every part once.
  async hashing({ page, scratch }) {
    await page.evaluate(() => {
      const { subtle } = crypto;
      const digest = subtle.digest.bind(subtle);
      const wait = new Promise((resolve) => { window.goOn = resolve; });
      subtle.digest = async (...args) => { window.digests = (window.digests || 0) + 1; await wait; return digest(...args); };
    });
    const offsets = [];
    page.on('request', (request) => { if (request.method() === 'PATCH') offsets.push(Number(request.headers()['upload-offset'])); });
    const path = join(scratch, `hashing ${stamp}.bin`);
    writeFileSync(path, Buffer.alloc(20 * MIB, 7));
    await page.setInputFiles('#pick-files', path);
    await until('the first part is hashed', () => page.evaluate(() => window.digests > 0));
    await page.getByRole('button', { name: 'Pause all' }).click();
    await page.getByRole('button', { name: 'Resume all' }).click();
    await page.evaluate(() => window.goOn());
    await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
    assert.deepEqual(offsets, [0, 8 * MIB, 16 * MIB]);
  },

  // A picture that is not among the rows at hand is shown, and a text with its beginning.
  async linked({ page }) {
    for (const [path, shown] of [['Holiday/beach.png', 'img'], ['big.txt', 'pre']]) {
      await page.goto(new URL(`/f/many/#view=${path}`, link).href);
      await page.reload();
      await page.locator(`dialog.preview .view ${shown}`).waitFor();
      await page.keyboard.press('Escape');
    }
  },

  async reload({ page, shoot, scratch }) {
    const file = join(scratch, `reload-${stamp}.bin`);
    writeFileSync(file, Buffer.alloc(40 * MIB, 9));
    const steer = await slices(page, 2, 'hold');
    await page.setInputFiles('#pick-files', file);
    await until('a part is sent', () => page.evaluate(() => document.querySelector('.uploads li progress')?.value >= 0.4));
    await steer.stopped;
    await shoot(page, 'upload');
    assert.equal(await leftInStore(page), 1);
    page.on('dialog', (dialog) => dialog.accept());
    await page.reload();
    await page.locator('.uploads li', { hasText: 'Choose the file again' }).waitFor();
    await shoot(page, 'upload-again');
    steer.go();
    await page.setInputFiles('#pick-files', file);
    await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
    assert.deepEqual(steer.offsets, [16, 24, 32].map((at) => at * MIB), 'what arrived is not sent again');
    assert.equal(await leftInStore(page), 0);
  },

  async chat({ page, browser, shoot }) {
    const other = await open(browser, link);
    try {
      for (const [one, nick] of [[page, 'Ada'], [other.page, 'Grace']]) {
        await one.click('#chat-open');
        await one.fill('#nick', nick);
        await one.press('#nick', 'Tab');
        await one.locator('.people li', { hasText: `${nick} (you)` }).waitFor();
      }
      await page.locator('.people li', { hasText: 'Grace' }).waitFor();
      await other.page.press('#chat-text', 'Escape');
      await page.fill('#chat-text', `Look ${stamp}: /f/Holiday/beach.png, and https://example.org/x. <b>no markup</b>`);
      await page.press('#chat-text', 'Enter');
      await until('the unread count', async () => /^\(\d+\) /.test(await other.page.title()));
      await other.page.click('#chat-open');
      const said = other.page.locator('.log li', { hasText: stamp });
      await said.waitFor();
      assert.match(await said.textContent(), /<b>no markup<\/b>/);
      assert.equal(await said.locator('a[rel="noopener noreferrer"]').getAttribute('href'), 'https://example.org/x');
      await other.page.fill('#chat-text', 'Seen, thank you');
      await other.page.press('#chat-text', 'Enter');
      await page.locator('.log li', { hasText: 'thank you' }).first().waitFor();
      await shoot(page, 'chat');
      await said.locator('a').first().click();
      await other.page.locator('dialog h2', { hasText: 'beach.png' }).waitFor();
      await page.press('#chat-text', 'Escape');
      await row(page, 'main.rs').locator('.c-more button').click();
      await page.click('dialog.menu >> text=Send to the chat');
      await until('the link is offered', async () => (await page.inputValue('#chat-text')).includes('/f/main.rs'));
      assert.deepEqual(other.watch.errors, []);
    } finally { await other.context.close(); }
  },

  async markup({ page }) {
    const all = await names(page);
    assert.ok(all.includes('<img src=x onerror=alert(1)>.txt'), 'markup is shown as text');
    assert.equal(await page.locator('#rows img').count(), 0);
    assert.ok(all.includes('evil\ufffdgnp.exe') && all.includes('line\ufffdbreak\ufffd.txt'), all.join('|'));
    await row(page, '100% &').locator('a.name').click();
    await page.locator('dialog pre', { hasText: 'ok' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
  },

  async remove({ page, shoot }) {
    await page.setInputFiles('#pick-files', { name: `gone-${stamp}.txt`, mimeType: 'text/plain', buffer: Buffer.from('x') });
    await row(page, `gone-${stamp}`).waitFor();
    await row(page, `gone-${stamp}`).locator('.c-more button').click();
    await page.click('dialog.menu >> text=Delete');
    await shoot(page, 'delete');
    await page.click('dialog .danger');
    await row(page, `gone-${stamp}`).waitFor({ state: 'detached' });
  },

  async dialogs({ page, shoot }) {
    await page.click('#pass-open');
    await page.waitForFunction(() => document.querySelector('.qr')?.naturalWidth > 0);
    assert.match(await page.inputValue('.copyline input >> nth=0'), /\/t\/[\w-]{22}$/);
    await shoot(page, 'pass-on');
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.locator('dialog kbd').first().waitFor();
    await shoot(page, 'help');
    await page.keyboard.press('Escape');
  },
};

await run(flows, { link, shots, only, browser: await launch() });
