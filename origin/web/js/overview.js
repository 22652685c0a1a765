// The overview: what is live on this node, and where to publish.
// Not here: the formats of the API (`/api/v1/openapi.json`).
import { json, validName } from './api.js';
import { treePicture } from './tree.js';
import { bitrate, copy, element, lasted, milliseconds, showNote, showPill } from './ui.js';

const REFRESH_MS = 2000;
const list = document.querySelector('#streams');
const empty = document.querySelector('#empty');
const state = document.querySelector('#state');
const trouble = document.querySelector('#trouble');

const spread = {
  section: document.querySelector('#tree'),
  title: document.querySelector('#tree-title'),
  picture: document.querySelector('#tree-picture'),
  note: document.querySelector('#tree-note'),
  /** The stream whose tree is shown. */
  stream: null,
  /** When the hops were looked at last, and their bytes then. */
  before: null,
};

window.headwater = { page: 'overview', streams: [], node: null, tree: null };

const CODECS = { h264: 'H.264', h265: 'H.265', opus: 'Opus' };
const STATES = { live: ['Live', 'bad'], waiting: ['Publisher away', 'busy'], ended: ['Ended', ''] };
const PROTOCOLS = { demo: 'Demo' };

/** What a stream is made of, in a few words each; tracks that the node derives are left out. */
function tagsOf(stream) {
  const tags = [];
  const protocol = stream.publisher?.protocol;
  if (protocol) tags.push(PROTOCOLS[protocol] ?? protocol.toUpperCase());
  for (const track of stream.tracks ?? []) {
    if (track.name !== track.kind || !track.codec) continue;
    const codec = track.codec.toLowerCase();
    const words = [CODECS[codec] ?? codec.toUpperCase()];
    if (track.resolution) words.push(`${track.resolution.width}×${track.resolution.height}`);
    if (track.kind === 'video' && track.bitrate > 0) words.push(bitrate(track.bitrate));
    tags.push(words.join(' '));
  }
  return tags;
}

function sinceOf(stream) {
  const since = Date.parse(stream.since ?? '');
  return Number.isFinite(since) ? (Date.now() - since) / 1000 : null;
}

function card(stream) {
  const play = `/play/${stream.name}`;
  const facts = [];
  const since = sinceOf(stream);
  if (since !== null) facts.push(`live for ${lasted(since)}`);
  if (Number.isFinite(stream.viewers)) {
    const viewers = stream.viewers + (stream.hls_viewers ?? 0);
    facts.push(viewers === 1 ? '1 viewer' : `${viewers} viewers`);
  }
  const [text, mood] = STATES[stream.state] ?? [stream.state, ''];
  return element('li', { class: 'card pad stream' },
    element('div', { class: 'row' },
      element('div', {},
        element('div', { class: 'name' }, element('a', { href: play }, stream.name)),
        element('div', { class: 'note' }, facts.join(' · '))),
      element('span', { class: `pill ${mood}`.trim() }, text)),
    element('div', { class: 'tags' },
      ...tagsOf(stream).map((tag) => element('span', { class: 'tag' }, tag))),
    ...(stream.warnings ?? []).map((warning) => element('p', { class: 'note warn' }, warning)),
    element('div', { class: 'actions' },
      element('a', { class: 'button main small', href: play }, 'Play'),
      element('a', { class: 'button small', href: `/hls/${stream.name}/index.m3u8` }, 'Playlist'),
      element('button', { class: 'small', type: 'button', 'data-tree': stream.name }, 'Tree')));
}

/** What this node measures of its hops, in words, by the node at their other end. */
function figuresOf(tree) {
  const now = performance.now();
  const before = spread.before;
  const figures = new Map();
  for (const hop of tree.hops ?? []) {
    const words = figures.get(hop.node) ?? [];
    const earlier = before?.hops.get(`${hop.node} ${hop.outward}`);
    const seconds = (now - before?.at) / 1000;
    // Not of one stream alone: a hop carries all that two nodes have for each other.
    const bytes = hop.outward ? hop.bytes_received : hop.bytes_sent;
    if (earlier <= bytes && seconds > 0) words.push(bitrate(((bytes - earlier) * 8) / seconds));
    if (hop.round_trip_ms !== null && hop.outward) words.push(`${milliseconds(hop.round_trip_ms)} away`);
    if (hop.silent) words.push('silent');
    figures.set(hop.node, words);
  }
  const hops = (tree.hops ?? []).map((hop) =>
    [`${hop.node} ${hop.outward}`, hop.outward ? hop.bytes_received : hop.bytes_sent]);
  spread.before = { at: now, hops: new Map(hops) };
  return figures;
}

async function showTree() {
  const stream = spread.stream;
  spread.section.hidden = stream === null;
  if (stream === null) return;
  try {
    const tree = await json(`/api/v1/cluster/tree/${stream}`);
    if (spread.stream !== stream) return;
    window.headwater.tree = tree;
    const hops = tree.depth === 1 ? 'one hop' : `${tree.depth} hops`;
    showNote(spread.note, tree.nodes.length === 1 ? 'The cluster has no other node.'
      : `${tree.nodes.length} nodes, ${hops} at most.`, '');
    spread.picture.replaceChildren(treePicture(tree, spread.picture.clientWidth || 320, figuresOf(tree)));
  } catch (error) {
    showNote(spread.note, error.message);
  }
}

function openTree(stream) {
  spread.stream = stream;
  spread.before = null;
  spread.title.textContent = `How ${stream} spreads`;
  spread.picture.replaceChildren();
  showNote(spread.note, '');
  showTree();
}

list.addEventListener('click', (event) => {
  const stream = event.target.closest?.('[data-tree]')?.dataset.tree;
  if (stream !== undefined) openTree(stream);
});

document.querySelector('#tree-close').addEventListener('click', () => {
  const opener = list.querySelector(`[data-tree="${CSS.escape(spread.stream ?? '')}"]`);
  spread.stream = null;
  window.headwater.tree = null;
  showTree();
  opener?.focus();
});

let shown = '';

/** Rebuilds the cards where something changed, and keeps the focus where it was. */
function show(streams) {
  window.headwater.streams = streams;
  empty.hidden = streams.length > 0;
  const fresh = streams.map(card);
  const html = fresh.map((one) => one.outerHTML).join('');
  if (html === shown) return;
  shown = html;
  // A card has two links to the same page: the focus goes back to the one of the same words.
  const focused = document.activeElement?.closest?.('#streams :is(a, button)');
  const same = (link) => link.getAttribute('href') === focused.getAttribute('href')
    && link.dataset.tree === focused.dataset.tree
    && link.textContent === focused.textContent;
  list.replaceChildren(...fresh);
  if (focused) [...list.querySelectorAll('a, button')].find(same)?.focus();
}

async function refresh() {
  if (!document.hidden) {
    try {
      const { streams } = await json('/api/v1/streams');
      const live = streams.filter(({ state: phase }) => phase === 'live').length;
      show(streams.slice().sort((a, b) => a.name.localeCompare(b.name)));
      showPill(state, live === 0 ? 'Ready' : `${live} live`, 'good');
      showNote(trouble, '');
      if (spread.stream !== null) await showTree();
    } catch (error) {
      showPill(state, error.status ? 'Refused' : 'Out of reach', 'bad');
      // The list as it was stays when the node is out of reach for a moment.
      if (error.status) show([]);
      empty.hidden = true;
      showNote(trouble, error.message);
    }
    trouble.parentElement.hidden = trouble.hidden;
  }
  setTimeout(refresh, REFRESH_MS);
}

function addresses() {
  const host = window.location.hostname;
  const shownHost = host.includes(':') ? `[${host.replace(/[[\]]/g, '')}]` : host;
  const listeners = window.headwater.node?.listeners ?? {};
  const portOf = (name, usual) => listeners[name]?.split(':').pop() ?? usual;
  // The node says null, or an empty list, of a listener that is switched off.
  const off = (name) => listeners[name] === null || listeners[name]?.length === 0;
  const wanted = document.querySelector('#name').value.trim();
  const name = validName(wanted) ? wanted : 'studio';
  // By RTMP a name has at least two parts: the application and the key.
  const [application, key] = name.includes('/')
    ? [name.slice(0, name.lastIndexOf('/')), name.slice(name.lastIndexOf('/') + 1)] : ['live', name];
  const rows = [
    ['srt', 'SRT', `srt://${shownHost}:${portOf('srt', 8890)}?streamid=publish:${name}`],
    ['rtmp', 'RTMP: server', `rtmp://${shownHost}:${portOf('rtmp', 1935)}/${application}`],
    ['rtmp', 'RTMP: stream key', key],
    ['webrtc', 'WHIP', `${window.location.origin}/whip/${name}`],
  ].filter(([name]) => !off(name)).map(([, ...row]) => row);
  document.querySelector('#addresses').replaceChildren(...rows.map(([what, address]) => {
    const button = element('button', { class: 'small', type: 'button', 'aria-label': `Copy ${what}` }, 'Copy');
    button.addEventListener('click', () => copy(address, button));
    return element('div', { class: 'copy' },
      element('span', { class: 'what' }, what), element('code', { tabindex: 0 }, address), button);
  }));
}

async function node() {
  try {
    const answer = await json('/api/v1/node');
    window.headwater.node = answer;
    const name = answer.name ?? answer.id ?? '';
    document.querySelector('#node').textContent = `${answer.role ?? 'node'} ${name}`.trim();
    document.querySelector('#version').textContent = `Headwater ${answer.version ?? ''}`.trim();
    addresses();
  } catch {
    // The list of streams says that the node cannot be reached.
  }
}

document.querySelector('#publish').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = document.querySelector('#name').value.trim();
  const note = document.querySelector('#name-note');
  if (validName(name)) {
    window.location.href = `/publish/${name}`;
  } else {
    showNote(note, 'Letters, digits and . _ ~ - in up to 8 parts, with / between them.');
    document.querySelector('#name').focus();
  }
});
document.querySelector('#name').addEventListener('input', addresses);
document.addEventListener('visibilitychange', () => { if (!document.hidden) node(); });
addresses();
node();
refresh();
