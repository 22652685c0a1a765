// The overview: what is live on this node, and where to publish.
// Not here: the formats of the API (`/api/v1/openapi.json`).
import { json, validName } from './api.js';
import { bitrate, copy, element, lasted, showNote, showPill } from './ui.js';

const REFRESH_MS = 2000;
const list = document.querySelector('#streams');
const empty = document.querySelector('#empty');
const state = document.querySelector('#state');

window.headwater = { page: 'overview', streams: [], node: null };

const CODECS = { h264: 'H.264', h265: 'H.265', opus: 'Opus' };

function tagsOf(stream) {
  const tags = [];
  const protocol = stream.publisher?.protocol ?? stream.protocol;
  if (protocol) tags.push(String(protocol).toUpperCase());
  for (const track of stream.tracks ?? []) {
    if (track.derived) continue;
    const size = track.width && track.height ? ` ${track.width}×${track.height}` : '';
    const named = String(track.codec ?? '').toLowerCase();
    const codec = CODECS[named] ?? named.toUpperCase();
    const rate = Number.isFinite(track.bitrate) && track.bitrate > 0 ? ` ${bitrate(track.bitrate)}` : '';
    if (codec || size) tags.push(`${codec}${size}${rate}`.trim());
  }
  return tags;
}

function viewersOf(stream) {
  const viewers = stream.viewers;
  if (Number.isFinite(viewers)) return viewers;
  if (viewers && typeof viewers === 'object') {
    return Object.values(viewers).filter(Number.isFinite).reduce((sum, one) => sum + one, 0);
  }
  return null;
}

function sinceOf(stream) {
  const since = typeof stream.since === 'number' ? stream.since : Date.parse(stream.since ?? '');
  return Number.isFinite(since) ? (Date.now() - since) / 1000 : null;
}

function card(stream) {
  const play = `/play/${stream.name}`;
  const facts = [];
  const since = sinceOf(stream);
  if (since !== null) facts.push(`live for ${lasted(since)}`);
  const viewers = viewersOf(stream);
  if (viewers !== null) facts.push(viewers === 1 ? '1 viewer' : `${viewers} viewers`);
  const waiting = stream.state && stream.state !== 'live';
  const pill = element('span', { class: `pill ${waiting ? 'busy' : 'bad'}` },
    waiting ? 'Publisher away' : 'Live');
  return element('li', { class: 'card pad stream' },
    element('div', { class: 'row' },
      element('div', {},
        element('div', { class: 'name' }, element('a', { href: play }, stream.name)),
        element('div', { class: 'note' }, facts.join(' · '))),
      pill),
    element('div', { class: 'tags' },
      ...tagsOf(stream).map((tag) => element('span', { class: 'tag' }, tag))),
    element('div', { class: 'actions' },
      element('a', { class: 'button main small', href: play }, 'Play'),
      element('a', { class: 'button small', href: `/hls/${stream.name}/index.m3u8` }, 'Playlist')));
}

let shown = '';

/** Rebuilds the cards where something changed, and keeps the focus where it was. */
function show(streams) {
  window.headwater.streams = streams;
  empty.hidden = streams.length > 0;
  const fresh = streams.map(card);
  const html = fresh.map((one) => one.outerHTML).join('');
  if (html === shown) return;
  shown = html;
  const focused = document.activeElement?.closest?.('#streams a')?.getAttribute('href');
  list.replaceChildren(...fresh);
  if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await json('/api/v1/streams');
      const streams = Array.isArray(answer) ? answer : answer.streams ?? [];
      show(streams.slice().sort((a, b) => a.name.localeCompare(b.name)));
      showPill(state, streams.length === 0 ? 'Ready' : `${streams.length} live`, 'good');
    } catch (error) {
      showPill(state, error.message, 'bad');
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

function addresses() {
  const host = window.location.hostname;
  const shownHost = host.includes(':') ? `[${host.replace(/[[\]]/g, '')}]` : host;
  const ports = window.headwater.node?.ports ?? {};
  const rows = [
    ['SRT', `srt://${shownHost}:${ports.srt ?? 8890}?streamid=publish:studio`],
    ['RTMP: server', `rtmp://${shownHost}:${ports.rtmp ?? 1935}/live`],
    ['RTMP: stream key', 'studio'],
    ['WHIP', `${window.location.origin}/whip/studio`],
  ];
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
    const name = answer.name ?? answer.id;
    document.querySelector('#node').textContent = name ? `Node ${name}` : '';
    document.querySelector('#version').textContent = answer.version ? `Headwater ${answer.version}` : '';
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
document.addEventListener('visibilitychange', () => { if (!document.hidden) node(); });
addresses();
node();
refresh();
