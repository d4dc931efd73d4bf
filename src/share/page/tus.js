// Uploads after tus 1.0.0: one `Upload` per file, a `Queue` that runs a few at once, and the records that let an
// upload go on after a reload. No element is made here.
import { on, refusal, request } from './dom.js';

const SLICE = 8 * 1024 * 1024;
const AT_ONCE = 3;
const QUEUE_MAX = 100_000;
const RECORDS_MAX = 500;
const WAIT_MOST = 30;        // seconds between two tries
const STALL = 45_000;        // milliseconds without a byte moving until the request is given up
const KEY = 'lr.uploads';
const HOPELESS = [400, 401, 403, 404, 410, 413, 415, 507];

// A request about uploads, or about one.
export const ask = (method, id = '', headers = {}, signal) =>
  request(`/api/uploads${id && `/${id}`}`, { method, signal, headers: { 'Tus-Resumable': '1.0.0', ...headers } });

const base64 = octets => {
  let text = '';
  for (const octet of octets) text += String.fromCharCode(octet);
  return btoa(text);
};
const octets = text => new TextEncoder().encode(text);
const encode = text => base64(octets(text));

// A folder's path as the bytes that it has on disk.
const pathBytes = href => href.replace(/\/$/, '').split(/(%[0-9a-f]{2})/i)
  .flatMap(part => (/^%..$/.test(part) ? parseInt(part.slice(1), 16) : [...octets(part)]));

export const records = {
  all() {
    try { return JSON.parse(localStorage.getItem(KEY)) || {}; } catch { return {}; }
  },
  change(edit) {
    const all = this.all();
    edit(all);
    try {
      if (Object.keys(all).length) localStorage.setItem(KEY, JSON.stringify(all)); else localStorage.removeItem(KEY);
    } catch { /* a full or forbidden store only means that a reload cannot go on */ }
  },
  put(id, record) {
    this.change(all => { if (Object.keys(all).length < RECORDS_MAX) all[id] = record; });
  },
  drop(id) { this.change(all => { delete all[id]; }); },
};

// Another tab that uploads holds a lock, so that its records are not offered here.
export async function heldElsewhere() {
  const locks = await navigator.locks?.query().catch(() => {});
  return new Set(locks?.held.map(lock => lock.name));
}

export class Upload {
  sent = 0;
  state = 'waiting';                  // waiting, active, paused, failed, done, again (the file must be chosen again)
  note = '';

  constructor(file, folder, relative = '', record = file) {
    this.file = file;
    this.folder = folder;
    this.relative = relative;
    this.name = relative || record.name;
    this.size = record.size;
    this.modified = record.lastModified;
    this.id = record.id;
    this.offset = this.id ? null : 0; // null: to be asked for
  }

  // Whether a chosen file is the one that a record of an earlier visit speaks of.
  fits(file, relative) {
    return [relative, file.name].includes(this.name) && file.size === this.size && file.lastModified === this.modified;
  }

  async run() {
    let wait = 1;
    let fresh = 0;
    this.stopped = false;
    while (!this.stopped) {
      try {
        if (!this.id) await this.create();
        else if (this.offset === null) await this.probe();
        this.note = '';
        while (this.state === 'active' && this.offset < this.size) await this.slices(() => { wait = 1; });
        if (this.state === 'active') this.finish();
        return;
      } catch (error) {
        const { status, message } = error;
        if (this.stopped) return;
        if (status === 404 || status === 410) {
          records.drop(this.id);
          Object.assign(this, { id: '', offset: 0, sent: 0 });
          if (++fresh <= 3) continue;
        }
        if (error.fatal || HOPELESS.includes(status) || (status === 409 && !this.id)) {
          this.state = 'failed';
          this.note = message;
          return;
        }
        this.offset = null;
        const seconds = status === 409 ? 0 : Math.max(wait, error.wait || 0);
        if (seconds) this.note = `${message} Trying again in ${seconds} s.`;
        await this.pause(seconds);
        wait = Math.min(WAIT_MOST, wait * 2);
      }
    }
  }

  // Waits, but not longer than until the network is back.
  pause(seconds) {
    return new Promise(resolve => {
      this.wake = resolve;
      setTimeout(resolve, seconds * 1000);
      on(window, 'online', resolve, { once: true });
    });
  }

  async create() {
    const meta = [`filename ${encode(this.file.name)}`, `folder ${base64(pathBytes(this.folder))}`];
    if (this.relative) meta.push(`relativePath ${encode(this.relative)}`);
    if (this.modified) meta.push(`lastModified ${encode(this.modified)}`);
    const answer = await this.ask('POST', '', { 'Upload-Length': this.size, 'Upload-Metadata': meta.join(',') });
    this.id = answer.headers.get('Location').split('/').pop();
    this.offset = 0;
    records.put(this.id, { name: this.file.name, size: this.size, lastModified: this.modified, folder: this.folder });
    this.lock();
    // An empty file is complete when the server says so in its answer; else one empty request makes it so.
    if (!this.size && !this.href) await this.patch({ from: 0, to: 0, body: new Blob([]) });
  }

  async probe() {
    const answer = await this.ask('HEAD', this.id);
    this.sent = this.offset = +answer.headers.get('Upload-Offset');
    this.lock();
  }

  // A request that `halt` ends.
  async ask(method, id, headers) {
    this.abort = new AbortController();
    const answer = await ask(method, id, headers, this.abort.signal);
    this.answered(name => answer.headers.get(name));
    return answer;
  }

  // Reads and hashes the next slice while one is under way: two slices of a file are in memory at most.
  async slices(moved) {
    let next = this.prepare(this.offset);
    while (next && !this.stopped) {
      const slice = await next;
      next = slice.to < this.size ? this.prepare(slice.to) : null;
      next?.catch(() => {});
      await this.patch(slice);
      moved();
      if (this.offset !== slice.to) return;
    }
  }

  async prepare(from) {
    const to = Math.min(from + SLICE, this.size);
    const body = this.file.slice(from, to);
    // Over plain http the browser has no digests.
    if (!crypto.subtle) return { from, to, body };
    try {
      const read = await body.arrayBuffer();
      return { from, to, body: read, sum: base64(new Uint8Array(await crypto.subtle.digest('SHA-256', read))) };
    } catch {
      throw Object.assign(new Error('The file cannot be read any more: it was changed or moved.'), { fatal: true });
    }
  }

  // XMLHttpRequest, because fetch does not tell how much has been sent.
  patch({ from, to, body, sum }) {
    return new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      let timer;
      const alive = () => { clearTimeout(timer); timer = setTimeout(() => xhr.abort(), STALL); };
      const lost = () => { this.sent = from; reject(new Error('The connection was lost.')); };
      xhr.open('PATCH', `/api/uploads/${this.id}`);
      const headers = { 'Tus-Resumable': '1.0.0', 'Content-Type': 'application/offset+octet-stream', 'Upload-Offset': from };
      if (sum) headers['Upload-Checksum'] = `sha256 ${sum}`;
      for (const name in headers) xhr.setRequestHeader(name, headers[name]);
      xhr.upload.onprogress = event => { alive(); this.sent = from + Math.min(event.loaded, to - from); };
      xhr.onerror = xhr.onabort = lost;
      xhr.onloadend = () => clearTimeout(timer);
      xhr.onload = () => {
        const { status } = xhr;
        const header = name => xhr.getResponseHeader(name);
        if (status !== 204 && status !== 200) {
          this.sent = from;
          return reject(refusal(status, status === 460 ? '{"error":"A part arrived damaged."}' : xhr.responseText, header('Retry-After')));
        }
        this.sent = this.offset = +(header('Upload-Offset') ?? to);
        this.answered(header);
        resolve();
      };
      this.xhr = xhr;
      if (this.stopped) return lost();
      alive();
      xhr.send(body);
    });
  }

  answered(header) {
    this.href = header('Lr-Href') || this.href;
    this.scan = header('Lr-Scan') || this.scan;
  }

  lock() {
    if (!this.release) navigator.locks?.request(this.id, { ifAvailable: true }, () => new Promise(resolve => { this.release = resolve; })).catch(() => {});
  }

  // Nothing of it is to go on after a reload.
  forget() {
    this.release?.();
    records.drop(this.id);
  }

  finish() {
    Object.assign(this, { state: 'done', note: '', sent: this.size, file: null });
    this.forget();
  }

  // Ends the request under way; what the server has stays there.
  halt(state) {
    Object.assign(this, { stopped: true, state, note: '' });
    this.xhr?.abort();
    this.abort?.abort();
    this.wake?.();
    if (this.id) this.offset = null;
  }

  async cancel() {
    this.halt('gone');
    this.forget();
    if (this.id) await ask('DELETE', this.id).catch(() => {});
  }
}

export class Queue {
  list = [];
  active = 0;
  from = 0;

  // `changed(upload)` is told of one that has ended, and of other changes without it.
  constructor(changed) {
    this.changed = changed;
  }

  // Those in one of these states.
  are(...states) { return this.list.filter(upload => states.includes(upload.state)); }

  // False when the queue is full.
  add(upload) {
    if (this.list.length >= QUEUE_MAX) return false;
    this.list.push(upload);
    this.pump();
    return true;
  }

  // Starts what may start. From the first that still waits: what comes before it is skipped once and not on every call.
  pump() {
    for (let at = this.from; at < this.list.length && this.active < AT_ONCE; at++) {
      const upload = this.list[at];
      // One that was paused a moment ago may still come to its end.
      if (upload.state !== 'waiting' || upload.runs) continue;
      this.from = at + 1;
      upload.state = 'active';
      upload.runs = true;
      this.active++;
      upload.run().finally(() => {
        upload.runs = false;
        this.active--;
        if (upload.state === 'waiting') this.from = 0;
        this.changed(upload);
        this.pump();
      });
    }
    this.changed();
  }

  resume(upload) {
    if (['active', 'done'].includes(upload.state)) return;
    upload.state = 'waiting';
    upload.note = '';
    this.from = 0;
    this.pump();
  }

  // Keeps only some.
  keep(which) {
    this.list = this.list.filter(which);
    this.from = 0;
    this.changed();
  }
}
