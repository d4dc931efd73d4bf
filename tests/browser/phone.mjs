// Everything on a phone: node tests/browser/phone.mjs LINK [SCREENSHOTS] [FLOW...]
// The share must have been made by tree.mjs and allow view, download, upload, chat and delete.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MIB, fits, launch, names, open, phone, remembersLittle, row, run, slices, until } from './browser.mjs';

const [link, shots, ...only] = process.argv.slice(2);
const stamp = Date.now().toString(36);
const download = async (page, act) => (await Promise.all([page.waitForEvent('download'), act()]))[0];
const closed = (page) => page.locator('dialog').waitFor({ state: 'detached' });

// What a thumb does: Upload, then an entry of the menu; the browser's own window takes the files.
async function choose(page, entry, files) {
  await page.tap('#upload-open');
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.tap(`dialog.menu >> text=${entry}`)]);
  await chooser.setFiles(files);
}

// What is to be tapped and is less than 40 px wide or high where a finger comes down.
const small = (page) => page.evaluate(() => {
  const found = [];
  const y0 = scrollY;
  for (const node of document.querySelectorAll('a[href], button, input, textarea, summary, [role=menuitem]')) {
    // A link in a sentence is as high as the line; a file input is opened by a button.
    if (node.closest('.said, .sr, .skip') || node.disabled || !node.checkVisibility()) continue;
    const over = document.querySelector('dialog[open]');
    if (over && !over.contains(node)) continue;
    const target = node.closest('label') || node;
    target.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    // The link of a row takes up all of it but the ends.
    const box = (node.closest('.name')?.closest('tr') || target).getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const hits = ([dx, dy]) => {
      const hit = document.elementFromPoint(x + dx, y + dy);
      // What floats over the list is not in the way for good.
      const floats = hit?.closest('#upload-open, .selection, .uploads, .top, .chat, .toast');
      return Boolean(hit) && (target.contains(hit) || Boolean(floats && !floats.contains(target)));
    };
    if (![[0, 0], [-19, 0], [19, 0], [0, -19], [0, 19]].every(hits)) {
      const hit = document.elementFromPoint(x, y);
      found.push(`${node.tagName} ${node.id || node.getAttribute('aria-label') || node.textContent.trim()} ${box.width} x ${box.height} at ${x}, ${y}: ${hit?.tagName} ${hit?.className}`);
    }
  }
  scrollTo({ top: y0, behavior: 'instant' });
  return found;
});

async function forThumbs(page, what) {
  assert.deepEqual(await small(page), [], `${what}: too small to tap`);
  await fits(page, what);
}

const flows = {
  async list({ page }) {
    assert.ok((await names(page)).includes('main.rs'));
    assert.ok(!page.url().includes('/t/'), 'the token is not in the address bar');
    await page.tap('[data-sort=size] a');
    await page.waitForSelector('[data-sort=size][aria-sort=descending]');
    await page.tap('[data-sort=name] a');
    await page.waitForSelector('[data-sort=name][aria-sort=ascending]');
    await page.tap('#rows .name:has-text("Holiday")');
    await row(page, 'notes').waitFor();
    await page.tap('.chip[data-type=image]');
    await row(page, 'notes').waitFor({ state: 'detached' });
    assert.deepEqual(await names(page), ['beach.png', 'dunes.png', 'sunset.png']);
    await page.tap('.chip[data-type=""]');
    await row(page, 'notes').waitFor();
    await page.goBack();
    await row(page, 'main.rs').waitFor();
  },

  async search({ page }) {
    await page.tap('#q');
    await page.keyboard.type('beach');
    await row(page, 'beach.png').waitFor();
    await page.locator('#status', { hasText: '1 hit among' }).waitFor();
    // A search that takes long is stopped.
    await page.route('**/api/search?*', () => {});
    await page.fill('#q', 'dunes');
    await page.tap('#search-stop');
    await page.locator('#status', { hasText: 'Stopped.' }).waitFor();
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.fill('#q', '');
    await row(page, 'main.rs').waitFor();
  },

  async preview({ page, shoot }) {
    await page.tap('#rows .name:has-text("Holiday")');
    await page.tap('#rows .name:has-text("beach.png")');
    await page.waitForFunction(() => document.querySelector('dialog.preview img')?.naturalWidth > 0);
    await forThumbs(page, 'preview');
    await page.tap('[aria-label="Next file"]');
    await page.locator('dialog h2', { hasText: 'dunes.png' }).waitFor();
    await page.goBack();
    await closed(page);
    await page.tap('#rows .name:has-text("notes")');
    await page.locator('dialog pre', { hasText: 'Day one: the sea.' }).waitFor();
    await page.tap('[aria-label=Close]');
    await closed(page);
    await page.waitForURL((url) => !url.hash);
    await page.goto(new URL('/f/Media/', link).href);
    for (const [name, tag, length, at] of [['waves.wav', 'audio', 240, 200], ['clip.webm', 'video', 12, 9.2]]) {
      const ranges = [];
      page.on('request', (request) => { if (request.url().includes(`${name}?view`)) ranges.push(request.headers().range); });
      await page.tap(`#rows .name:has-text("${name}")`);
      await page.waitForFunction((what) => document.querySelector(`dialog ${what}`)?.readyState >= 1, tag);
      const media = page.locator(`dialog ${tag}`);
      assert.ok(Math.abs(await media.evaluate((node) => node.duration) - length) < 0.5, 'the length is known');
      const seeked = await media.evaluate((node, second) => new Promise((resolve, reject) => {
        node.addEventListener('seeked', () => resolve([node.currentTime, node.seekable.length && node.seekable.end(0)]), { once: true });
        node.addEventListener('error', () => reject(new Error(node.error.message)), { once: true });
        node.currentTime = second;
      }), at);
      assert.ok(Math.abs(seeked[0] - at) < 0.1 && seeked[1] > at, `${name} is at ${seeked}`);
      await media.evaluate((node) => { node.muted = true; return node.play(); });
      await page.waitForFunction(([what, second]) => document.querySelector(`dialog ${what}`).currentTime > second, [tag, at]);
      if (tag === 'audio') assert.ok(ranges.some((range) => Number(/^bytes=(\d+)-/.exec(range)?.[1]) > 10 * MIB), `only what is heard is asked for: ${ranges}`);
      await shoot(page, `phone-${tag}`);
      await page.tap('[aria-label=Close]');
      await closed(page);
    }
  },

  async download({ page, shoot }) {
    await row(page, 'main.rs').locator('.c-more button').tap();
    await page.locator('dialog.menu').waitFor();
    await forThumbs(page, 'menu');
    const file = await download(page, () => page.tap('dialog.menu >> text=Download'));
    assert.equal(file.suggestedFilename(), 'main.rs');
    await row(page, 'main.rs').locator('.check').tap();
    await row(page, 'Holiday').locator('.check').tap();
    await page.locator('#selection', { hasText: '2 selected' }).waitFor();
    await forThumbs(page, 'selection');
    await shoot(page, 'phone-selection');
    const zip = await download(page, () => page.tap('#selection .primary'));
    assert.match(zip.suggestedFilename(), /\.zip$/);
    assert.ok(await zip.path());
    await page.tap('#selection [aria-label="Clear the selection"]');
    await page.locator('#selection').waitFor({ state: 'hidden' });
  },

  async upload({ page, shoot }) {
    await page.tap('#upload-open');
    for (const entry of ['Files', 'A whole folder', 'Take a photo', 'Record a video']) await page.locator('[role=menuitem]', { hasText: entry }).waitFor();
    await forThumbs(page, 'upload menu');
    await shoot(page, 'phone-upload-menu');
    await page.keyboard.press('Escape');
    await closed(page);
    assert.deepEqual(await page.locator('input[capture]').evaluateAll((all) => all.map((one) => [one.getAttribute('capture'), one.accept])), [['environment', 'image/*'], ['environment', 'video/*']]);
    const several = [1, 2, 3].map((n) => ({ name: `phone-${stamp}-${n}.txt`, mimeType: 'text/plain', buffer: Buffer.from(`number ${n}`) }));
    await choose(page, 'Files', several);
    await page.locator('.uploads h2', { hasText: '3 files uploaded' }).waitFor();
    await row(page, `phone-${stamp}-3.txt`).waitFor();
    await choose(page, 'Take a photo', { name: `photo-${stamp}.jpg`, mimeType: 'image/jpeg', buffer: Buffer.from('x') });
    await page.locator('.uploads h2', { hasText: '4 files uploaded' }).waitFor();
    await forThumbs(page, 'uploads');
    await page.tap('.uploads >> text=Clear finished');
    await page.locator('.uploads').waitFor({ state: 'hidden' });
    // What is allowed to be is deleted again.
    await row(page, `photo-${stamp}`).locator('.c-more button').tap();
    await page.tap('dialog.menu >> text=Delete');
    await forThumbs(page, 'the question before deleting');
    await page.tap('dialog .danger');
    await row(page, `photo-${stamp}`).waitFor({ state: 'detached' });
  },

  // Paused, gone on with, cut off at half, loaded anew in the middle: each byte is sent once but for the slice under way.
  async resume({ page, watch, shoot, scratch }) {
    watch.expected = /ERR_INTERNET_DISCONNECTED|ERR_NETWORK|ERR_FAILED/;
    const file = join(scratch, `resumed-${stamp}.bin`);
    writeFileSync(file, Buffer.alloc(16 * MIB, 5));
    const line = page.locator('.uploads li');
    const done = (part) => page.waitForFunction((least) => document.querySelector('.uploads li progress')?.value >= least, part);
    let steer = await slices(page, 1, 'hold');
    await choose(page, 'Files', file);
    await done(0.5);
    await steer.stopped;
    await line.locator('[aria-label=Pause]').tap();
    await line.filter({ hasText: 'Paused' }).waitFor();
    await page.locator('.uploads h2', { hasText: '1 upload paused' }).waitFor();
    await shoot(page, 'phone-paused');
    await forThumbs(page, 'a paused upload');
    // The newest way is asked first: there is no moment without one.
    steer = await slices(page, 0, 'cut');
    await line.locator('[aria-label=Resume]').tap();
    await line.filter({ hasText: 'Trying again' }).waitFor();
    steer = await slices(page, 0, 'hold');
    page.on('dialog', (dialog) => dialog.accept());
    await page.reload();
    await line.filter({ hasText: 'Choose the file again' }).waitFor();
    await shoot(page, 'phone-again');
    steer.go();
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), line.locator('[aria-label="Choose the file"]').tap()]);
    await chooser.setFiles(file);
    await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
    assert.deepEqual(steer.offsets, [8 * MIB], 'what arrived is not sent again');
    await remembersLittle(page);
    assert.equal(await page.evaluate(() => localStorage.getItem('lr.uploads') || '{}'), '{}');
  },

  async chat({ page, browser, shoot }) {
    const desk = await open(browser, link);
    for (const [one, nick] of [[page, 'Phone'], [desk.page, 'Desk']]) {
      await one.click('#chat-open');
      await one.fill('#nick', nick);
      await one.press('#nick', 'Tab');
      await one.locator('.people li', { hasText: `${nick} (you)` }).waitFor();
    }
    await page.fill('#chat-text', `from the phone ${stamp}: /f/Holiday/dunes.png <i>`);
    await page.tap('[aria-label=Send]');
    await desk.page.locator('.log li', { hasText: stamp }).waitFor();
    await desk.page.fill('#chat-text', `from the desk ${stamp}`);
    await desk.page.press('#chat-text', 'Enter');
    await page.locator('.log li', { hasText: `from the desk ${stamp}` }).waitFor();
    await forThumbs(page, 'chat');
    await shoot(page, 'phone-chat');
    await page.locator('.log li', { hasText: 'from the phone' }).locator('a').tap();
    await page.locator('dialog h2', { hasText: 'dunes.png' }).waitFor();
    assert.deepEqual(desk.watch.errors, []);
    await desk.context.close();
  },

  async pass({ page }) {
    await page.tap('#pass-open');
    await page.waitForFunction(() => document.querySelector('.qr')?.naturalWidth > 0);
    assert.match(await page.inputValue('.copyline input >> nth=0'), /\/t\/[\w-]{22}$/);
    await forThumbs(page, 'passing on');
    await page.tap('[aria-label=Close]');
    await closed(page);
  },

  // Narrow, narrower, zoomed: nothing is cut and nothing too small.
  async sizes({ page }) {
    for (const [width, height, text] of [[360, 740, 100], [320, 640, 100], [360, 740, 200], [640, 360, 100]]) {
      await page.setViewportSize({ width, height });
      await page.evaluate((percent) => { document.documentElement.style.fontSize = `${percent}%`; }, text);
      const what = `${width} px, text of ${text} %`;
      await page.goto(new URL('/f/', link).href);
      await row(page, 'main.rs').waitFor();
      // The page draws its rows anew with the next frame, before what asks for that frame here.
      await page.evaluate((percent) => new Promise((drawn) => {
        document.documentElement.style.fontSize = `${percent}%`;
        dispatchEvent(new Event('resize'));
        requestAnimationFrame(drawn);
      }), text);
      await forThumbs(page, what);
      await row(page, 'main.rs').locator('.check').tap();
      await forThumbs(page, `${what}, selection`);
      await page.tap('#selection [aria-label="Clear the selection"]');
      await page.tap('#help-open');
      await forThumbs(page, `${what}, help`);
      await page.tap('[aria-label=Close]');
      await closed(page);
      await page.tap('#chat-open');
      await forThumbs(page, `${what}, chat`);
      await page.tap('[aria-label="Close the chat"]');
    }
  },
};

await run(flows, { link, shots, only, browser: await launch(), options: phone });
