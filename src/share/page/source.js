// Where the rows come from: the pages of a folder's listing, or the hits of a search. Both have `total`,
// `get(index)`, `need(from, to)` and `stop()`, and call `changed()` when there is something new to show.
// No element is made here.
import { complain, isAbort, json, request } from './dom.js';

const PAGE = 500;          // entries in one request
const PAGES_KEPT = 40;     // 20,000 entries in memory; those farthest from what is shown go first
const REQUESTS_AT_ONCE = 2;
const HITS_MAX = 1000;

const pageOf = index => Math.floor(index / PAGE);

class Source {
  held = [];               // what a virus scan keeps back
  abort = new AbortController();

  constructor(view, changed) {
    this.view = view;
    this.changed = changed;
  }

  // Asks with these parts of the view, and more.
  query(parts, more) {
    for (const key of parts) if (this.view[key]) more[key] = this.view[key];
    return new URLSearchParams(more);
  }

  // The entries from one to another, once they are here; used for selecting all and for ranges.
  async range(from, to) {
    const found = [];
    for (let index = from; index < to; index++) {
      const entry = await this.entry(index);
      if (entry) found.push(entry);
    }
    return found;
  }

  stop() {
    this.running = false;
    this.abort.abort();
  }
}

export class Folder extends Source {
  total = 0;
  trail = [];
  pages = new Map();
  loading = new Set();
  broken = new Map();
  wanted = [0, 0];

  get path() { return this.view.path; }

  async load(page) {
    const query = this.query(['sort', 'order', 'type'], { offset: page * PAGE, limit: PAGE });
    const answer = await json(`/api/list/${this.path}?${query}`, { signal: this.abort.signal });
    this.total = answer.total;
    this.trail = answer.path;
    this.held = answer.held || [];
    this.pages.set(page, answer.entries);
    if (this.pages.size > PAGES_KEPT) {
      const away = one => Math.abs(one - pageOf(this.wanted[0]));
      this.pages.delete([...this.pages.keys()].sort((a, b) => away(b) - away(a))[0]);
    }
  }

  get(index) {
    return this.pages.get(pageOf(index))?.[index % PAGE];
  }

  // The entry, once it is here.
  async entry(index) {
    if (!this.get(index)) await this.load(pageOf(index));
    return this.get(index);
  }

  // Asks for the pages that are in sight and not here. A page that fails is asked for again after a while.
  need(from, to) {
    this.wanted = [from, to];
    for (let page = pageOf(from); page * PAGE < Math.min(to, this.total); page++) {
      if (this.loading.size >= REQUESTS_AT_ONCE) return;
      if (this.pages.has(page) || this.loading.has(page) || this.broken.get(page) > Date.now()) continue;
      this.loading.add(page);
      this.load(page)
        .catch(error => {
          this.broken.set(page, Date.now() + 3000);
          complain(error);
        })
        .finally(() => {
          this.loading.delete(page);
          if (this.abort.signal.aborted) return;
          this.changed();
          this.need(...this.wanted);
        });
    }
  }
}

export class Search extends Source {
  path = '';
  hits = [];
  running = true;

  get total() { return this.hits.length; }
  get(index) { return this.hits[index]; }
  entry(index) { return this.hits[index]; }
  need() {}

  async run() {
    const { q, here, path } = this.view;
    try {
      const query = this.query(['type'], here && path ? { q, in: path } : { q });
      const answer = await request(`/api/search?${query}`, { signal: this.abort.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        const lines = (rest + (value || '')).split('\n');
        rest = done ? '' : lines.pop();
        for (const line of lines) if (line) this.take(JSON.parse(line));
        this.changed();
        if (done) break;
      }
      if (!this.done) throw new Error('The search was cut off. Try again.');
    } catch (error) {
      if (!isAbort(error)) this.error ||= error;
    }
    this.running = false;
    this.changed();
  }

  take(line) {
    if (line.done) this.done = line;
    else if (line.error) this.error = new Error(line.error);
    else if (this.hits.length < HITS_MAX) this.hits.push(line);
  }
}
