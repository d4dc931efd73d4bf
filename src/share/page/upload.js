// Getting files into the upload queue (pickers, camera, drag and drop) and the panel that shows how they
// are doing. The uploading itself is in tus.js.
import { $, bdi, body, button, bytes, complain, count, duration, entries, folderName, h, hasFocus, icon, menu, on, request, safe, say, set, tell, warn } from './dom.js';
import { scanBadge } from './list.js';
import { Queue, Upload, ask, heldElsewhere, records } from './tus.js';

const ROWS_MAX = 60;       // uploads shown one by one; the rest is counted
const DRAW_EVERY = 250;    // milliseconds
const RATE_OVER = 5000;    // milliseconds over which the rate is measured
const ORDER = ['failed', 'again', 'active', 'paused', 'waiting', 'done'];
const WORDS = { waiting: 'Waiting', failed: '', done: 'Done', paused: 'Paused · ', active: '' };

// The files of dropped entries one by one, and the folders with nothing in them: [file, path]. Chromium gives a folder in pieces of 100: read until it is empty.
async function* walk(stack, lost) {
  while (stack.length) {
    const entry = stack.pop();
    try {
      if (entry.isFile) yield [await new Promise((good, bad) => { entry.file(good, bad); }), entry.fullPath.slice(1)];
      else {
        const reader = entry.createReader();
        for (let isEmpty = true; ; isEmpty = false) {
          const some = await new Promise((good, bad) => { reader.readEntries(good, bad); });
          if (!some.length) {
            if (isEmpty) yield [null, entry.fullPath.slice(1)];
            break;
          }
          // Files at once, folders later: what is waiting stays small.
          yield* walk(some.filter(one => one.isFile).reverse(), lost);
          stack.push(...some.filter(one => !one.isFile));
        }
      }
    } catch { lost(); }
  }
}

// `where()` gives the folder that is shown, as an href path; `uploaded(upload)` is called when a file has arrived.
export function startUploads(where, uploaded) {
  const queue = new Queue(changed);
  const rows = new Map();
  let timer = 0;
  let rates = [];
  let lock;
  let wanted;
  let held = false;         // after “Pause all”: what is still being added waits too
  let reading = 0;          // changes when the reading of dropped folders has to end

  const head = h('h2', 'Uploads');
  const detail = h('p.note.dim');
  const bar = h('progress', { max: 1, value: 0, 'aria-label': 'All uploads' });
  const list = h('ul');
  const rest = h('p.note.dim');
  const toggleAll = h('button.btn.small', { onclick: pauseAll });
  const clear = h('button.btn.small.ghost', { onclick: () => queue.keep(one => one.state !== 'done') }, 'Clear finished');
  const stop = h('button.btn.small.ghost.bad', { onclick: cancelAll }, 'Cancel all');
  const fold = button('Fold the uploads', 'next', () => fold.setAttribute('aria-expanded', !panel.classList.toggle('folded')), 'button.btn.ghost.icon.fold', { 'aria-expanded': 'true' });
  const panel = h('section.uploads', { 'aria-label': 'Uploads', hidden: true },
    h('header', h('div.grow', head, detail), fold), bar,
    h('div.inside', h('div.actions', toggleAll, stop, clear), list, rest));
  const picker = more => h('input.sr', { type: 'file', tabindex: -1, 'aria-hidden': 'true', onchange: picked, ...more });
  const files = picker({ multiple: true, id: 'pick-files' });
  const folder = picker({ multiple: true, webkitdirectory: true, id: 'pick-folder' });
  const camera = picker({ accept: 'image/*', capture: 'environment', id: 'pick-camera' });
  const film = picker({ accept: 'video/*', capture: 'environment' });
  const veil = h('div.veil', { hidden: true }, h('p', icon('upload', 'big'), h('span')));
  body.append(panel, files, folder, camera, film, veil);

  function add(file, relative = '', into = where()) {
    const again = queue.list.find(one => one.state === 'again' && one.fits(file, relative));
    if (again) {
      again.file = file;
      queue.resume(again);
      return true;
    }
    const upload = new Upload(file, into, relative.includes('/') ? relative : '');
    if (held) upload.state = 'paused';
    const added = queue.add(upload);
    if (!added) warn('Too many files at once. Add the others when some have arrived.');
    return added;
  }

  const addAll = some => [...some].every(file => add(file, file.webkitRelativePath));

  function picked(event) {
    const input = event.target;
    if (wanted && input.files.length === 1 && !wanted.fits(input.files[0])) warn(`That is another file: ${safe(wanted.name)} with ${bytes(wanted.size)} was being sent.`);
    else addAll(input.files);
    wanted = null;
    input.value = '';
  }

  // Makes an empty folder, and first those above it. What is there already stays as it is.
  async function makeFolder(relative, into) {
    let url = `/f/${into}`;
    for (const name of relative.split('/')) {
      url += `${encodeURIComponent(name)}/`;
      await request(url, { method: 'PUT' });
    }
  }

  async function take(dropped) {
    let lost = 0;
    let n = 0;
    let folders = 0;
    const into = where();
    const mine = reading;
    for await (const [file, relative] of walk(dropped.reverse(), () => { lost++; })) {
      if (mine !== reading) break;
      if (!file) {
        folders++;
        await makeFolder(relative, into).catch(complain);
      } else if (add(file, relative, into)) n++;
      else break;
    }
    if (n) tell(`${count(n, 'file')} added`);
    else if (!folders) say('No files were found in what was dropped.');
    if (lost) warn(`${entries(lost)} could not be read and will not be sent.`);
  }

  function changed(upload) {
    if (upload) {
      if (upload.state === 'done') uploaded(upload);
      if (upload.state === 'failed') warn(`${safe(upload.name)}: ${upload.note}`);
      const n = queue.active || queue.are('waiting').length ? 0 : queue.are('done').length;
      if (n) tell(`${count(n, 'file')} uploaded`);
    }
    timer ||= setTimeout(draw, DRAW_EVERY);
    awake();
  }

  // Keeps a phone from falling asleep in the middle of an upload.
  async function awake() {
    if (queue.active) lock ||= navigator.wakeLock?.request('screen').catch(() => {});
    else if (lock) {
      (await lock)?.release();
      lock = null;
    }
  }

  function pauseAll() {
    const going = queue.are('active', 'waiting');
    held = going.length > 0;
    for (const one of going) {
      if (one.state === 'active') one.halt('paused'); else one.state = 'paused';
    }
    if (held) changed();
    else queue.are('paused').forEach(one => queue.resume(one));
  }

  async function cancelAll() {
    const going = queue.list.filter(one => one.state !== 'done');
    held = false;
    reading++;
    queue.keep(one => one.state === 'done');
    for (const one of going) await one.cancel();
  }

  function rate(sent) {
    const now = performance.now();
    if (sent < rates.at(-1)?.sent) rates = [];
    rates.push({ now, sent });
    while (rates.length > 2 && now - rates[0].now > RATE_OVER) rates.shift();
    const span = now - rates[0].now;
    return span > 300 ? (sent - rates[0].sent) * 1000 / span : 0;
  }

  function draw() {
    timer = 0;
    const n = queue.list.length;
    const sum = { all: 0, sent: 0, done: 0, failed: 0, active: 0, waiting: 0, again: 0, paused: 0 };
    for (const one of queue.list) {
      sum[one.state]++;
      if (one.state === 'again') continue;
      sum.all += one.size;
      sum.sent += one.sent;
    }
    const left = sum.active + sum.waiting;
    if (!queue.active) rates = [];
    const speed = queue.active && rate(sum.sent);
    panel.hidden = !n;
    body.classList.toggle('uploading', n);
    bar.value = sum.all ? sum.sent / sum.all : left ? 0 : 1;
    bar.hidden = !sum.all && sum.again > 0;
    set(head, left ? `Uploading ${count(left, 'file')}`
      : sum.paused ? `${count(sum.paused, 'upload')} paused`
        : sum.failed ? `${count(sum.failed, 'upload')} failed`
          : sum.again ? 'Unfinished uploads' : `${count(sum.done, 'file')} uploaded`);
    set(detail, sum.all || !sum.again
      ? `${bytes(sum.sent)} of ${bytes(sum.all)}${speed ? ` · ${bytes(speed)}/s` : ''}${speed && left ? ` · ${duration((sum.all - sum.sent) / speed)} left` : ''}`
      : 'The page was reloaded before they were done.');
    set(toggleAll, left ? 'Pause all' : 'Resume all');
    toggleAll.hidden = !left && !sum.paused;
    stop.hidden = n === sum.done;
    clear.hidden = !sum.done;
    const shown = ORDER.flatMap(state => queue.are(state).slice(0, ROWS_MAX)).slice(0, ROWS_MAX);
    for (const [one, row] of rows) if (!shown.includes(one)) { row.node.remove(); rows.delete(one); }
    shown.forEach((one, at) => {
      if (!rows.has(one)) rows.set(one, makeRow(one));
      const { node, draw: drawRow } = rows.get(one);
      drawRow();
      if (list.children[at] !== node) list.insertBefore(node, list.children[at] || null);
    });
    set(rest, n > shown.length ? `and ${count(n - shown.length, 'more file', 'more files')}` : '');
    if (queue.active) timer = setTimeout(draw, DRAW_EVERY);
  }

  function makeRow(one) {
    const note = h('p.note.dim');
    const part = h('progress', { max: 1, 'aria-label': safe(one.name) });
    const name = h('p.file', bdi(one.name));
    const acts = h('div.acts');
    const node = h('li', h('div.grow', name, part, note), acts);
    const remove = () => queue.keep(other => other !== one);
    const resume = () => queue.resume(one);
    const does = {
      active: ['Pause', 'pause', () => { one.halt('paused'); changed(); }],
      paused: ['Resume', 'play', resume],
      failed: ['Try again', 'retry', resume],
      again: ['Choose the file', 'folder', () => { wanted = one; files.click(); }],
    };
    let last;
    return { node, draw() {
      const { state, scan, sent, size } = one;
      const isDone = state === 'done';
      part.value = size ? sent / size : +isDone;
      part.hidden = isDone;
      // A file that came whole and has no address is one that the scan keeps from everybody.
      const isKept = isDone && scan && !one.href;
      const text = one.note || (isKept ? 'Held back by the virus scan' : WORDS[state]) + (state === 'active' || state === 'paused' ? `${bytes(sent)} of ${bytes(size)}` : ` · ${bytes(size)}`);
      if (note.textContent !== text) set(note, text);
      if (last === state + scan) return;
      last = state + scan;
      node.className = `is-${state}`;
      if (isDone) {
        set(name, isKept ? icon('x', 'bad') : icon('check', 'good'), one.href ? h('a', { href: `/f/${one.href}` }, bdi(one.name)) : bdi(one.name));
        if (isKept || scan !== 'not scanned') name.append(' ', scanBadge(scan) || '');
      }
      const had = hasFocus(acts);
      set(acts, does[state] && button(...does[state]),
        isDone ? button('Remove from the list', 'x', remove) : button('Cancel', 'x', () => { one.cancel(); remove(); }));
      if (had) acts.querySelector('button').focus();
    } };
  }

  // Uploads that a reload cut off: the file itself cannot be kept, so it has to be chosen again.
  async function restore() {
    const elsewhere = await heldElsewhere();
    for (const [id, record] of Object.entries(records.all())) {
      if (elsewhere.has(id)) continue;
      try {
        const answer = await ask('HEAD', encodeURIComponent(id));
        const upload = new Upload(null, record.folder, '', { ...record, id });
        upload.sent = +answer.headers.get('Upload-Offset');
        upload.state = 'again';
        upload.note = `Choose the file again to go on from ${bytes(upload.sent)} of ${bytes(upload.size)}.`;
        queue.add(upload);
      } catch (error) {
        if ([401, 403, 404, 410].includes(error.status)) records.drop(id);
      }
    }
  }

  // Something with files is over the page, or is not any more.
  let depth = 0;
  const drag = (type, step, run) => on(window, type, event => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    depth = Math.max(0, depth + step);
    if (type !== 'dragleave') event.preventDefault();
    run?.(event.dataTransfer);
    veil.hidden = !depth;
    set(veil.querySelector('span'), `Drop to upload into ${folderName(where()) || 'this share'}`);
  });
  drag('dragenter', 1);
  drag('dragleave', -1);
  drag('dragover', 0, data => { data.dropEffect = 'copy'; });
  drag('drop', -Infinity, data => {
    // The list of items is only valid until this listener ends.
    const dropped = [...data.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
    if (dropped.length) take(dropped); else addAll(data.files);
  });
  function choose() {
    const items = [['Files', 'other', () => files.click()], ['A whole folder', 'folder', () => folder.click()]];
    if (matchMedia('(pointer: coarse)').matches) items.push(['Take a photo', 'camera', () => camera.click()], ['Record a video', 'video', () => film.click()]);
    menu($('upload-open'), 'Upload', items);
  }

  on($('upload-open'), 'click', choose);
  on(window, 'beforeunload', event => { if (queue.active) { event.preventDefault(); event.returnValue = ''; } });
  restore();
  return {
    choose,
    scanned(href, state) {
      for (const one of queue.list) if (one.href === href) {
        one.scan = state;
        if (state === 'infected') one.href = '';
      }
      changed();
    },
  };
}
