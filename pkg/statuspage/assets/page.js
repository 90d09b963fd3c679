// Keeps what is shown up to date. Pages are made by the server alone: when it says
// that something has changed, the same page is fetched again, and what differs is
// put into its place. Without this script nothing is missing but that.
'use strict';

const live = document.getElementById('live');
const told = document.getElementById('told');

// morph makes the node old like fresh, and touches nothing that is the same: focus,
// open details and text that is selected stay.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.matches('input, [data-stream]')) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((e) => e.id).filter(Boolean));
  const byID = new Map([...old.children].filter((e) => e.id).map((e) => [e.id, e]));
  for (const e of byID.values()) if (!wanted.has(e.id)) e.remove();
  let at = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const same = node.id && byID.get(node.id);
    if (same && same !== at) old.insertBefore(same, at);
    if (same) at = same;
    if (!at || (node.id && !same) || (at.id && at.id !== node.id)) {
      if (node.classList && old.nodeName !== 'MAIN') node.classList.add('new');
      old.insertBefore(node, at);
      continue;
    }
    const next = at.nextSibling;
    morph(at, node);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

let fetching = false;
let again = false;

async function refresh() {
  if (document.hidden || fetching) {
    again = true;
    return;
  }
  fetching = true;
  again = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' } });
    if (answer.ok || answer.status === 404) {
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      document.title = page.title;
      morph(document.getElementById('main'), page.getElementById('main'));
      morph(document.querySelector('footer time'), page.querySelector('footer time'));
    }
  } catch {
    say('not reachable; trying again');
  }
  fetching = false;
  if (again && !document.hidden) setTimeout(refresh, 500);
}

function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

// The page of the plan asks the daemon for one each time, and so does not follow each change.
const follow = location.pathname === '/plan' ? null : new EventSource('/live');
if (follow) {
  follow.addEventListener('open', () => { say('live'); refresh(); });
  follow.addEventListener('error', () => {
    say('not live; trying again');
    // An answer that is none, as when too many look: it does not try by itself.
    if (follow.readyState === EventSource.CLOSED) say('not live: reload to see what is new');
  });
  follow.addEventListener('change', refresh);
  follow.addEventListener('told', (e) => { told.textContent = JSON.parse(e.data); });
  document.addEventListener('visibilitychange', () => { if (again) refresh(); });
  // Ages grow when nothing happens, too.
  setInterval(refresh, 30000);
}

// A log goes on below what was there, and stays at its end if it was there.
const log = document.querySelector('pre[data-stream]');
const maxLines = 5000;
if (log) {
  log.scrollTop = log.scrollHeight;
  const lines = new EventSource(log.dataset.stream);
  lines.addEventListener('open', () => log.replaceChildren());
  lines.addEventListener('lines', (e) => {
    const end = log.scrollHeight - log.scrollTop - log.clientHeight < 20;
    for (const line of JSON.parse(e.data)) log.append(document.createTextNode(line + '\n'));
    while (log.childNodes.length > maxLines) log.firstChild.remove();
    if (end) log.scrollTop = log.scrollHeight;
  });
  lines.addEventListener('ended', () => lines.close());
}
