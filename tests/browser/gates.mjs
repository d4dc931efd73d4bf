// What stands before a share: node tests/browser/gates.mjs LINK SHOTS LINERATE FOLDER [FLOW...]
// The share must ask for the password `open sesame`, have been made by tree.mjs and allow view, download and upload.
// LINERATE is the program, which shares FOLDER here once more, for a few seconds.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { arrived, blank, fits, launch, names, open, phone, row, run, shootAll } from './browser.mjs';

const [link, shots, program, folder, ...only] = process.argv.slice(2);
const PASSWORD = 'open sesame';
const at = (path) => new URL(path, link).href;

async function enter(page) {
  await page.goto(link);
  await page.fill('#password', PASSWORD);
  await page.press('#password', 'Enter');
  await page.waitForURL('**/f/**');
}

// A share of its own that ends by itself; its link.
async function shared(...args) {
  const child = spawn(program, ['share', '--http', '--listen', '127.0.0.1:0', '--no-announce', ...args, folder], { stdio: ['ignore', 'pipe', 'ignore'] });
  for await (const line of createInterface(child.stdout)) {
    const found = /http:\/\/\S+\/t\/[\w-]+/.exec(line);
    if (found) return { child, link: found[0] };
  }
  throw new Error('the share gives no link');
}

const flows = {
  async password({ page, context, watch, shoot }) {
    watch.expected = /status of 403/;
    await page.goto(link);
    await shootAll(shoot, page, 'password');
    await page.setViewportSize({ width: 320, height: 600 });
    await fits(page, 'password at 320');
    const box = await page.locator('.btn.primary').boundingBox();
    assert.ok(box.height >= 40, 'the button is large enough for a thumb');
    await page.fill('#password', 'wrong');
    await page.tap('.btn.primary');
    await page.locator('#why:not(:empty)').waitFor();
    await shootAll(shoot, page, 'password-wrong');
    await page.setViewportSize(phone.viewport);
    await page.fill('#password', PASSWORD);
    await page.tap('.btn.primary');
    await arrived(page);
    assert.ok((await names(page)).includes('main.rs'));
    assert.equal((await context.cookies()).length, 1);
  },

  async error({ page, watch, shoot }) {
    watch.expected = /status of 40[134]/;
    for (const path of ['/f/', `/t/${'A'.repeat(22)}`, '/f/none']) {
      const answer = await page.goto(at(path));
      assert.ok([401, 403, 404].includes(answer.status()), `${path}: ${answer.status()}`);
      assert.ok(!(await page.content()).includes(link.split('/t/')[1]), 'the token is not on an error page');
      await page.locator('main h1').waitFor();
      await fits(page, path);
    }
    await shootAll(shoot, page, 'error');
  },

  // Everything that the page promises without scripts.
  async plain({ browser, shoot }) {
    const { page, context, watch } = await blank(browser, link, { ...phone, javaScriptEnabled: false });
    const got = async (act) => (await Promise.all([page.waitForEvent('download'), act()]))[0];
    await enter(page);
    assert.equal(await page.locator('.js:visible').count(), 0);
    await shootAll(shoot, page, 'without-script');
    for (const order of ['ascending', 'descending', 'ascending']) {
      await page.click('[data-sort=size] a');
      await page.locator(`[data-sort=size][aria-sort=${order}]`).waitFor();
    }
    const files = page.locator('#rows tr', { hasNot: page.locator('.t-folder') }).locator('.name bdi');
    const ascending = await files.allTextContents();
    assert.ok(ascending.indexOf('main.rs') < ascending.indexOf('big.txt'));
    await page.click('[data-sort=name] a');
    await page.click('#rows .name:has-text("Holiday")');
    await row(page, 'beach.png').waitFor();
    const file = await got(() => row(page, 'notes').locator('.c-more a').click());
    assert.equal(readFileSync(await file.path(), 'utf8'), 'Day one: the sea.\n'.repeat(30));
    await row(page, 'beach.png').locator('input').check();
    await row(page, 'dunes.png').locator('input').check();
    const zip = await got(() => page.click('button[value=zip]'));
    const bytes = readFileSync(await zip.path());
    assert.ok(bytes.includes('beach.png') && bytes.includes('dunes.png') && !bytes.includes('sunset.png'));
    await page.setInputFiles('input[name=file]', ['one', 'two'].map((name) => ({ name: `${name}.txt`, mimeType: 'text/plain', buffer: Buffer.from(name) })));
    await page.click('form[enctype="multipart/form-data"] button');
    await row(page, 'one.txt').waitFor();
    await row(page, 'two.txt').waitFor();
    await page.click('#crumbs a >> nth=0');
    await page.click('#rows .name:has-text("many")');
    await page.click('.pager a');
    await page.waitForURL('**page=2**');
    assert.deepEqual(watch.errors, []);
    await context.close();
  },

  // `linerate receive`: whoever may only add something sees a page that does that, and no error.
  async receive({ browser, shoot }) {
    const { child, link: box } = await shared('--allow', 'upload');
    try {
      const { page, context, watch } = await open(browser, box);
      const asked = [];
      page.on('request', (request) => asked.push(new URL(request.url()).pathname));
      await page.reload();
      await page.locator('#empty', { hasText: 'Only the owner sees what arrives here' }).waitFor();
      assert.deepEqual([await page.isVisible('#banner'), await page.isVisible('#q'), await page.isVisible('.chip')], [false, false, false]);
      for (const key of ['ArrowDown', 'Control+a', 'Delete', 'Escape', '/', 'Backspace', 'm', 'End', '?']) await page.keyboard.press(key);
      await page.keyboard.press('Escape');
      await page.setInputFiles('#pick-files', { name: 'sent here.txt', mimeType: 'text/plain', buffer: Buffer.from('sent') });
      await page.locator('.uploads h2', { hasText: '1 file uploaded' }).waitFor();
      await page.locator('.uploads .file a').click();
      await shootAll(shoot, page, 'receive');
      assert.equal(readFileSync(`${folder}/sent here.txt`, 'utf8'), 'sent');
      assert.equal(await page.isVisible('#banner'), false);
      assert.ok(!asked.some((path) => path.startsWith('/api/list/')), String(asked));
      assert.deepEqual(watch.errors, []);
      await context.close();
      const plain = await blank(browser, box, { javaScriptEnabled: false });
      await plain.page.goto(box);
      await plain.page.waitForURL('**/f/');
      await plain.page.setInputFiles('input[name=file]', { name: 'plain.txt', mimeType: 'text/plain', buffer: Buffer.from('plain') });
      const answered = plain.page.waitForResponse((answer) => answer.url().includes('/upload/'));
      await plain.page.click('form[enctype="multipart/form-data"] button');
      assert.equal((await answered).status(), 303);
      assert.equal(readFileSync(`${folder}/plain.txt`, 'utf8'), 'plain');
      assert.deepEqual(plain.watch.errors, []);
      await plain.context.close();
    } finally { child.kill(); }
  },

  async expired({ browser, shoot }) {
    const { child, link: brief } = await shared('--expires', '20s');
    const ended = once(child, 'exit');
    try {
      const { page, context, watch } = await open(browser, brief, phone);
      watch.expected = /ERR_|status of/;
      await page.locator('#banner', { hasText: 'The share has ended' }).waitFor();
      await shootAll(shoot, page, 'expired');
      await ended;
      await page.fill('#q', 'beach');
      await page.locator('#status', { hasText: 'cannot be reached' }).waitFor();
      assert.deepEqual(watch.errors, []);
      await context.close();
    } finally { child.kill(); }
  },
};

await run(flows, { link, shots, only, browser: await launch(), options: phone, start: blank });
