// The page for those who use a keyboard or hear it: node tests/browser/access.mjs LINK SHOTS PASSWORDLINK [FLOW...]
// The share must have been made by tree.mjs and allow view, download, upload, chat and delete; PASSWORDLINK leads to one
// that asks for a password.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open, row, run, until } from './browser.mjs';

const [link, shots, passwordLink, ...only] = process.argv.slice(2);
const AXE = join(process.cwd(), 'node_modules/axe-core/axe.min.js');
const stamp = Date.now().toString(36);

// What axe-core finds grave, in words.
async function faults(page, what) {
  // Given to the page as a program of the tester's, which its policy does not touch.
  if (!await page.evaluate(() => 'axe' in self)) await page.evaluate(readFileSync(AXE, 'utf8'));
  const found = await page.evaluate(async () => {
    const { violations } = await self.axe.run(document, { resultTypes: ['violations'] });
    const grave = violations.filter((one) => one.impact === 'serious' || one.impact === 'critical');
    return grave.flatMap((one) => one.nodes.slice(0, 4).map((node) => `${one.id}: ${node.html.slice(0, 160)}: ${node.failureSummary}`));
  });
  return found.map((fault) => `${what}: ${fault}`);
}

const heard = async (page, id, text) => until(`“${text}” is said`, async () => text.test(await page.locator(`#${id}`).textContent()));

// Somebody else says something in the chat, and leaves.
async function saidByAnother(browser, text) {
  const { page, context } = await open(browser, link);
  const status = await page.evaluate(async (body) => (await fetch('/api/chat', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })).status, JSON.stringify({ text, nick: 'Bea' }));
  assert.ok(status < 300, `the message is answered by ${status}`);
  await context.close();
}

// Where the focus is, and whether that can be seen.
const focus = (page) => page.evaluate(() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const seen = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== 'none';
  const box = node.getBoundingClientRect();
  const within = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth && box.width > 1;
  return { id: node.id, tag: node.tagName, name: node.getAttribute('aria-label') || node.textContent.trim().slice(0, 40), seen: seen && within };
});

const on = (page, selector) => until(`the focus is on ${selector}`, () => page.evaluate((what) => document.activeElement?.matches(what), selector));

async function tabTo(page, selector) {
  for (let n = 0; n < 60; n += 1) {
    if (await page.evaluate((what) => document.activeElement?.matches(what), selector)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`the tab key does not come to ${selector}`);
}

const flows = {
  async axe({ browser }) {
    if (!existsSync(AXE)) return console.log('skipped: axe-core is not installed (npm install axe-core)');
    const all = [];
    const isSound = async (page, what) => all.push(...await faults(page, what));
    for (const colorScheme of ['light', 'dark']) {
      const { page, context, watch } = await open(browser, link, { colorScheme, reducedMotion: 'reduce' });
      await isSound(page, `list, ${colorScheme}`);
      assert.equal(await page.locator('#unread').isVisible(), false, 'what was said before is not news');
      await saidByAnother(browser, `news ${stamp}`);
      await page.locator('#chat-open', { hasText: '1' }).waitFor();
      await isSound(page, `news in the chat, ${colorScheme}`);
      await row(page, 'main.rs').locator('input').check();
      await isSound(page, `selection, ${colorScheme}`);
      await row(page, 'main.rs').locator('.c-more button').click();
      await isSound(page, `menu, ${colorScheme}`);
      await page.keyboard.press('Escape');
      await page.click('#pass-open');
      await isSound(page, `link to pass on, ${colorScheme}`);
      await page.keyboard.press('Escape');
      await page.setInputFiles('#pick-files', { name: `axe-${stamp}-${colorScheme}.txt`, mimeType: 'text/plain', buffer: Buffer.from('x') });
      await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
      await isSound(page, `uploads, ${colorScheme}`);
      await page.click('#chat-open');
      await page.fill('#chat-text', `seen by axe ${stamp}`);
      await page.press('#chat-text', 'Enter');
      await page.locator('.log li', { hasText: stamp }).first().waitFor();
      await isSound(page, `chat, ${colorScheme}`);
      await page.press('#chat-text', 'Escape');
      await page.fill('#q', 'beach');
      await page.locator('#status', { hasText: 'looked at' }).waitFor();
      await isSound(page, `search, ${colorScheme}`);
      for (const name of ['beach.png', 'waves.wav', 'notes from']) {
        await page.fill('#q', name);
        await row(page, name).locator('.name').click();
        await page.locator('dialog.preview :is(img, audio, pre)').waitFor();
        await isSound(page, `preview of ${name}, ${colorScheme}`);
        await page.keyboard.press('Escape');
        await page.locator('dialog').waitFor({ state: 'detached' });
      }
      // The page that greets goes on by itself: an answer without content keeps it here.
      await page.route('**/f/', (route) => route.fulfill({ status: 204 }));
      await page.goto(link);
      await isSound(page, `entering, ${colorScheme}`);
      await page.unrouteAll({ behavior: 'ignoreErrors' });
      watch.expected = /status of 404/;
      await page.goto(new URL('/f/none', link).href);
      await isSound(page, `error, ${colorScheme}`);
      assert.deepEqual(watch.errors, []);
      await page.goto(passwordLink);
      await page.locator('#password').waitFor();
      await isSound(page, `password, ${colorScheme}`);
      await context.close();
    }
    assert.deepEqual(all, []);
  },

  // Every stop of the tab key can be seen, and all that a mouse reaches is among them.
  async stops({ page }) {
    const stops = new Set();
    for (let n = 0; n < 40; n += 1) {
      await page.keyboard.press('Tab');
      const at = await focus(page);
      if (at.tag === 'BODY') break;
      assert.ok(at.seen, `the focus is seen on ${at.tag} ${at.id} ${at.name}`);
      stops.add(at.id || (at.tag === 'TR' ? 'row' : at.name));
    }
    for (const one of ['Skip to the files', 'q', 'upload-open', 'chat-open', 'pass-open', 'help-open', 'get-zip', 'get-tar', 'Images', 'Name', 'Size', 'Date', 'row']) {
      assert.ok(stops.has(one), `${one} is not among ${[...stops].join(', ')}`);
    }
  },

  async files({ page }) {
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await on(page, '#files');
    await tabTo(page, '#rows tr');
    await page.keyboard.press('Home');
    await page.keyboard.press('Space');
    await page.keyboard.press('Shift+ArrowDown');
    await until('two are selected', async () => (await page.locator('#rows tr[aria-selected=true]').count()) === 2);
    await tabTo(page, '#selection button');
    assert.ok((await focus(page)).seen);
    await tabTo(page, '#selection [aria-label="Clear the selection"]');
    await page.keyboard.press('Enter');
    await page.locator('#selection').waitFor({ state: 'hidden' });
    await page.focus('#rows tr[tabindex="0"]');
    const holiday = await row(page, 'Holiday').getAttribute('data-index');
    await page.keyboard.press('Home');
    for (let n = 0; n < Number(holiday); n += 1) await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/f/Holiday/');
    await heard(page, 'live', /^Holiday, 4 entries$/);
    await on(page, '#rows tr');
    await page.keyboard.press('m');
    await page.locator('dialog.menu').waitFor();
    await on(page, '[role=menuitem]');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await until('the focus comes back', () => page.evaluate(() => Boolean(document.activeElement.closest('#rows'))));
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('dialog.preview img')?.naturalWidth > 0);
    await page.keyboard.press('ArrowRight');
    await page.locator('dialog h2', { hasText: 'dunes.png' }).waitFor();
    for (let n = 0; n < 12; n += 1) {
      await page.keyboard.press('Tab');
      assert.ok(await page.evaluate(() => document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))), 'the focus stays in the dialog');
    }
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await until('the focus is on what was shown', () => page.evaluate(() => document.activeElement.closest('#rows tr')?.textContent.includes('dunes.png')));
    await page.keyboard.press('Backspace');
    await row(page, 'main.rs').waitFor();
  },

  async search({ page }) {
    await tabTo(page, '#q');
    await page.keyboard.type('beach');
    await row(page, 'beach.png').waitFor();
    await heard(page, 'live', /^1 hit among .* looked at$/);
    await page.keyboard.press('ArrowDown');
    await on(page, '#rows tr');
    await page.keyboard.press('Escape');
    await row(page, 'main.rs').waitFor();
  },

  async upload({ page }) {
    await tabTo(page, '#upload-open');
    await page.keyboard.press('Enter');
    await on(page, '[role=menuitem]');
    const chosen = page.waitForEvent('filechooser');
    // An answer of the page means that the browser knows by now that its window is not wanted.
    await page.evaluate(() => document.title);
    await page.keyboard.press('Enter');
    await (await chosen).setFiles({ name: `keys-${stamp}.txt`, mimeType: 'text/plain', buffer: Buffer.from('x') });
    await heard(page, 'live', /^1 file uploaded$/);
    await on(page, '#upload-open');
    await row(page, `keys-${stamp}`).waitFor();
    await tabTo(page, '.uploads [aria-label="Remove from the list"]');
    await page.keyboard.press('Enter');
    await page.locator('.uploads').waitFor({ state: 'hidden' });
  },

  async chat({ page, browser }) {
    const other = await open(browser, link);
    await other.page.locator('.people li').nth(1).waitFor({ state: 'attached' });
    await tabTo(page, '#chat-open');
    await page.keyboard.press('Enter');
    await on(page, '#chat-text');
    await page.keyboard.type(`by keys ${stamp}`);
    await page.keyboard.press('Enter');
    await heard(other.page, 'live', /wrote in the chat/);
    await page.keyboard.press('Escape');
    await on(page, '#chat-open');
    await tabTo(other.page, '#chat-open');
    await other.page.keyboard.press('Enter');
    await other.page.locator('.log[aria-live] li', { hasText: `by keys ${stamp}` }).waitFor();
    assert.deepEqual(other.watch.errors, []);
    await other.context.close();
  },

  async dialogs({ page }) {
    for (const [id, what] of [['pass-open', 'dialog .qr'], ['help-open', 'dialog kbd']]) {
      await tabTo(page, `#${id}`);
      await page.keyboard.press('Enter');
      await page.locator(what).first().waitFor();
      assert.ok((await focus(page)).seen, 'the focus is seen in the dialog');
      await page.keyboard.press('Escape');
      await page.locator('dialog').waitFor({ state: 'detached' });
      await on(page, `#${id}`);
    }
  },
};

await run(flows, { link, shots, only, browser: await launch() });
