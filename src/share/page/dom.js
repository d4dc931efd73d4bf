// What every part of the page needs: elements, safe names, numbers for people, dialogs, requests.
// Text from the network reaches the page only through `h` and `set`, never as markup.

export const { body } = document;
export const $ = id => document.getElementById(id);
export const find = selector => document.querySelector(selector);
export const on = (target, type, run, options) => target.addEventListener(type, run, options);
export const hasFocus = node => node.contains(document.activeElement);
export const hasCommand = event => event.ctrlKey || event.metaKey;
export const openDialog = () => find('dialog[open]');

// Puts text and nodes in the place of what a node has; what is empty is left out.
export const set = (node, ...kids) => node.replaceChildren(...kids.filter(Boolean));

// Makes an element: h('p.note.dim', { id: 'x' }, …). `on…` properties are listeners, everything else is an attribute.
// Properties may be left out. A button does not send a form.
export function h(tag, props, ...kids) {
  const [name, ...classes] = tag.split('.');
  const node = document.createElement(name);
  if (classes[0]) node.className = classes.join(' ');
  if (name === 'button') node.type = name;
  if (props?.constructor !== Object) kids.unshift(props);
  else for (const [key, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (key.startsWith('on')) on(node, key.slice(2), value);
    else node.setAttribute(key, value === true ? '' : value);
  }
  set(node, ...kids);
  return node;
}

export function icon(name, extra = '') {
  const make = tag => document.createElementNS('http://www.w3.org/2000/svg', tag);
  const svg = make('svg');
  const use = make('use');
  for (const [key, value] of [['class', `ico ${extra}`], ['viewBox', '0 0 24 24'], ['aria-hidden', true]]) svg.setAttribute(key, value);
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

// A button that is only an icon, and one with a word.
export const button = (label, name, onclick, tag = 'button.btn.ghost.icon', more) =>
  h(tag, { 'aria-label': label, title: label, onclick, ...more }, icon(name));
export const labelled = (tag, name, label, props = {}) => h(tag, props, icon(name), h('span', label));

// Control characters, line separators, bidi controls and invisible characters become U+FFFD, so that a name
// can neither hide a part of itself nor turn the text around it.
const UNSAFE = /[\p{Cc}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;
const UNSAFE_TEXT = /(?![\t\n])[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
export const safe = name => String(name).replace(UNSAFE, '\ufffd');
export const safeText = text => text.replace(/\r\n?/g, '\n').replace(UNSAFE_TEXT, '\ufffd');
export const bdi = name => h('bdi', safe(name));

// The readable form of a percent-encoded path; bytes that are no UTF-8 stay encoded.
export function readable(path) {
  try { return safe(decodeURIComponent(path)); } catch { return safe(path); }
}
export const folderName = path => readable(path.replace(/\/$/, '').split('/').pop());

const number = new Intl.NumberFormat();
export const count = (n, one, many = `${one}s`) => `${number.format(n)} ${n === 1 ? one : many}`;
export const entries = n => count(n, 'entry', 'entries');

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
export function bytes(n) {
  if (!Number.isFinite(n)) return '';
  let unit = 0;
  while (n >= 999.5 && unit < 5) { n /= 1000; unit++; }
  return `${n.toFixed(unit && n < 9.95 ? 1 : 0)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  const s = Math.max(1, Math.round(seconds));
  const minutes = Math.floor(s / 60);
  if (s < 60) return `${s} s`;
  if (s < 600) return `${minutes} min ${s % 60} s`;
  return s < 3600 ? `${minutes} min` : `${Math.floor(s / 3600)} h ${minutes % 60} min`;
}

const format = options => {
  const formatter = new Intl.DateTimeFormat([], options);
  return text => {
    const date = new Date(text);
    return isNaN(date) ? '' : formatter.format(date);
  };
};
export const day = format({ day: 'numeric', month: 'short', year: 'numeric' });
export const moment = format({ dateStyle: 'medium', timeStyle: 'short' });
export const clock = format({ hour: '2-digit', minute: '2-digit' });

// Tells screen readers.
export function tell(text, region = 'live') {
  set($(region));
  requestAnimationFrame(() => { set($(region), text); });
}

// Tells everybody, by a short note that goes away by itself; an error stays longer.
let toastTimer;
export function say(text, error) {
  const hide = () => find('.toast')?.remove();
  tell(text, error && 'alert');
  hide();
  (openDialog() || body).append(h(error ? 'div.toast.bad' : 'div.toast', { 'aria-hidden': 'true' }, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hide, error ? 8000 : 3500);
}
export const warn = text => say(text, true);

// What a request that was given up says is of no interest.
export const isAbort = error => error.name === 'AbortError';
export const complain = error => { if (!isAbort(error)) warn(error.message); };

const failure = (message, more) => Object.assign(new Error(message), more);

// The Error of an answer with this status and JSON: one clear sentence, the `status` and the seconds to `wait`.
export function refusal(status, text, header) {
  let message = `The share answered ${status}.`;
  try { message = safe(JSON.parse(text).error || message); } catch { /* the status says enough */ }
  if (status === 401) message = 'Your access has ended. Open the link again.';
  return failure(message, { status, wait: +header || 0 });
}

// A request whose failure is such an Error.
export async function request(url, options) {
  const answer = await fetch(url, options).catch(error => {
    throw isAbort(error) ? error : failure('The share cannot be reached. Is it still running, and are you on its network?', { status: 0 });
  });
  if (answer.ok) return answer;
  throw refusal(answer.status, await answer.text(), answer.headers.get('Retry-After'));
}
export const json = async (url, options) => (await request(url, options)).json();

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Over plain http there is no clipboard interface; the old command still works there.
    const field = h('textarea.sr', { readonly: true });
    field.value = text;
    (openDialog() || body).append(field);
    field.select();
    const copied = document.execCommand('copy');
    field.remove();
    if (!copied) return warn('The browser did not allow copying. Copy it by hand.');
  }
  say('Copied');
}

export const may = right => body.dataset.rights.split(' ').includes(right);

// Opens a dialog made by `build(close, node)`; resolves with what `close` was given. Esc, the backdrop and the close
// button give undefined.
export function dialog(tag, title, build) {
  return new Promise(resolve => {
    const before = document.activeElement;
    const node = h(tag, { 'aria-label': title });
    let result;
    const close = value => { result = value; node.close(); };
    // What has no class has a bar of its own.
    if (tag === 'dialog.small') node.append(h('header', h('h2', title), button('Close', 'x', () => close())));
    node.append(...build(close, node).filter(Boolean));
    on(node, 'close', () => {
      node.remove();
      if (before?.isConnected) before.focus({ preventScroll: true });
      resolve(result);
    });
    on(node, 'click', event => { if (event.target === node) close(); });
    body.append(node);
    node.showModal();
  });
}

// A menu at `anchor`: `items` are [label, icon, run or href, class]. On small screens a sheet from below.
export function menu(anchor, title, items) {
  return dialog('dialog.menu', title, (close, node) => {
    const box = anchor.getBoundingClientRect();
    const place = (name, at, most) => node.style.setProperty(name, `${Math.max(8, Math.min(at, most))}px`);
    place('--x', box.right - 240, innerWidth - 256);
    place('--y', box.bottom + 4, innerHeight - items.length * 44 - 60);
    const list = h('div', { role: 'menu', 'aria-label': title }, ...items.map(([label, name, act, cls]) => {
      const href = typeof act === 'string' && act;
      // The dialog gives the focus back when it closes, so what takes the focus comes after that.
      const onclick = () => { close(); if (!href) setTimeout(act); };
      return labelled(href ? 'a' : 'button', name, label, { role: 'menuitem', class: cls, onclick, href, download: href && true });
    }));
    on(list, 'keydown', event => {
      const all = [...list.children];
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
    });
    return [h('p.menu-title', bdi(title)), list];
  });
}
