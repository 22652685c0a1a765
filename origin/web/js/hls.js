// Plays a stream by LL-HLS: with hls.js where the browser has Media Source Extensions, else by
// the browser's own player.
// Not here: the page around it (`play.js`); hls.js itself (`/assets/vendor/hls.js`), how it moves
// to another node (`loader.js`).
import { json } from './api.js';
import { PictureClock, percentile } from './latency.js';
import { following } from './loader.js';
import { rescue } from './rescue.js';
import { Route, pause } from './servers.js';
import { retryDelay } from './webrtc.js';

const MISSING = 'This build has no hls.js, which this browser needs: install Node.js, run '
  + '“npm ci” in origin/web, and build again.';
const ENDED_POLL_MS = 2000;

/**
 * Catching up, too slowly to be heard: hls.js starts behind its target by the time that its start
 * takes and stays there, and its own remedy wants a second of buffer, which low delay never has.
 */
const CATCH_UP = { rate: 1.05, fromMs: 150, untilMs: 40, bufferMinMs: 300 };

let loading = null;

/** Loads hls.js once; null where the build went without it. */
function library() {
  loading ??= new Promise((resolve) => {
    const script = document.createElement('script');
    script.src = '/assets/vendor/hls.js';
    script.onload = () => resolve(window.Hls ?? null);
    script.onerror = () => resolve(null);
    document.head.append(script);
  });
  return loading;
}

export class HlsPlayer {
  /** idle, connecting, waiting, playing, stalled, retrying, ended, failed */
  phase = 'idle';
  message = '';
  stats = {};
  startupMs = null;
  reconnects = 0;
  stalls = 0;
  /** How often hls.js waited for what it did not ask for. */
  rescues = 0;
  #path;
  #api;
  #video;
  #onChange;
  #run = null;
  #hls = null;
  #bytes = 0;
  #before = null;
  #plain = new URLSearchParams(window.location.search).get('hlsjs') === 'defaults';

  constructor(stream, video, onChange, servers) {
    this.#path = `/hls/${stream}/index.m3u8`;
    this.#api = `/api/v1/streams/${stream}`;
    this.#video = video;
    this.#onChange = onChange;
    this.route = new Route(servers, onChange);
    this.picture = new PictureClock(video, () => this.#framed());
    video.addEventListener('playing', () => { if (this.#run) this.#show('playing', ''); });
    video.addEventListener('waiting', () => {
      if (this.#run && this.phase === 'playing') {
        this.stalls += 1;
        this.#show('stalled', 'Waiting for data');
      }
    });
  }

  get running() {
    return this.#run !== null;
  }

  /** The one of hls.js, while there is one. */
  get library() {
    return this.#hls;
  }

  async start() {
    if (this.#run) return;
    const run = new AbortController();
    this.#run = run;
    const Hls = await library();
    const byLibrary = Hls?.isSupported() ?? false;
    if (!byLibrary && !this.#video.canPlayType('application/vnd.apple.mpegurl')) {
      this.#run = null;
      this.#show('failed', Hls ? 'This browser cannot play HLS.' : MISSING);
      return;
    }
    let tries = 0;
    let played = false;
    this.route.start();
    this.#show('connecting', '');
    while (!run.signal.aborted) {
      try {
        this.began = performance.now();
        await this.route.request(this.#path, { signal: run.signal });
        if (this.phase === 'waiting') this.#show('connecting', '');
        this.startupMs = null;
        this.picture.clear();
        if (played) this.reconnects += 1;
        const end = byLibrary ? this.#byLibrary(Hls, run.signal) : this.#byBrowser(run.signal);
        const why = await end;
        played = this.startupMs !== null;
        if (run.signal.aborted) break;
        if (why === 'ended') {
          this.#show('ended', 'The stream has ended');
          await this.#liveAgain(run.signal);
        } else {
          this.#show('retrying', why);
          await pause(retryDelay(tries, null), run.signal);
          tries = this.startupMs === null ? tries + 1 : 0;
        }
      } catch (error) {
        if (run.signal.aborted) break;
        const waiting = error.status === 404;
        this.#show(waiting ? 'waiting' : 'retrying',
          waiting ? 'Waiting for the stream to start' : error.message);
        await pause(retryDelay(waiting ? 1 : tries, error), run.signal);
        tries += 1;
      } finally {
        this.#close();
      }
    }
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
    this.route.stop();
    this.#close();
    this.#video.removeAttribute('src');
    this.#video.load();
    this.#show('idle', '');
  }

  /** Plays by hls.js until a failure that it cannot mend; resolves with the reason. */
  #byLibrary(Hls, signal) {
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve('stopped'), { once: true });
      const hls = new Hls({ loader: following(Hls.DefaultConfig.loader, this.route) });
      this.#hls = hls;
      this.#bytes = 0;
      this.#before = null;
      hls.on(Hls.Events.FRAG_BUFFERED, (_, { stats }) => { this.#bytes += stats?.loaded ?? 0; });
      rescue(Hls, hls, () => { this.rescues += 1; });
      let mended = false;
      hls.on(Hls.Events.ERROR, (_, { fatal, type, details, response }) => {
        if (!fatal) return;
        if (type === Hls.ErrorTypes.MEDIA_ERROR && !mended) {
          mended = true;
          hls.recoverMediaError();
          return;
        }
        if (details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
          resolve('Nothing in this stream can be played by LL-HLS in this browser.');
          return;
        }
        resolve(response?.code ? `LL-HLS stopped: ${details} (${response.code})` : `LL-HLS stopped: ${details}`);
      });
      this.#video.addEventListener('ended', () => resolve('ended'), { once: true, signal });
      hls.on(Hls.Events.MANIFEST_PARSED, () => this.#video.play().catch(() => {}));
      hls.loadSource(this.route.lasting(this.#path));
      hls.attachMedia(this.#video);
    });
  }

  /** Plays by the browser itself: it has one URL, so that another node means a new start. */
  #byBrowser(signal) {
    return new Promise((resolve) => {
      const options = { once: true, signal };
      signal.addEventListener('abort', () => resolve('stopped'), { once: true });
      this.#video.addEventListener('ended', () => resolve('ended'), options);
      this.#video.addEventListener('error', () => resolve('The browser’s player gave up'), options);
      this.#video.src = this.route.url(this.#path);
      this.#video.play().catch(() => {});
    });
  }

  /** Resolves when the stream is live once more. */
  async #liveAgain(signal) {
    while (!signal.aborted) {
      await pause(ENDED_POLL_MS, signal);
      try {
        if (await this.#live(signal)) return;
      } catch {
        // Not live yet, or out of reach: look again.
      }
    }
  }

  /** By the page's own node; where it does not tell, by the playlists of the one in use. */
  async #live(signal) {
    const told = await json(this.#api).catch((error) => {
      if (error.status === 404) return { state: 'none' };
      return null;
    });
    if (told) return told.state === 'live';
    const first = await this.route.request(this.#path, { signal, cache: 'no-store' });
    const [name] = (await first.text()).match(/^[^#\s].*$/m) ?? [];
    if (!name) return false;
    const base = this.#path.slice(0, this.#path.lastIndexOf('/') + 1);
    const media = await this.route.request(base + name, { signal, cache: 'no-store' });
    return !(await media.text()).includes('#EXT-X-ENDLIST');
  }

  #framed() {
    if (!this.#run) return;
    if (this.startupMs === null) this.startupMs = performance.now() - this.began;
    if (['connecting', 'waiting', 'retrying'].includes(this.phase)) this.#show('playing', '');
  }

  #close() {
    this.#hls?.destroy();
    this.#hls = null;
  }

  #show(phase, message) {
    this.phase = phase;
    this.message = message;
    this.#onChange();
  }

  /** Reads the figures; call about once a second. */
  async measure() {
    const video = this.#video;
    if (!this.#run || this.startupMs === null) {
      this.stats = {};
      return;
    }
    const hls = this.#hls;
    if (hls && !this.#plain) this.#catchUp(hls);
    const quality = video.getVideoPlaybackQuality();
    const now = { at: performance.now(), bytes: this.#bytes, frames: quality.totalVideoFrames };
    const before = this.#before ?? now;
    this.#before = now;
    const seconds = (now.at - before.at) / 1000;
    const level = hls?.levels?.[Math.max(hls.currentLevel, 0)];
    const ahead = this.#ahead();
    this.stats = {
      bitrate: hls && seconds > 0 ? ((now.bytes - before.bytes) * 8) / seconds : null,
      fps: seconds > 0 ? (now.frames - before.frames) / seconds : null,
      width: video.videoWidth || null,
      height: video.videoHeight || null,
      codec: level?.videoCodec ?? null,
      audioCodec: level?.audioCodec ?? hls?.audioTracks?.[hls.audioTrack]?.audioCodec ?? null,
      frames: now.frames,
      dropped: quality.droppedVideoFrames,
      bufferMs: ahead,
      playerLatencyMs: hls ? hls.latency * 1000 : null,
      targetMs: Number.isFinite(hls?.targetLatency) ? hls.targetLatency * 1000 : null,
      rate: video.playbackRate,
      ...this.#latency(hls),
    };
  }

  /** Milliseconds of media ready to play. */
  #ahead() {
    const { buffered, currentTime } = this.#video;
    return buffered.length > 0 ? Math.max(buffered.end(buffered.length - 1) - currentTime, 0) * 1000 : null;
  }

  /** Plays a little faster while the delay is above the target and the buffer can bear it. */
  #catchUp(hls) {
    const above = (hls.latency - hls.targetLatency) * 1000;
    const from = this.#video.playbackRate > 1 ? CATCH_UP.untilMs : CATCH_UP.fromMs;
    const faster = above > from && this.#ahead() > CATCH_UP.bufferMinMs;
    this.#video.playbackRate = faster ? CATCH_UP.rate : 1;
  }

  #latency(hls) {
    if (this.picture.visible) {
      return { latencyMs: this.picture.latest, latencyFrom: 'read from the picture',
        p95Ms: percentile(this.picture.samples, 0.95) };
    }
    const date = hls?.playingDate ?? startDate(this.#video);
    if (date) return { latencyMs: Date.now() - date.getTime(), latencyFrom: 'by PROGRAM-DATE-TIME' };
    if (hls) return { latencyMs: hls.latency * 1000, latencyFrom: 'behind the playlist’s edge' };
    return { latencyMs: null, latencyFrom: '' };
  }
}

/** The wall-clock time of what a browser's own player shows. */
function startDate(video) {
  const start = video.getStartDate?.();
  return start && Number.isFinite(start.getTime())
    ? new Date(start.getTime() + video.currentTime * 1000) : null;
}
