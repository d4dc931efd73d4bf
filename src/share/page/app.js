// The page of a share: takes over the listing that the server rendered, follows the address bar, and joins the
// grid, search, preview, uploads and chat. What each of them does is in its own file.
import { $, bdi, body, button, copyText, count, dialog, entries, find, folderName, h, hasCommand, hasFocus, isAbort, json, may, menu, on, openDialog, readable, request, safe, say, set, tell, warn } from './dom.js';
import { Folder, Search } from './source.js';
import { Grid, isFolder, scanBadge, selectionBar } from './list.js';
import { preview } from './preview.js';
import { startUploads } from './upload.js';
import { startChat } from './chat.js';

const KINDS = { '': 'All', image: 'Images', video: 'Videos', audio: 'Audio', text: 'Text', code: 'Code', documents: 'Documents', archive: 'Archives' };
const SEARCH_AFTER = 200; // milliseconds after the last key
const KEYS = { '↑ ↓': 'move', 'Page ↑ ↓, Home, End': 'move far', Enter: 'open', Space: 'select', 'Shift + ↑ ↓': 'select several', 'Ctrl + A': 'select all', Esc: 'clear, close or stop', Backspace: 'up one folder', M: 'menu of the row', Delete: 'delete', '← →': 'previous and next in the preview', '/': 'search', U: 'upload', C: 'chat', '?': 'this help' };
const DEFAULTS = { sort: 'name', order: 'asc', type: '', q: '', here: '' };
const VIEW = '#view=';

let share = { title: '', host: '', rights: [] };
let view;                 // what is shown: the path and what DEFAULTS has
let folder;               // the listing under a search stays for going back to it
let uploads;
let chat;
let previewed;            // the open preview's promise
let searchTimer;
let relistTimer;
let selection = () => {};

const grid = new Grid({
  open: (entry, url, index) => (isFolder(entry) ? goTo(url) : openPreview(entry, url, index)),
  menu: rowMenu,
  selection: () => selection(),
});

function viewFromAddress() {
  const query = new URLSearchParams(location.search);
  const next = { path: location.pathname.slice(3) };
  for (const key in DEFAULTS) next[key] = query.get(key) || DEFAULTS[key];
  return next;
}

function address(to) {
  const query = String(new URLSearchParams(Object.entries(to).filter(([key, value]) => key in DEFAULTS && value !== DEFAULTS[key])));
  return `/f/${to.path}${query && `?${query}`}`;
}

// Keeps where the page is scrolled to with its place in the history; another fragment may take the present one's place.
const remember = () => history.replaceState({ ...history.state, y: scrollY, active: grid.active }, '');
const fragment = (hash = '') => history.replaceState(history.state, '', location.pathname + location.search + hash);
const fragmentOf = url => VIEW + url.slice(3);
const parentOf = path => path.replace(/[^/]*\/?$/, '');

// Goes to another view; `change` replaces parts of the present one.
function go(change, replace) {
  const moves = 'path' in change;
  const next = { ...view, q: '', here: '', ...(moves && { type: '' }), ...change };
  remember();
  history[replace ? 'replaceState' : 'pushState']({}, '', address(next));
  return load(next, { focus: moves });
}

async function load(next, { y = 0, active = 0, focus, again } = {}) {
  const moved = view?.path !== next.path;
  const shown = source => () => { if (source() === grid.source) { grid.later(); drawStatus(); } };
  view = next;
  body.dataset.path = view.path;
  $('files').elements.in.value = view.path;
  $('scope').hidden = !view.q || !view.path;
  $('scope').firstElementChild.checked = view.here;
  if (document.activeElement !== $('q')) $('q').value = view.q;
  body.classList.toggle('searching', view.q);
  drawFilters();
  drawSort();
  // Whoever may only add something is told nothing of what is here.
  if (!may('view')) return drawStatus();
  if (view.q) {
    const found = new Search(view, shown(() => found));
    if (moved) { folder?.stop(); folder = null; drawCrumbs([]); }
    scrollTo(0, 0);
    grid.show(found);
    drawStatus();
    await found.run();
    if (found === grid.source && found.done) tell(statusText());
    return;
  }
  const listing = new Folder(view, shown(() => listing));
  const slow = setTimeout(() => $('main').setAttribute('aria-busy', true), 150);
  const before = folder;
  folder = listing;
  try {
    await listing.load(0);
  } catch (error) {
    if (folder === listing && !isAbort(error)) banner(error.status === 404 ? 'This folder is not there any more.' : error.message, () => load(viewFromAddress()));
    return;
  } finally {
    clearTimeout(slow);
    $('main').removeAttribute('aria-busy');
    before?.stop();
  }
  if (folder !== listing) return listing.stop();
  if (!$('banner').dataset.keep) $('banner').hidden = true;
  const kept = again && { selected: new Map(grid.selected), all: grid.all };
  const focused = hasFocus($('rows')) || focus;
  grid.show(listing, active);
  if (kept) { Object.assign(grid, kept); grid.refresh(); }
  drawCrumbs(listing.trail);
  drawStatus();
  if (!again) scrollTo(0, y);
  grid.render();
  if (focused && listing.total && !again) grid.focus(active);
  else if (focus) $('files').focus({ preventScroll: true });
  if (focus) tell(`${folderName(view.path) || safe(share.title)}, ${entries(listing.total)}`);
}

function statusText() {
  const { total, error, running, done } = grid.source;
  if (!view.q) return entries(total) + (view.type && ` (${KINDS[view.type] || safe(view.type)} only)`);
  if (error) return error.message;
  const hits = count(total, 'hit');
  if (running) return `Searching… ${hits} so far`;
  return done ? `${hits} among ${entries(done.looked_at)} looked at${done.cut ? '; there are more, so add a word' : ''}` : `Stopped. ${hits}`;
}

function drawStatus() {
  const { total, running, error, held } = grid.source;
  const none = !total && !running;
  set($('status'), statusText());
  $('status').classList.toggle('bad', !!error);
  $('search-stop').hidden = !running;
  $('list').hidden = none;
  $('empty').hidden = !none;
  set($('empty'), view.q ? 'Nothing has such a name.' : view.type ? 'Nothing of this kind is here.' : `${may('view') ? 'This folder is empty' : 'Only the owner sees what arrives here'}.${may('upload') ? ' Drop files here, or press Upload.' : ''}`);
  // Uploads that a virus scan has not let through: what they are called, and why.
  $('held').hidden = !held.length;
  set($('held'), ...held.map(one => h('li', bdi(one.name), scanBadge(one.scan), h('span', safe(one.why || '')))));
}

function drawCrumbs(trail) {
  const parts = view.path.split('/').slice(0, -1);
  const crumb = (name, at) => h('li', h('a', { href: `/f/${parts.slice(0, at).map(part => `${part}/`).join('')}`, 'aria-current': at === parts.length && 'page' }, bdi(name)));
  set($('crumbs').firstElementChild, crumb(share.title || 'Top', 0), ...parts.map((part, at) => crumb(trail[at]?.name ?? readable(part), at + 1)));
  document.title = `${folderName(view.path) || safe(share.title)} – linerate`;
  chat?.retitle();
  for (const kind of ['zip', 'tar']) $(`get-${kind}`).href = `/f/${view.path}?${kind}`;
}

function drawFilters() {
  if (!$('filters').firstChild) $('filters').append(...Object.entries(KINDS).map(([type, label]) => h('button.chip', { 'data-type': type, onclick: () => go({ type, q: view.q, here: view.here }, true) }, label)));
  for (const chip of $('filters').children) chip.setAttribute('aria-pressed', chip.dataset.type === view.type);
}

function drawSort() {
  for (const head of document.querySelectorAll('[data-sort]')) {
    const { sort } = head.dataset;
    const order = view.sort === sort && !view.q && view.order;
    head.setAttribute('aria-sort', order ? `${order}ending` : 'none');
    head.firstElementChild.href = address({ ...view, q: '', here: '', sort, order: order ? (order === 'asc' ? 'desc' : 'asc') : sort === 'name' ? 'asc' : 'desc' });
  }
}

function banner(text, retry, keep) {
  set($('banner'), h('span.grow', text), retry && h('button.btn.small', { onclick: retry }, 'Try again'));
  if (keep) $('banner').dataset.keep = 1;
  $('banner').hidden = false;
}

async function step(index, by) {
  const { source } = grid;
  for (let at = index + by; at >= 0 && at < source.total; at += by) {
    const entry = await source.entry(at);
    if (entry && !isFolder(entry)) return { ...grid.item(entry), index: at };
  }
}

// The preview has an address of its own (#view=…), so that going back closes it and a reload shows it again.
async function openPreview(entry, url, index, isThere) {
  remember();
  if (!isThere) history.pushState({ ...history.state, preview: true }, '', fragmentOf(url));
  previewed = preview({ entry, url, index }, step, to => fragment(fragmentOf(to)));
  const last = await previewed;
  previewed = null;
  if (location.hash.startsWith(VIEW)) {
    if (history.state?.preview) history.back(); else fragment();
  }
  grid.focus(last.index);
}

// A preview that the address asks for: after a reload, or a link from the chat.
async function previewFromAddress() {
  if (!location.hash.startsWith(VIEW) || !may('view')) return;
  const path = location.hash.slice(VIEW.length);
  const url = `/f/${path}`;
  for (let index = 0; index < Math.min(grid.source.total, 500); index++) {
    const entry = grid.get(index);
    if (entry && grid.url(entry) === url) return openPreview(entry, url, index, true);
  }
  try {
    const { headers } = await request(`${url}?view`, { method: 'HEAD' });
    const [kind] = headers.get('Content-Type').split('/');
    const name = folderName(path);
    openPreview({ name, bytes: +headers.get('Content-Length'), modified: headers.get('Last-Modified'), type: kind in KINDS ? kind : 'other' }, url, -1, true);
  } catch {
    fragment();
    warn('The file is not there any more.');
  }
}

// Goes to a folder, or to a file in its folder.
async function goTo(url) {
  if (url.endsWith('/')) return go({ path: url.slice(3) });
  await go({ path: parentOf(url).slice(3) });
  history.pushState({ preview: true }, '', fragmentOf(url));
  return previewFromAddress();
}

function rowMenu(anchor, entry, url, index) {
  const inside = isFolder(entry);
  menu(anchor, safe(entry.name), [
    inside ? ['Open', 'folder', () => goTo(url)] : ['Preview', 'image', () => openPreview(entry, url, index)],
    ...(!may('download') ? [] : inside ? ['zip', 'tar'].map(kind => [`Download as .${kind}`, 'download', `${url}?${kind}`]) : [['Download', 'download', url]]),
    entry.folder !== undefined && ['Go to its folder', 'folder', () => goTo(parentOf(url))],
    [grid.selected.has(url) ? 'Deselect' : 'Select', 'check', () => grid.toggle(index)],
    ['Copy link', 'copy', () => copyText(location.origin + url)],
    may('chat') && ['Send to the chat', 'chat', () => chat.offer(url)],
    may('delete') && ['Delete', 'trash', () => remove([{ entry, url }]), 'bad'],
  ].filter(Boolean));
}

function archive(format) {
  const items = grid.chosen();
  const { path } = grid.source;
  let way = h('form', { method: 'post', action: '/archive', hidden: true },
    ...[['format', format], ['in', path], ...items.map(({ url }) => ['item', url.slice(3 + path.length)])].map(([name, value]) => h('input', { name, value })));
  if (grid.all) way = h('a', { href: `/f/${path}?${format}` });
  else if (items.length === 1 && !isFolder(items[0].entry) && format === 'zip') way = h('a', { href: items[0].url, download: true });
  else say(`The .${format} is being made while it downloads.`);
  body.append(way);
  if (way.submit) way.submit(); else way.click();
  setTimeout(() => way.remove(), 1000);
}

async function remove(items) {
  const n = items.length;
  if (!n) return grid.all && warn('Everything is selected. To delete, select fewer entries.');
  const what = n === 1 ? safe(items[0].entry.name) : entries(n);
  const sure = await dialog('dialog.small', `Delete ${n === 1 ? 'this' : what}?`, close => [
    h('p', ...items.slice(0, 5).flatMap(({ entry }, at) => [at && ', ', bdi(entry.name)]), n > 5 && ' …'),
    h('p.dim', 'It is gone for good from the machine that shares it. A folder has to be empty.'),
    h('div.actions.end', h('button.btn', { autofocus: true, onclick: () => close() }, 'Keep'), h('button.btn.danger', { onclick: () => close(true) }, 'Delete')),
  ]);
  if (!sure) return;
  let failed;
  let gone = 0;
  for (const { url } of items) {
    try { await request(url, { method: 'DELETE' }); gone++; } catch (error) { failed = error; }
  }
  if (failed) warn(`${gone} deleted, ${n - gone} not: ${failed.message}`);
  else say(`${what} deleted`);
  grid.clear();
  relist(view.path);
}

// Shows a folder anew, if it is the one that is shown.
function relist(path) {
  if (path !== view.path) return;
  clearTimeout(relistTimer);
  relistTimer = setTimeout(() => { if (!view.q) load(view, { active: grid.active, again: true }); }, 300);
}

function passOn() {
  const others = (share.others || []).filter(link => link !== share.link);
  const line = link => h('div.copyline',
    h('input', { readonly: true, value: link, 'aria-label': 'Link', onfocus: event => event.target.select() }),
    button('Copy the link', 'copy', () => copyText(link), 'button.btn.icon'));
  dialog('dialog.small', 'Pass it on', () => [
    h('p', 'Scan this with a phone in the same network, or send the link. Whoever has it can do what you can.'),
    h('img.qr', { src: '/qr.svg', alt: 'QR code of the link', width: 220, height: 220 }),
    line(share.link || location.origin),
    others[0] && h('details', h('summary', 'Other addresses'), ...others.map(line)),
    share.password && h('p.dim.note', 'They will be asked for the password.'),
  ]);
}

function help() {
  const mayNot = what => ['upload', 'chat', 'delete'].includes(what) && !may(what);
  dialog('dialog.small', 'Keys and help', () => [
    h('dl.keys', ...Object.entries(KEYS).flatMap(([keys, what]) => (mayNot(what) ? [] : [h('dt', h('kbd', keys)), h('dd', what)]))),
    h('p.dim.note', `linerate ${safe(share.version || '')} on ${safe(share.host)}. You may: ${share.rights.join(', ')}.`),
  ]);
}

function keys(event) {
  const { target, key } = event;
  const field = $('q');
  if (openDialog() || event.defaultPrevented) return;
  if (key === 'Escape') {
    if (grid.all || grid.selected.size) grid.clear();
    else { field.value = ''; searchNow(); }
    return;
  }
  if (target.closest('input:not([type=checkbox]),textarea') || event.altKey) {
    if (target === field && key === 'ArrowDown') { event.preventDefault(); grid.focus(0); }
    return;
  }
  const here = grid.get(grid.active);
  const run = (hasCommand(event) ? { a: () => grid.selectAll() } : {
    '/': () => { field.focus(); field.select(); },
    '?': help,
    u: uploads?.choose,
    c: may('chat') && (() => chat.open()),
    Backspace: view.path && (() => go({ path: parentOf(view.path) })),
    Delete: may('delete') && (() => remove(grid.all || grid.selected.size ? grid.chosen() : here ? [grid.item(here)] : [])),
    ArrowDown: document.activeElement === body && (() => grid.focus(grid.active)),
  })[key];
  if (!run) return;
  event.preventDefault();
  run();
}

// Searches what is in the field; an empty one ends the search.
function searchNow() {
  clearTimeout(searchTimer);
  const q = $('q').value.trim();
  if (q !== view.q) go(q ? { q, type: view.type, here: view.here } : {}, view.q);
}

// A page from the history.
const resume = focus => load(viewFromAddress(), { ...history.state, focus }).then(previewFromAddress);

function wire() {
  history.scrollRestoration = 'manual';
  on(window, 'popstate', () => {
    const viewing = location.hash.startsWith(VIEW);
    if (!viewing) find('dialog.preview')?.close();
    if (!view || address(viewFromAddress()) !== address(view)) resume(true);
    else if (!previewed) previewFromAddress();
  });
  on(window, 'pagehide', remember);
  on(document, 'keydown', keys);
  on(document, 'click', event => {
    const link = event.target.closest('.crumbs a, .brand, [data-sort] a, .uploads .file a');
    if (!link || event.defaultPrevented || hasCommand(event) || event.shiftKey) return;
    event.preventDefault();
    const { pathname, searchParams } = new URL(link.href);
    if (link.closest('[data-sort]')) go({ sort: searchParams.get('sort') || 'name', order: searchParams.get('order') || 'asc' }, true);
    else goTo(pathname);
  });
  for (const form of ['search', 'files']) on($(form), 'submit', event => event.preventDefault());
  on($('search'), 'submit', searchNow);
  on($('q'), 'input', () => { clearTimeout(searchTimer); searchTimer = setTimeout(searchNow, SEARCH_AFTER); });
  on($('search-stop'), 'click', () => { grid.source.stop(); drawStatus(); });
  on($('scope'), 'change', event => go({ q: view.q, type: view.type, here: event.target.checked ? '1' : '' }, true));
  on($('pass-open'), 'click', passOn);
  on($('help-open'), 'click', help);
  const top = find('.top');
  new ResizeObserver(() => document.documentElement.style.setProperty('--top', `${getComputedStyle(top).position === 'sticky' ? top.offsetHeight : 0}px`)).observe(top);
}

async function start() {
  document.documentElement.classList.add('live');
  wire();
  try {
    share = await json('/api/share');
    body.dataset.rights = share.rights.join(' ');
  } catch (error) { banner(error.message, () => location.reload()); }
  selection = selectionBar(grid, archive, remove);
  const shown = resume();
  if (may('upload')) uploads = startUploads(() => view.path, upload => relist(upload.folder));
  chat = startChat({
    changed: relist,
    scan(href, state) {
      grid.scanned(`/f/${href}`, state);
      uploads?.scanned(href, state);
      relist(parentOf(href));
    },
    bye: why => banner(why || 'The share has ended.', null, true),
    go: goTo,
  }, share);
  await shown;
}

start();
