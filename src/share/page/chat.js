// The chat panel and the one stream of events of the page: who is here, messages, changed folders, scan results
// and the end of the share. The nick stays in sessionStorage, nothing else is kept.
import { $, bdi, body, button, clock, count, h, hasCommand, icon, moment, on, readable, request, safe, safeText, set, tell } from './dom.js';

const MESSAGES_KEPT = 500;
const PEOPLE_SHOWN = 60;
const RETRY_MOST = 30;
const NICK_MOST = 40;
const LINK = /(^|[\s(])(https?:\/\/[^\s<>"']+|\/f\/[^\s<>"']*)/g;
const NICK = 'lr.nick';

// `hooks` are changed(folder), scan(href, state), bye(why), go(path).
export function startChat(hooks, share) {
  let me;
  let last = 0;
  // The last message of before this page was opened: no clock of a phone has to be right for it.
  let old;
  let unread = 0;
  let stream;
  let ended = false;
  let wait = 1;
  let retry;

  const opener = $('chat-open');
  const state = h('span.dim', 'Connecting…');
  const people = h('ul.people', { 'aria-label': 'Who is here' });
  const hint = h('li.hint.dim', 'No messages yet. Everyone with the link sees what is written here, until the share ends.');
  const log = h('ol.log', { 'aria-live': 'polite', 'aria-label': 'Messages', tabindex: 0 }, hint);
  const name = h('input', { id: 'nick', maxlength: NICK_MOST, autocomplete: 'nickname', placeholder: 'Your name', onchange: connect });
  const text = h('textarea', { id: 'chat-text', rows: 1, maxlength: 2000, placeholder: 'Message', 'aria-label': 'Message', enterkeyhint: 'send', oninput: grow });
  const problem = h('p.bad.note', { role: 'alert' });
  const panel = h('aside.chat', { id: 'chat', 'aria-label': 'Chat', hidden: true },
    h('header', h('div.grow', h('h2', 'Chat'), h('p.note', state)), button('Close the chat', 'x', () => open(false))),
    h('div.me', h('label', { for: 'nick' }, 'You are'), name),
    people, log, problem,
    h('div.compose', text, button('Send', 'send', send, 'button.btn.primary.icon')));
  body.append(panel);
  name.value = sessionStorage.getItem(NICK) || '';

  function linked(message) {
    const parts = [];
    let from = 0;
    for (const match of message.matchAll(LINK)) {
      const start = match.index + match[1].length;
      const address = match[2].replace(/[.,;:!?)\]]+$/, '');
      parts.push(message.slice(from, start));
      from = start + address.length;
      let path;
      try {
        const url = new URL(address, location);
        if (url.origin === location.origin && url.pathname.startsWith('/f/')) path = url.pathname;
      } catch { /* it only looks like an address */ }
      parts.push(path ? h('a', { href: path, onclick(event) {
        if (hasCommand(event)) return;
        event.preventDefault();
        hooks.go(path);
        if (innerWidth < 1100) open(false);
      } }, icon('other'), h('bdi', readable(path.slice(3)) || 'top folder')) : h('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address));
    }
    return [...parts, message.slice(from)];
  }

  // Gives whether it is another's, and new.
  function show(message) {
    // After a reconnect without Last-Event-ID the server sends again what is already here.
    if (message.n <= last) return false;
    last = message.n;
    hint.remove();
    const low = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    const mine = message.from === me;
    log.append(h(mine ? 'li.mine' : 'li',
      h('p.from', mine ? 'You' : bdi(message.nick), ' ', h('time', { datetime: message.at, title: moment(message.at) }, clock(message.at))),
      h('p.said', { dir: 'auto' }, ...linked(safeText(message.text)))));
    if (log.children.length > MESSAGES_KEPT) log.firstChild.remove();
    if (low || mine) log.scrollTop = log.scrollHeight;
    return !mine;
  }

  function mark(n) {
    unread = n;
    const shown = n > 99 ? '99+' : n;
    $('unread').hidden = !n;
    set($('unread'), shown);
    opener.setAttribute('aria-label', n ? `Chat, ${count(n, 'unread message')}` : 'Chat');
    document.title = (n ? `(${shown}) ` : '') + document.title.replace(/^\(\d+\+?\) /, '');
  }

  const isReading = () => !panel.hidden && !document.hidden;
  const nick = () => name.value.trim().slice(0, NICK_MOST);

  function connect(event) {
    clearTimeout(retry);
    stream?.close();
    if (ended) return;
    // A name that was chosen, and not one that the server has given.
    if (event) sessionStorage.setItem(NICK, nick());
    const mine = new EventSource(`/api/events?${new URLSearchParams({ nick: sessionStorage.getItem(NICK) || '' })}`);
    const listen = (kind, run) => on(mine, kind, ({ data }) => {
      if (mine === stream) run(JSON.parse(data));
    });
    stream = mine;
    mine.onopen = () => { wait = 1; set(state, `On ${safe(share.host)} · connected`); };
    mine.onerror = () => {
      set(state, 'Connection lost. Trying again…');
      // The browser tries again by itself unless the server refused; then it is up to the page.
      if (mine !== stream || mine.readyState < 2 || ended) return;
      clearTimeout(retry);
      retry = setTimeout(connect, wait * 1000);
      wait = Math.min(RETRY_MOST, wait * 2);
    };
    listen('hello', data => {
      me = data.you;
      old ??= data.n;
      if (document.activeElement !== name) name.value = safe(data.nick);
    });
    listen('who', data => {
      const more = data.people.length - PEOPLE_SHOWN;
      set(people, ...data.people.slice(0, PEOPLE_SHOWN).map(one => (one.id === me ? h('li.you', bdi(one.nick), ' (you)') : h('li', bdi(one.nick)))),
        more > 0 && h('li', `and ${more} more`));
    });
    listen('chat', data => {
      // What was said before this page was opened is not news.
      if (show(data) && data.n > old && !isReading()) {
        mark(unread + 1);
        tell(`${safe(data.nick)} wrote in the chat`);
      }
    });
    listen('changed', data => hooks.changed(data.folder));
    listen('scan', data => hooks.scan(data.href, data.state));
    listen('bye', data => {
      ended = true;
      stream.close();
      set(state, 'The share has ended.');
      hooks.bye(safe(data.why || ''));
    });
  }

  function open(yes = panel.hidden) {
    panel.hidden = !yes;
    body.classList.toggle('chatting', yes);
    opener.setAttribute('aria-expanded', yes);
    if (yes) mark(0);
    log.scrollTop = log.scrollHeight;
    (yes ? text : opener).focus();
    dispatchEvent(new Event('resize'));
  }

  async function send() {
    const said = text.value.trim();
    if (!said) return;
    set(problem);
    try {
      await request('/api/chat', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text: said, nick: nick() }) });
      text.value = '';
      grow();
    } catch (error) {
      set(problem, error.status === 429 ? `Too many messages. Try again in ${error.wait || 5} s; yours is kept here.` : error.message);
    }
  }

  function grow() {
    text.style.height = 'auto';
    text.style.height = `${Math.min(140, text.scrollHeight + 2)}px`;
  }

  on(text, 'keydown', event => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  on(panel, 'keydown', event => { if (event.key === 'Escape') { event.stopPropagation(); open(false); } });
  on(document, 'visibilitychange', () => { if (isReading()) mark(0); });
  on(window, 'online', () => connect());
  on(opener, 'click', () => open());
  connect();
  return {
    open,
    // Puts a link to a file into the message being written.
    offer(url) {
      open(true);
      text.value = `${text.value} ${url} `.trimStart();
      grow();
      text.focus();
      tell('The link is in your message; send it when ready.');
    },
    retitle() { mark(unread); },
  };
}
