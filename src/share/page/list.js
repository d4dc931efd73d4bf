// The grid of entries: virtual scrolling, the active row, selection and the keys that belong to rows.
// It shows any source of source.js; what opening a row means is said by the `hooks` given to it.
import { $, bdi, body, button, bytes, complain, count, day, entries, h, hasCommand, hasFocus, icon, labelled, may, moment, on, safe, set, tell, warn } from './dom.js';

const OVERSCAN = 12;              // rows made beyond what is in sight, above and below
const HEIGHT_MAX = 8e6;           // pixels; browsers cut taller boxes, so longer lists are scaled
const SELECT_MAX = 10_000;        // entries in one selection

export const isFolder = entry => entry.kind === 'folder';
export const iconOf = entry => (isFolder(entry) ? 'folder' : $(`i-${entry.type}`) ? entry.type : 'other');
const SCAN = { pending: ['Being scanned', 'dim'], clean: ['Scanned: clean', 'good'], infected: ['Infected', 'bad'], 'not scanned': ['Not scanned', 'dim'] };

export function scanBadge(state) {
  const [text, cls] = SCAN[state] || [];
  return text && h(`span.badge.${cls}`, text);
}

const rowOf = event => event.target.closest('tr');
const indexOf = row => Number(row.dataset.index);

export class Grid {
  body = $('rows');
  source = { total: 0, held: [], get() {}, stop() {} }; // until something is shown
  table = $('list');
  rows = new Map();               // index → <tr> that is in the document
  active = 0;
  anchor = 0;
  selected = new Map();           // url → {entry, url}
  all = false;                    // the whole folder, when it has more entries than a selection holds

  // `hooks` are open(entry, url, index), menu(anchor, entry, url, index) and selection().
  constructor(hooks) {
    Object.assign(this, hooks);
    on(window, 'scroll', () => this.later(), { passive: true });
    on(window, 'resize', () => { this.height = 0; this.later(); });
    on(this.body, 'click', event => this.clicked(event));
    on(this.body, 'keydown', event => this.key(event));
    on(this.body, 'focusin', event => {
      const row = rowOf(event);
      if (row) this.setActive(indexOf(row));
    });
    on(this.body, 'contextmenu', event => {
      const row = rowOf(event);
      if (!row || event.target.closest('a') || event.shiftKey) return;
      event.preventDefault();
      this.openMenu(indexOf(row));
    });
  }

  get(index) { return this.source.get(index); }
  chosen() { return [...this.selected.values()]; }

  // An entry with its address.
  item(entry) {
    const slash = isFolder(entry) && !entry.href.endsWith('/') ? '/' : '';
    return { entry, url: `/f/${this.source.path}${entry.href}${slash}` };
  }

  url(entry) { return this.item(entry).url; }

  // Shows another source from its start, or from `index` when coming back.
  show(source, index = 0) {
    this.source.stop();
    this.source = source;
    this.anchor = index;
    this.deselect();
    this.selection();
    const focused = hasFocus(this.body);
    set(this.body);
    this.rows.clear();
    this.body.classList.add('virtual');
    this.active = Math.max(0, Math.min(index, source.total - 1));
    this.height = 0;
    this.render();
    if (focused) this.focus(this.active);
  }

  later() {
    this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.render(); });
  }

  // The part of the list in sight: first row, pixels from the top of the list, and the scale for very long lists.
  sight() {
    if (!this.height) {
      // How many pixels a row takes follows from the style sheet, so that zoom and text size are right.
      const probe = h('tr.row.probe', { 'aria-hidden': 'true' });
      this.body.append(probe);
      this.height = probe.getBoundingClientRect().height || 48;
      probe.remove();
    }
    const total = this.source.total * this.height;
    const shown = Math.min(total, HEIGHT_MAX);
    const above = Math.max(0, -this.body.getBoundingClientRect().top);
    const scale = total > shown ? (total - innerHeight) / (shown - innerHeight) : 1;
    return { shown, scale, first: Math.floor(above * scale / this.height), top: index => above + index * this.height - above * scale };
  }

  render() {
    if (!this.source.need) return;
    const { total } = this.source;
    const { shown, first, top } = this.sight();
    this.body.style.height = `${shown}px`;
    this.table.setAttribute('aria-rowcount', total + 1);
    const from = Math.max(0, first - OVERSCAN);
    const to = Math.min(total, first + Math.ceil(innerHeight / this.height) + OVERSCAN);
    const keep = hasFocus(this.body) && this.active < total ? this.active : -1;
    for (const [index, row] of this.rows) {
      if ((index < from || index >= to) && index !== keep) {
        row.remove();
        this.rows.delete(index);
      }
    }
    let after = null;
    const place = index => {
      const entry = this.get(index);
      let row = this.rows.get(index);
      if (!row) {
        row = h('tr.row', { role: 'row', 'aria-rowindex': index + 2, tabindex: -1, 'data-index': index });
        this.rows.set(index, row);
        this.body.insertBefore(row, after ? after.nextSibling : this.body.firstChild);
        this.fill(row, index, entry);
      } else if (row.dataset.empty && entry) this.fill(row, index, entry);
      row.style.transform = `translateY(${Math.round(top(index))}px)`;
      after = row;
    };
    if (keep >= 0 && keep < from) place(keep);
    for (let index = from; index < to; index++) place(index);
    if (keep >= to) place(keep);
    this.reach(0, this.rows.has(this.active) ? this.active : from);
    this.source.need(from, to);
  }

  // Whether Tab comes to a row.
  reach(tabIndex, index = this.active) {
    const row = this.rows.get(index);
    if (row) row.tabIndex = tabIndex;
    return row;
  }

  fill(row, index, entry) {
    const cells = (...kids) => set(row, ...['check', 'name', 'size', 'date', 'more'].map((cls, at) => h(`td.c-${cls}`, { role: 'gridcell' }, ...[kids[at]].flat())));
    if (!entry) {
      row.dataset.empty = '1';
      return cells('', h('span.ghost-line', { 'aria-label': 'Loading' }));
    }
    delete row.dataset.empty;
    const url = this.url(entry);
    const name = safe(entry.name);
    const chosen = this.all || this.selected.has(url);
    row.setAttribute('aria-selected', chosen);
    const box = h('input', { type: 'checkbox', name: 'item', value: entry.href, tabindex: -1, 'aria-label': `Select ${name}` });
    box.checked = chosen;
    const type = iconOf(entry);
    const link = h('a.name', { href: url, tabindex: -1, title: name, draggable: 'false' }, icon(type, `t-${type}`),
      h('span.label', bdi(name), entry.folder !== undefined && h('span.in', 'in ', bdi(entry.folder || 'the top folder'))));
    cells(
      h('label.check', box),
      [link, scanBadge(entry.scan)],
      isFolder(entry) ? h('span.dim', 'Folder') : bytes(entry.bytes),
      h('time', { datetime: entry.modified, title: moment(entry.modified) }, day(entry.modified)),
      button(`More for ${name}`, 'more', () => this.openMenu(index), 'button.btn.ghost.icon', { tabindex: -1, 'aria-haspopup': 'menu' }));
  }

  refresh() {
    for (const [index, row] of this.rows) this.fill(row, index, this.get(index));
    this.selection();
  }

  openMenu(index) {
    const entry = this.get(index);
    const row = this.rows.get(index);
    if (!entry || !row) return;
    this.setActive(index);
    this.menu(row.lastChild, entry, this.url(entry), index);
  }

  clicked(event) {
    const row = rowOf(event);
    const index = row && indexOf(row);
    const entry = row && this.get(index);
    if (!entry || event.target.closest('button')) return;
    if (event.shiftKey) {
      event.preventDefault();
      getSelection().removeAllRanges();
      this.extend(index);
    } else if (event.target.closest('.c-check')) {
      if (event.target.tagName === 'INPUT') this.toggle(index);
    } else if (event.target.closest('a')) {
      if (hasCommand(event) || event.button) return;
      event.preventDefault();
      this.setActive(index);
      this.open(entry, this.url(entry), index);
    } else {
      this.focus(index);
      if (hasCommand(event)) this.toggle(index);
    }
  }

  key(event) {
    const { active } = this;
    const { key, shiftKey } = event;
    if (event.altKey) return;
    const page = Math.max(1, Math.floor(innerHeight * 0.7 / this.height));
    const last = this.source.total - 1;
    const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: last }[key];
    const entry = event.target.tagName === 'TR' && this.get(active);
    if (to !== undefined && !hasCommand(event)) {
      const next = Math.max(0, Math.min(last, to));
      if (shiftKey) this.extend(next);
      this.focus(next);
    } else if (key === 'Enter' && entry) this.open(entry, this.url(entry), active);
    else if (key === ' ' && entry) {
      if (shiftKey) this.extend(active); else this.toggle(active);
    } else if (key === 'ContextMenu' || (key === 'F10' && shiftKey) || key === 'm') this.openMenu(active);
    else return;
    event.preventDefault();
  }

  setActive(index) {
    this.reach(-1);
    this.active = index;
    return this.reach(0);
  }

  // Brings a row into sight, below the bars that stick to the top, and focuses it.
  focus(index) {
    if (index < 0 || index >= this.source.total) return;
    const { scale, top } = this.sight();
    const y = this.body.getBoundingClientRect().top + top(index);
    const first = Math.max(0, this.table.tHead.getBoundingClientRect().bottom) + 4;
    const last = innerHeight - ($('selection')?.offsetHeight || 0) - 20 - this.height;
    const by = y < first ? y - first : Math.max(0, y - last);
    if (by) scrollBy({ top: by / scale, behavior: 'instant' });
    this.setActive(index);
    this.render();
    this.setActive(index)?.focus({ preventScroll: true });
  }

  toggle(index) {
    const entry = this.get(index);
    if (!entry) return;
    if (this.all) this.deselect();
    const item = this.item(entry);
    if (!this.selected.delete(item.url)) {
      if (this.selected.size < SELECT_MAX) this.selected.set(item.url, item);
      else this.tooMany();
    }
    this.anchor = index;
    this.refresh();
  }

  tooMany() { warn(`A selection holds at most ${entries(SELECT_MAX)}.`); }

  // Selects from where the last one was chosen to here; entries not loaded yet are fetched first.
  extend(index) {
    const from = Math.min(this.anchor, index);
    return this.add(from, Math.min(Math.max(this.anchor, index) + 1, from + SELECT_MAX));
  }

  async add(from, to) {
    const { source } = this;
    try {
      const found = await source.range(from, to);
      if (source !== this.source) return;
      this.deselect();
      for (const entry of found) this.selected.set(this.url(entry), this.item(entry));
      this.refresh();
    } catch (error) { complain(error); }
  }

  async selectAll() {
    const { total, view } = this.source;
    if (!total) return;
    if (total <= SELECT_MAX) await this.add(0, total);
    else if (view.type) return this.tooMany();
    else {
      this.deselect();
      this.all = true;
      this.refresh();
    }
    tell(`${entries(this.all ? total : this.selected.size)} selected`);
  }

  deselect() {
    this.selected.clear();
    this.all = false;
  }

  clear() {
    this.deselect();
    this.refresh();
  }

  // A scan result came in.
  scanned(url, state) {
    for (const [index, row] of this.rows) {
      const entry = this.get(index);
      if (entry && this.url(entry) === url) { entry.scan = state; this.fill(row, index, entry); }
    }
  }
}

// The bar that acts on the selection; gives what brings it up to date.
export function selectionBar(grid, archive, remove) {
  const text = h('span.grow');
  const act = (name, label, onclick, cls = '') => labelled(`button.btn.small${cls}`, name, label, { onclick });
  const bar = h('div.selection', { id: 'selection', role: 'toolbar', 'aria-label': 'Selection', hidden: true },
    text,
    may('download') && act('download', 'Download .zip', () => archive('zip'), '.primary'),
    may('download') && act('download', '.tar', () => archive('tar')),
    may('delete') && act('trash', 'Delete', () => remove(grid.chosen()), '.bad'),
    button('Select all', 'check', () => grid.selectAll()),
    button('Clear the selection', 'x', () => grid.clear()));
  body.append(bar);
  return () => {
    const n = grid.all ? grid.source.total : grid.selected.size;
    bar.hidden = !n;
    body.classList.toggle('selecting', n);
    let size = 0;
    let folders = '';
    for (const { entry } of grid.chosen()) {
      if (isFolder(entry)) folders = ' and folders'; else size += entry.bytes;
    }
    set(text, n ? count(n, 'selected', 'selected') + (size ? ` · ${bytes(size)}${folders}` : '') : '');
  };
}
