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
    facts.push(stream.viewers === 1 ? '1 viewer' : `${stream.viewers} viewers`);
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
      const { streams } = await json('/api/v1/streams');
      const live = streams.filter(({ state: phase }) => phase === 'live').length;
      show(streams.slice().sort((a, b) => a.name.localeCompare(b.name)));
      showPill(state, live === 0 ? 'Ready' : `${live} live`, 'good');
    } catch (error) {
      showPill(state, error.message, 'bad');
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

function addresses() {
  const host = window.location.hostname;
  const shownHost = host.includes(':') ? `[${host.replace(/[[\]]/g, '')}]` : host;
  const listeners = window.headwater.node?.listeners ?? {};
  const portOf = (name, usual) => listeners[name]?.split(':').pop() ?? usual;
  const rows = [
    ['SRT', `srt://${shownHost}:${portOf('srt', 8890)}?streamid=publish:studio`],
    ['RTMP: server', `rtmp://${shownHost}:${portOf('rtmp', 1935)}/live`],
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
document.addEventListener('visibilitychange', () => { if (!document.hidden) node(); });
addresses();
node();
refresh();
