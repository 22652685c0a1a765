// The way by which hls.js loads: every request goes to the node in use, and again to the next one
// where that one dies. hls.js sees one server, whose names and bytes are the same on every node.
// Not here: which node that is (`servers.js`).
import { backOff, pause } from './servers.js';

/**
 * For so long after a move, the node may have begun to take the stream from its owner just for us:
 * it has the segment in the making and none before. Other nodes are asked for what it lacks.
 */
const ARRIVING_MS = 10_000;
/** Rounds through all nodes for something that none has, and the wait between them. */
const ROUNDS_MAX = 8;
const ROUND_MS = 150;
/** Time for another node to give what the one in use lacks. */
const OTHER_MS = 1000;
/** Tries of one request at nodes that live and yet fail it; hls.js decides after that. */
const TRIES_MAX = 4;
/** A proxy's word that what stands behind it is gone. */
const GATEWAY = [502, 504];

/** The numbers of a media playlist's first and last complete segment. */
export function span(text) {
  const number = (pattern) => Number(text.match(pattern)?.[1] ?? 0);
  const first = number(/^#EXT-X-MEDIA-SEQUENCE:(\d+)/m);
  const skipped = number(/^#EXT-X-SKIP:.*SKIPPED-SEGMENTS=(\d+)/m);
  const listed = text.match(/^#EXTINF:/gm)?.length ?? 0;
  return { first, last: first + skipped + listed - 1 };
}

/** Makes hls.js's own loader `Base` follow `route`. */
export function following(Base, route) {
  /** The last complete segment that hls.js knows of each rendition, by the playlist's path. */
  const known = new Map();

  /**
   * Whether hls.js can go on with a playlist: it needs a complete segment, and one that it knows, to
   * see where on its timeline the others are.
   */
  const joins = (url, text, strictly) => {
    if (/^#EXT-X-STREAM-INF:/m.test(text)) return true;
    const [name] = url.split('?');
    const { first, last } = span(text);
    if (strictly && (last < first || first > (known.get(name) ?? first))) return false;
    known.set(name, last);
    return true;
  };

  return class Loader {
    context = null;
    stats = new Base({}).stats;
    #config;
    #callbacks = null;
    #inner = null;
    #tries = 0;
    #rounds = 0;
    /** Nodes that lacked it in this round. */
    #lacking = new Set();
    #over = new AbortController();
    #done = null;

    load(context, config, callbacks) {
      this.context = context;
      this.#config = config;
      this.#callbacks = callbacks;
      this.#done = route.awaiting();
      this.#send(route.server);
    }

    #send(server) {
      const { context, stats } = this;
      Object.assign(stats, { aborted: false, loaded: 0, total: 0 });
      Object.assign(stats.loading, { start: 0, first: 0, end: 0 });
      const heard = () => { if (server === route.server) route.heard(); };
      const inner = new Base({ xhrSetup: (xhr) => xhr.addEventListener('progress', heard) });
      inner.stats = stats;
      this.#inner = inner;
      if (server === route.server) this.#whenMoved(inner);
      else this.#limit(inner, server);
      inner.load({ ...context, url: route.at(context.url, server) }, { ...this.#config }, {
        onSuccess: (response, _, __, details) => {
          heard();
          if (typeof response.data === 'string' && !joins(context.url, response.data, this.#arriving)) {
            this.#ask(server);
            return;
          }
          const url = response.url ? route.from(response.url, server) : context.url;
          this.#finish()?.onSuccess({ ...response, url }, stats, context, details);
        },
        onProgress: (_, __, data, details) => {
          this.#callbacks?.onProgress?.(stats, context, data, details);
        },
        onError: (error, _, details) => this.#failed(error, details, server),
        onTimeout: (_, __, details) => {
          // It says that it lives and lets a request lie: the next try is another node's.
          if (route.several) route.look(route.server);
          this.#finish()?.onTimeout(stats, context, details);
        },
      });
    }

    /** Sends it again, where the player leaves the node before it has answered. */
    #whenMoved(inner) {
      route.leaving.addEventListener('abort', () => {
        if (this.#inner !== inner) return;
        inner.destroy();
        this.#lacking.clear();
        this.#send(route.server);
      }, { once: true, signal: this.#over.signal });
    }

    /** Gives another node a short time. */
    #limit(inner, server) {
      const timer = setTimeout(() => {
        if (this.#inner !== inner) return;
        inner.destroy();
        this.#ask(server);
      }, OTHER_MS);
      this.#over.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
    }

    /** Whether the node may lack what others have, as we have just come to it. */
    get #arriving() {
      return route.moved !== null && this.#rounds < ROUNDS_MAX
        && performance.now() - route.moved.at < ARRIVING_MS;
    }

    /** Asks the next node for what `server` lacks; after all, the one in use again. */
    async #ask(server) {
      this.#inner = null;
      this.#lacking.add(server);
      const other = route.others().find((one) => !this.#lacking.has(one));
      if (!other) {
        this.#rounds += 1;
        this.#lacking.clear();
        await pause(ROUND_MS, this.#over.signal);
      }
      if (!this.#over.signal.aborted) this.#send(other ?? route.server);
    }

    async #failed(error, details, server) {
      const unreachable = error.code === 0 || GATEWAY.includes(error.code);
      if (server !== route.server || (error.code === 404 && this.#arriving)) {
        this.#ask(server);
        return;
      }
      if (!unreachable) route.heard();
      if (!route.several || !unreachable || this.#tries >= TRIES_MAX) {
        this.#finish()?.onError(error, this.context, details, this.stats);
        return;
      }
      this.#inner = null;
      this.#tries += 1;
      // Twice by the same node may be an accident, thrice is not.
      await route.look(error.code !== 0 || this.#tries > 2 ? server : null);
      if (this.#tries > 1) await pause(backOff(this.#tries - 2), this.#over.signal);
      if (!this.#over.signal.aborted) this.#send(route.server);
    }

    /** Nothing is awaited any more; gives whom to tell. */
    #finish() {
      this.#done?.();
      this.#done = null;
      this.#over.abort();
      return this.#callbacks;
    }

    abort() {
      const callbacks = this.#finish();
      const { context, stats } = this;
      this.#inner?.destroy();
      this.#inner = null;
      stats.aborted = true;
      callbacks?.onAbort?.(stats, context, null);
    }

    destroy() {
      this.#finish();
      this.#callbacks = null;
      this.context = null;
      this.#inner?.destroy();
      this.#inner = null;
    }

    getCacheAge() {
      return this.#inner?.getCacheAge() ?? null;
    }

    getResponseHeader(name) {
      return this.#inner?.getResponseHeader(name) ?? null;
    }
  };
}
