// What the page shows of a virus scan: node tests/browser/scan.mjs LINK SHOTS PID [FLOW...]
// The share must allow uploads and be scanned by the clamd with this PID, which is held up, let go on and killed here.
// It must know the EICAR test file and take at most 1 MiB.
import assert from 'node:assert/strict';
import { MIB, launch, names, open, phone, row, run, shootAll, until } from './browser.mjs';

const [link, shots, pid, ...only] = process.argv.slice(2);
// Put together here lest a scanner finds it in this source.
const eicar = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$', 'EICAR-STANDARD', '-ANTIVIRUS-TEST-FILE!', '$H+H*'].join('');
const send = (page, name, content) => page.setInputFiles('#pick-files', { name, mimeType: 'text/plain', buffer: Buffer.from(content) });
const held = (page, name, state) => page.locator('#held li', { hasText: name }).filter({ hasText: state });
const signal = (name) => process.kill(Number(pid), name);

// Nobody gets a file that is held back, on whatever way.
async function isOutOfReach({ context, page }, name) {
  const at = (path) => new URL(path, link).href;
  const { request } = context;
  for (const query of ['', '?view', '?blake3']) assert.equal((await request.get(at(`/f/${name}${query}`))).status(), 404, `${name}${query}`);
  assert.ok(!(await names(page)).includes(name));
  const list = await (await request.get(at('/api/list/'))).json();
  assert.ok(!list.entries.some((entry) => entry.name === name));
  assert.ok(!(await (await request.get(at(`/api/search?q=${name}`))).text()).includes(`"${name}"`), 'it is not found');
  const zip = await request.get(at('/f/?tar'));
  assert.ok(zip.ok() && !(await zip.body()).includes(name) && !(await zip.body()).includes(eicar), 'it is in no archive');
  const one = await request.post(at('/archive'), { form: { format: 'tar', in: '', item: name }, headers: { Origin: new URL(link).origin } });
  assert.ok(!(await one.body()).includes(eicar), 'it cannot be chosen for one');
}

const flows = {
  async pending({ page, context, browser, shoot }) {
    signal('SIGSTOP');
    try {
      await send(page, 'slow.txt', 'harmless');
      await held(page, 'slow.txt', 'Being scanned').waitFor();
      await isOutOfReach({ context, page }, 'slow.txt');
      await shootAll(shoot, page, 'held-pending');
      const other = await open(browser, link, phone);
      await held(other.page, 'slow.txt', 'Being scanned').waitFor();
      signal('SIGCONT');
      for (const each of [page, other.page]) {
        await row(each, 'slow.txt').locator('.badge', { hasText: 'Scanned: clean' }).waitFor();
        await held(each, 'slow.txt', '').waitFor({ state: 'detached' });
      }
      await page.locator('.uploads li', { hasText: 'slow.txt' }).locator('.badge', { hasText: 'Scanned: clean' }).waitFor();
      assert.equal(await (await context.request.get(new URL('/f/slow.txt', link).href)).text(), 'harmless');
      assert.deepEqual(other.watch.errors, []);
      await other.context.close();
    } finally { signal('SIGCONT'); }
  },

  async infected({ page, context, shoot }) {
    await send(page, 'eicar.com', eicar);
    await held(page, 'eicar.com', 'Infected').filter({ hasText: 'Eicar-Of-This-Test' }).waitFor();
    await page.locator('.uploads li', { hasText: 'eicar.com' }).filter({ hasText: 'Infected' }).waitFor();
    assert.equal(await page.locator('.uploads li a', { hasText: 'eicar.com' }).count(), 0, 'nothing leads to it');
    await isOutOfReach({ context, page }, 'eicar.com');
    await send(page, 'large.bin', Buffer.alloc(2 * MIB, 3));
    await held(page, 'large.bin', 'Not scanned').waitFor();
    await isOutOfReach({ context, page }, 'large.bin');
    await page.reload();
    await held(page, 'eicar.com', 'Infected').waitFor();
    await shootAll(shoot, page, 'held');
  },

  async stopped({ page, context, shoot }) {
    signal('SIGSTOP');
    await send(page, 'unlucky.txt', 'in the middle');
    await held(page, 'unlucky.txt', 'Being scanned').waitFor();
    signal('SIGKILL');
    await held(page, 'unlucky.txt', 'Not scanned').waitFor();
    await isOutOfReach({ context, page }, 'unlucky.txt');
    await send(page, 'late.txt', 'too late');
    await held(page, 'late.txt', 'Not scanned').waitFor();
    await isOutOfReach({ context, page }, 'late.txt');
    await until('both uploads have ended', async () => (await page.locator('.uploads li.is-active').count()) === 0);
    await shootAll(shoot, page, 'held-not-scanned');
  },
};

await run(flows, { link, shots, only, browser: await launch() });
