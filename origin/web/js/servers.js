// Which of several nodes a player plays from. Every node of a cluster serves the same streams under
// the same names, so that a player may move between them at any time.
// Not here: what is played (`hls.js`, `whep.js`), how hls.js follows a move (`loader.js`).
import { json, request, withToken } from './api.js';

/** How often a player looks whether its node is still there. */
const TICK_MS = 100;
/**
 * Nothing heard for this long: ask the node whether it lives. Two parts of LL-HLS by default, twelve
 * frames of WebRTC. With the time that a probe may take, death is known within a second.
 */
const SILENCE_MS = 400;
/** The same while somebody on this page has just found that node dead. */
const DOUBT_MS = 150;
/** A node that lives but has nothing to send, as while a publisher is away, is asked more rarely. */
const SILENCE_MAX_MS = 2000;
/** Time for the answer to a probe. Doubled while nobody answers: then the viewer's line is slow. */
const PROBE_MS = 500;
const PROBE_MAX_MS = 4000;
/** Lead of each node over the next in the list when all are asked at once. */
const STAGGER_MS = 100;
/** A node that failed is not the first choice for so long. */
const FAILED_MS = 10_000;
/** Wait between rounds in which nobody answered. */
const BACK_OFF_FIRST_MS = 250;
const BACK_OFF_MAX_MS = 5000;
/** How often the page asks which nodes there are. */
const REFRESH_MS = 30_000;
/** Nodes beyond this are not kept. */
const SERVERS_MAX = 32;
/** Answers of proxies and full nodes: another node may do better. */
const ELSEWHERE = [502, 503, 504];

/** Half to all of the back-off after so many tries, by chance: viewers must not come in step. */
export function backOff(tries, chance = Math.random()) {
  return Math.min(BACK_OFF_FIRST_MS * 2 ** tries, BACK_OFF_MAX_MS) * (0.5 + chance / 2);
}

/** A base URL without its last slash; null where a player on this page could not use it. */
export function baseOf(text, page = window.location.href) {
  let url;
  try {
    url = new URL(text.trim());
  } catch {
    return null;
  }
  if (!['http:', 'https:'].includes(url.protocol) || url.username || url.search || url.hash) return null;
  // Browsers let no page that came by https load from http.
  if (new URL(page).protocol === 'https:' && url.protocol === 'http:') return null;
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

function shuffled(list) {
  const keys = new Map(list.map((one) => [one, Math.random()]));
  return list.toSorted((a, b) => keys.get(a) - keys.get(b));
}

export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    let timer = null;
    const over = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', over);
      resolve();
    };
    timer = setTimeout(over, milliseconds);
    signal?.addEventListener('abort', over);
    if (signal?.aborted) over();
  });
}

/** The nodes that the page knows: those of `?servers=`, else its own and the rest of its cluster. */
export class Servers {
  list;
  #given;

  constructor() {
    const text = new URLSearchParams(window.location.search).get('servers') ?? '';
    const bases = [...new Set(text.split(',').map((one) => baseOf(one)).filter(Boolean))];
    this.#given = bases.length > 0;
    if (!this.#given) bases.push(window.location.origin);
    this.list = bases.slice(0, SERVERS_MAX).map((url) => ({ url, name: new URL(url).host, failedAt: -Infinity }));
  }

  get several() {
    return this.list.length > 1;
  }

  /** Asks this page's own node for the others and their names, now and for as long as it answers. */
  async follow() {
    for (;;) {
      try {
        this.#take(await json('/api/v1/cluster'));
      } catch {
        // The route is for operators only, or the node is gone: what is known stays.
      }
      await pause(REFRESH_MS);
    }
  }

  /** Nodes from elsewhere come in an order of this viewer's own, so that they share its fellows. */
  #take({ this: own, nodes }) {
    for (const node of shuffled(nodes ?? [])) {
      const bases = (node.http ?? []).map((one) => baseOf(one)).filter(Boolean);
      if (node.id === own) bases.unshift(window.location.origin);
      const known = this.list.find(({ url }) => bases.includes(url));
      if (known) {
        known.name = node.name;
      } else if (!this.#given && bases.length > 0 && node.state === 'up' && this.list.length < SERVERS_MAX) {
        this.list.push({ url: bases[0], name: node.name, failedAt: -Infinity });
      }
    }
  }
}

/** Whether a node answers at all, in time: `/healthz` costs it nothing. One probe does for all. */
function lives(server, limitMs) {
  server.probe ??= probe(server, limitMs).finally(() => { server.probe = null; });
  return server.probe;
}

async function probe(server, limitMs) {
  try {
    await fetch(`${server.url}/healthz`, {
      mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(limitMs),
    });
    server.failedAt = -Infinity;
    return true;
  } catch {
    server.failedAt = performance.now();
    return false;
  }
}

/** One player's way to a node. */
export class Route {
  /** How often it moved. */
  moves = 0;
  /** The last move, for people: `{ from, at }`. */
  moved = null;
  /** No node answered when last asked. */
  stranded = false;
  /** Tells, where it is set, of signs of life that nobody reports to `heard`. */
  evidence = null;
  #servers;
  #server;
  #home;
  #onChange;
  #timer = null;
  #heardAt = 0;
  #patience = SILENCE_MS;
  #pending = 0;
  #looking = null;
  #leaving = new AbortController();

  constructor(servers, onChange = () => {}) {
    this.#servers = servers;
    [this.#server] = servers.list;
    this.#home = this.#server.url;
    this.#onChange = onChange;
  }

  get server() {
    return this.#server;
  }

  get several() {
    return this.#servers.several;
  }

  /** Aborted when the player leaves the node that it plays from now. */
  get leaving() {
    return this.#leaving.signal;
  }

  /** A route of the node in use, with the page's token. */
  url(path, query) {
    return withToken(`${this.#server.url}${path}`, query);
  }

  /** The URL by which things are called, whatever node they come from. */
  lasting(path) {
    return withToken(`${this.#home}${path}`);
  }

  /** Where `server` has what has a lasting URL. */
  at(url, server) {
    return swap(url, this.#home, server.url);
  }

  /** The lasting URL of what came from `server`. */
  from(url, server) {
    return swap(url, server.url, this.#home);
  }

  /** All other nodes but those that have just failed. */
  others() {
    const now = performance.now();
    return this.#servers.list.filter((one) => one !== this.#server && now - one.failedAt >= FAILED_MS);
  }

  start() {
    this.heard();
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.stranded = false;
    this.evidence = null;
  }

  /** The node has sent something. */
  heard() {
    this.#heardAt = performance.now();
    this.#patience = SILENCE_MS;
  }

  /** Something is awaited from the node until the function that this returns is called. */
  awaiting() {
    if (this.#pending === 0) this.heard();
    this.#pending += 1;
    let open = true;
    return () => {
      if (open) this.#pending -= 1;
      open = false;
    };
  }

  #tick() {
    if (!this.several || this.#looking) return;
    if (this.evidence?.()) this.heard();
    if (this.#pending === 0 && !this.evidence) return;
    const now = performance.now();
    const doubted = now - this.#server.failedAt < FAILED_MS;
    if (now - this.#heardAt < (doubted ? DOUBT_MS : this.#patience)) return;
    const [server, patience] = [this.#server, this.#patience];
    this.look().then((found) => {
      // It lives: what is awaited from it takes its time.
      if (found === server) this.#patience = Math.min(patience * 2, SILENCE_MAX_MS);
    });
  }

  /**
   * Resolves with a node that has just answered, where the player is then: the one in use if it
   * lives and is not `unwanted`, else the next. Null when the player stops meanwhile.
   */
  look(unwanted = null) {
    this.#looking ??= this.#find(unwanted).finally(() => { this.#looking = null; });
    return this.#looking;
  }

  async #find(unwanted) {
    for (let tries = 0; this.#timer !== null; tries += 1) {
      const found = await this.#ask(Math.min(PROBE_MS * 2 ** tries, PROBE_MAX_MS), unwanted);
      if (this.#timer === null) return null;
      if (found) {
        this.#settle(found);
        return found;
      }
      this.stranded = true;
      this.#onChange();
      await pause(backOff(tries));
    }
    return null;
  }

  /** The first node to answer: the one in use before all others, and once more after them. */
  async #ask(limitMs, unwanted) {
    const current = this.#server;
    if (current !== unwanted && await lives(current, limitMs)) return current;
    const now = performance.now();
    const recent = ({ failedAt }) => Number(now - failedAt < FAILED_MS);
    const all = this.#servers.list.filter((one) => one !== current).toSorted((a, b) => recent(a) - recent(b));
    const over = new AbortController();
    const asked = [...all, current].map(async (server, place) => {
      await pause(place * STAGGER_MS, over.signal);
      if (over.signal.aborted || !await lives(server, limitMs)) throw new Error('silent');
      return server;
    });
    return Promise.any(asked).catch(() => null).finally(() => over.abort());
  }

  #settle(server) {
    const left = this.#server;
    this.stranded = false;
    this.heard();
    if (server !== left) {
      this.#server = server;
      this.moves += 1;
      this.moved = { from: left, at: performance.now() };
      const leaving = this.#leaving;
      this.#leaving = new AbortController();
      leaving.abort();
    }
    this.#onChange();
  }

  /** `fetch` of a route from a node that answers. */
  async request(path, options = {}) {
    for (let tries = 0; ; tries += 1) {
      const server = this.#server;
      const { leaving } = this;
      const done = this.awaiting();
      try {
        const signal = AbortSignal.any([leaving, ...(options.signal ? [options.signal] : [])]);
        const response = await request(this.url(path), { ...options, signal });
        this.heard();
        return response;
      } catch (error) {
        if (options.signal?.aborted || !this.several || tries > this.#servers.list.length) throw error;
        if (leaving.aborted) continue;
        if (error.status !== 0 && !ELSEWHERE.includes(error.status)) throw error;
        await this.look(error.status === 0 ? null : server);
        if (tries > 0) await pause(backOff(tries - 1), options.signal);
      } finally {
        done();
      }
    }
  }
}

function swap(url, from, to) {
  return from !== to && url.startsWith(`${from}/`) ? to + url.slice(from.length) : url;
}
