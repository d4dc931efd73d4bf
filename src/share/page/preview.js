// The preview of one file: picture, sound, film or the beginning of a text, with next and previous, download and
// the BLAKE3 checksum on request.
import { bdi, button, bytes, copyText, dialog, h, icon, isAbort, json, labelled, may, moment, on, request, safe, safeText, set } from './dom.js';
import { iconOf } from './list.js';

const TEXT_BYTES = 256 * 1024;

async function beginning(url, entry, signal) {
  if (!entry.bytes) return [h('p.dim', 'This file is empty.')];
  const answer = await request(`${url}?view`, { headers: { Range: `bytes=0-${TEXT_BYTES - 1}` }, signal });
  // A server that ignores the range must not make the page read all of a large file.
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let shown = '';
  for (let got = 0; got < TEXT_BYTES;) {
    const { value, done } = await reader.read();
    if (done) break;
    got += value.length;
    shown += decoder.decode(value, { stream: true });
  }
  reader.cancel().catch(() => {});
  return [
    h('pre', { tabindex: 0, dir: 'auto' }, safeText(shown)),
    entry.bytes > TEXT_BYTES && h('p.dim.note', `The first 256 KiB of ${bytes(entry.bytes)} are shown.`),
  ];
}

// A button that asks for the checksum, and its place. Leaving the dialog gives up waiting.
function checksum(url, signal) {
  const out = h('output.sum');
  const ask = labelled('button.btn.small.ghost', 'hash', 'BLAKE3', { title: 'BLAKE3 of the whole file', async onclick() {
    ask.disabled = true;
    out.classList.remove('bad');
    set(out, h('span.dim', 'Reading the whole file…'));
    try {
      const { blake3 } = await json(`${url}?blake3`, { signal });
      set(out, h('code', safe(blake3)), button('Copy the checksum', 'copy', () => copyText(blake3)));
    } catch (error) {
      ask.disabled = false;
      out.classList.add('bad');
      set(out, error.message);
    }
  } });
  return [ask, out];
}

// `at` is {entry, url, index}; `step(index, by)` gives the neighbouring file or nothing. `moved(url)` is told what
// is shown, so that the address can follow. Resolves when closed, with what was shown last.
export async function preview(at, step, moved) {
  let abort;
  const view = h('div.view');
  const name = h('h2');
  const facts = h('p.dim.note');
  const actions = h('div.actions');
  const side = [['Previous file', 'prev', -1], ['Next file', 'next', 1]].map(([label, look, by]) => button(label, look, () => go(by), 'button.btn.ghost.icon.nav'));

  function fail(message) {
    const type = iconOf(at.entry);
    set(view, h('div.nothing', icon(type, `big t-${type}`), h('p', message)));
  }

  function leave() {
    view.querySelector('video,audio')?.pause();
    abort?.abort();
  }

  async function fill() {
    const { entry, url } = at;
    const { type, scan } = entry;
    leave();
    abort = new AbortController();
    const { signal } = abort;
    set(name, bdi(entry.name));
    set(facts, [bytes(entry.bytes), moment(entry.modified)].filter(Boolean).join(' · '));
    set(actions, may('download') && labelled('a.btn.primary', 'download', 'Download', { href: url, download: true }), ...checksum(url, signal));
    for (const node of side) node.hidden = at.index < 0;
    view.className = `view is-${type}`;
    if (scan === 'infected') fail('The scanner found this file infected. It is not shown.');
    else if (['image', 'video', 'audio'].includes(type)) {
      set(view, h(type === 'image' ? 'img' : type, {
        alt: safe(entry.name), 'aria-label': safe(entry.name), controls: true, preload: 'metadata', playsinline: true, src: `${url}?view`,
        onerror: () => fail('The browser cannot show this file. Open it in another program.'),
      }));
    } else if (type === 'text' || type === 'code') {
      set(view, h('p.dim', 'Loading…'));
      try {
        const kids = await beginning(url, entry, signal);
        if (!signal.aborted) set(view, ...kids);
      } catch (error) {
        if (!isAbort(error)) fail(error.message);
      }
    } else fail('There is no preview for this kind of file.');
  }

  async function go(by) {
    const found = at.index >= 0 && await step(at.index, by).catch(() => {});
    if (!found) return;
    at = found;
    moved(at.url);
    fill();
  }

  await dialog('dialog.preview', 'Preview', (close, node) => {
    on(node, 'keydown', event => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by || event.target.closest('video,audio') || event.altKey || event.ctrlKey || event.metaKey) return;
      go(by);
      event.preventDefault();
    });
    fill();
    return [
      h('header', h('div.grow', name, facts), button('Close', 'x', () => close())),
      h('div.stage', side[0], view, side[1]),
      h('footer', actions),
    ];
  });
  leave();
  return at;
}
