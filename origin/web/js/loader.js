// The way by which hls.js loads: every request goes to the node in use, and again to the next one
// where that one dies. hls.js sees one server, whose names and bytes are the same on every node.
// Not here: which node that is (`servers.js`), how two playlists join (`bridge.js`).
import { bridged, lacksSegments } from './bridge.js';
import { backOff, pause } from './servers.js';

/** For so long after a move, a node that does not have something yet is asked again. */
const ARRIVING_MS = 5000;
const ARRIVING_RETRY_MS = 150;
/** Tries of one request at nodes that live and yet fail it; hls.js decides after that. */
const TRIES_MAX = 4;
/** In every media playlist that lists something, and in every multivariant one. */
const LISTS = /^#EXT(INF:|-X-PART:|-X-STREAM-INF:)/m;
/** A proxy's word that what stands behind it is gone. */
const GATEWAY = [502, 504];

/** Makes hls.js's own loader `Base` follow `route`. */
export function following(Base, route) {
  /** The newest whole playlist of each rendition, by its URL without directives. */
  const lists = new Map();

  /** What hls.js is to get for a text; null where the node has nothing to list yet. */
  const listed = (url, text) => {
    if (!LISTS.test(text)) return null;
    const [name] = url.split('?');
    if (!lacksSegments(text)) {
      lists.set(name, text);
      return text;
    }
    return lists.has(name) ? bridged(text, lists.get(name)) : null;
  };

  return class Loader {
    context = null;
    stats = new Base({}).stats;
    #config;
    #callbacks = null;
    #inner = null;
    #tries = 0;
    #over = new AbortController();
    #done = null;

    load(context, config, callbacks) {
      this.context = context;
      this.#config = config;
      this.#callbacks = callbacks;
      this.#done = route.awaiting();
      this.#send();
    }

    #send() {
      const { context } = this;
      const { server, leaving } = route;
      Object.assign(this.stats, { aborted: false, loaded: 0, total: 0 });
      Object.assign(this.stats.loading, { start: 0, first: 0, end: 0 });
      const inner = new Base({ xhrSetup: (xhr) => xhr.addEventListener('progress', () => route.heard()) });
      inner.stats = this.stats;
      this.#inner = inner;
      const left = () => {
        if (this.#inner !== inner || this.#done === null) return;
        inner.destroy();
        this.#send();
      };
      leaving.addEventListener('abort', left, { once: true, signal: this.#over.signal });
      inner.load({ ...context, url: route.at(context.url) }, { ...this.#config }, {
        onSuccess: (response, stats, _, details) => {
          route.heard();
          const list = typeof response.data === 'string';
          const data = list ? listed(context.url, response.data) : response.data;
          // It has just begun to take the stream from its owner, for us.
          if (data === null && this.#arriving) {
            this.#later();
            return;
          }
          const url = response.url ? route.from(response.url, server) : context.url;
          this.#finish()?.onSuccess({ ...response, url, data: data ?? response.data }, stats, context, details);
        },
        onProgress: (stats, _, data, details) => {
          this.#callbacks?.onProgress?.(stats, context, data, details);
        },
        onError: (error, _, details) => this.#failed(error, details, server),
        onTimeout: (stats, _, details) => {
          // It says that it lives and lets a request lie: the next try is another node's.
          if (route.several) route.look(server);
          this.#finish()?.onTimeout(stats, context, details);
        },
      });
    }

    /** Whether the node may not have everything yet, as we have just come to it. */
    get #arriving() {
      return route.moved !== null && performance.now() - route.moved.at < ARRIVING_MS;
    }

    async #later() {
      this.#inner = null;
      await pause(ARRIVING_RETRY_MS, this.#over.signal);
      if (!this.#over.signal.aborted) this.#send();
    }

    async #failed(error, details, server) {
      const unreachable = error.code === 0 || GATEWAY.includes(error.code);
      const arriving = error.code === 404 && this.#arriving;
      if (!unreachable) route.heard();
      if (!route.several || !(arriving || (unreachable && this.#tries < TRIES_MAX))) {
        this.#finish()?.onError(error, this.context, details, this.stats);
        return;
      }
      if (arriving) {
        this.#later();
        return;
      }
      this.#inner = null;
      this.#tries += 1;
      // Twice by the same node may be an accident, thrice is not.
      await route.look(error.code !== 0 || this.#tries > 2 ? server : null);
      if (this.#tries > 1) await pause(backOff(this.#tries - 2), this.#over.signal);
      if (!this.#over.signal.aborted) this.#send();
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
