// Plays a stream by WHEP: connects, waits while the stream is not live, comes back after a
// failure, moves to another node when its own dies, and tells how it goes.
// Not here: signalling (`webrtc.js`), which node it is (`servers.js`), the page around it
// (`play.js`).
import { Hold } from './hold.js';
import { PictureClock, percentile } from './latency.js';
import { Route, pause } from './servers.js';
import { Session, codecOf, lost, pathOf, retryDelay } from './webrtc.js';

/** Seconds that the node may hold an offer until the stream is live. */
const WAIT_SECONDS = 20;
/** Milliseconds from the NTP epoch to the Unix epoch. */
const NTP_OFFSET_MS = 2_208_988_800_000;
/** No picture for this long: the publisher is away. */
const SILENCE_MS = 2000;
/** Answers that another node may better: it is out of reach, full, or goes away. */
const ELSEWHERE = [0, 502, 503, 504];
const SOUND_ALONE = 'Sound alone: the stream has no picture that WebRTC can carry.';

export class WhepPlayer {
  /** idle, connecting, waiting, playing, away, retrying, failed */
  phase = 'idle';
  message = '';
  stats = {};
  startupMs = null;
  reconnects = 0;
  #path;
  #video;
  #hold;
  #onChange;
  #run = null;
  #session = null;
  #pc = null;
  #before = null;
  #lastFrame = 0;
  #attachedAt = Infinity;

  constructor(stream, video, onChange, servers) {
    this.#path = `/whep/${stream}`;
    this.#video = video;
    this.#hold = new Hold(video);
    this.#onChange = onChange;
    this.route = new Route(servers, onChange);
    this.picture = new PictureClock(video, (metadata) => this.#framed(metadata));
  }

  get running() {
    return this.#run !== null;
  }

  /** Whether a picture is in sight that does not move. */
  get held() {
    return this.#hold.held;
  }

  async start() {
    if (this.#run) return;
    const run = new AbortController();
    this.#run = run;
    this.route.start();
    let tries = 0;
    let wait = false;
    let connected = false;
    while (!run.signal.aborted) {
      if (wait) this.#show('waiting', 'Waiting for the stream to start');
      else if (!this.#hold.held) this.#show('connecting', '');
      const { server, leaving } = this.route;
      try {
        const why = await this.#once(run.signal, wait);
        if (run.signal.aborted) break;
        tries = 0;
        wait = false;
        connected = true;
        if (why !== 'moved') await this.#lost(why, server);
        else this.#show('retrying', `Moving to ${this.route.server.name}`);
      } catch (error) {
        if (run.signal.aborted) break;
        // It has moved already, away from the node that did not answer.
        if (leaving.aborted) {
          this.#show('retrying', `Moving to ${this.route.server.name}`);
          continue;
        }
        if (this.route.several && ELSEWHERE.includes(error.status)) {
          this.#show('retrying', error.message);
          const found = await this.route.look(error.status === 0 ? null : server);
          if (found !== server) continue;
        }
        if (error.slug === 'stream-not-found' || error.status === 404) {
          // The next offer waits on the node: it is answered when the stream starts.
          this.#show('waiting', 'Waiting for the stream to start');
          if (!wait) {
            wait = true;
            continue;
          }
        } else if ([400, 401, 403, 415].includes(error.status)) {
          this.#show('failed', error.message);
          this.#run = null;
          this.route.stop();
          this.#close();
          return;
        } else {
          this.#show('retrying', error.message);
        }
        await pause(retryDelay(tries, error), run.signal);
        tries += 1;
      } finally {
        this.#close();
      }
      if (connected) this.reconnects += 1;
      connected = false;
    }
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
    this.route.stop();
    this.#close();
    this.#video.srcObject = null;
    this.#hold.drop();
    this.#show('idle', '');
  }

  /** The connection broke while nothing said that the node is dead: is it? */
  async #lost(why, server) {
    this.#show('retrying', why === 'failed' ? 'Connection lost, connecting again' : 'Connecting again');
    // A node that answers and never showed a picture may be out of reach for media alone.
    if (this.route.several) await this.route.look(this.startupMs === null ? server : null);
  }

  /** One connection, until it is lost or its node is left. */
  async #once(signal, wait) {
    const began = performance.now();
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#pc = pc;
    this.#attachedAt = Infinity;
    const media = new MediaStream();
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addEventListener('track', ({ track }) => media.addTrack(track));
    this.#session = new Session(pc);
    this.#before = null;
    this.startupMs = null;
    this.picture.clear();
    const { leaving } = this.route;
    const endpoint = this.route.url(this.#path, wait ? { wait: WAIT_SECONDS } : {});
    this.began = began;
    const done = this.route.awaiting();
    try {
      await this.#session.open(endpoint, AbortSignal.any([signal, leaving]));
    } finally {
      done();
    }
    if (wait) this.began = performance.now();
    this.#lastFrame = performance.now();
    this.#attachedAt = this.#lastFrame;
    this.route.evidence = flowing(pc);
    this.#video.srcObject = media;
    this.#video.play().catch(() => {});
    const why = lost(pc);
    const aborted = new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    const moved = new Promise((resolve) => {
      leaving.addEventListener('abort', () => resolve('moved'), { once: true });
    });
    return Promise.race([why, aborted, moved]);
  }

  #framed(metadata) {
    // Frames of the last connection may still come to the screen.
    if (!this.#pc || metadata.presentationTime < this.#attachedAt) return;
    this.route.heard();
    this.#hold.drop();
    this.#lastFrame = performance.now();
    this.captureTime = metadata.captureTime ?? null;
    if (this.startupMs === null) this.startupMs = performance.now() - this.began;
    if (this.phase !== 'playing' || this.message) this.#show('playing', '');
  }

  #close() {
    this.route.evidence = null;
    // The picture goes with the connection.
    if (this.#run && this.startupMs !== null) this.#hold.take();
    this.#session?.end();
    this.#session = null;
    this.#pc = null;
  }

  #show(phase, message) {
    this.phase = phase;
    this.message = message;
    this.#onChange();
  }

  /** Reads the browser's figures; call about once a second. */
  async measure() {
    const pc = this.#pc;
    if (!pc || pc.connectionState !== 'connected') {
      this.stats = {};
      return;
    }
    const report = await pc.getStats();
    const all = [...report.values()];
    const video = all.find((one) => one.type === 'inbound-rtp' && one.kind === 'video');
    const audio = all.find((one) => one.type === 'inbound-rtp' && one.kind === 'audio');
    const path = pathOf(report);
    const now = {
      at: performance.now(),
      bytes: (video?.bytesReceived ?? 0) + (audio?.bytesReceived ?? 0),
      frames: video?.framesDecoded ?? 0,
      buffered: video?.jitterBufferDelay ?? 0,
      emitted: video?.jitterBufferEmittedCount ?? 0,
    };
    const before = this.#before ?? now;
    this.#before = now;
    const seconds = (now.at - before.at) / 1000;
    const emitted = now.emitted - before.emitted;
    const buffer = emitted > 0 ? ((now.buffered - before.buffered) / emitted) * 1000 : null;
    this.stats = {
      bitrate: seconds > 0 ? ((now.bytes - before.bytes) * 8) / seconds : null,
      fps: seconds > 0 ? (now.frames - before.frames) / seconds : null,
      width: video?.frameWidth ?? null,
      height: video?.frameHeight ?? null,
      codec: codecOf(report, video),
      audioCodec: codecOf(report, audio),
      audioLevel: audio?.audioLevel ?? null,
      frames: now.frames,
      dropped: video?.framesDropped ?? null,
      freezes: video?.freezeCount ?? null,
      lost: (video?.packetsLost ?? 0) + (audio?.packetsLost ?? 0),
      received: (video?.packetsReceived ?? 0) + (audio?.packetsReceived ?? 0),
      nacks: video?.nackCount ?? null,
      rttMs: Number.isFinite(path.currentRoundTripTime) ? path.currentRoundTripTime * 1000 : null,
      bufferMs: buffer,
      ...this.#latency(video, path, buffer),
    };
    const silent = performance.now() - this.#lastFrame > SILENCE_MS;
    const hasVideo = (video?.packetsReceived ?? 0) > 0;
    if (silent && this.phase === 'playing' && hasVideo) this.#show('away', 'No picture: the publisher is away');
    if (!hasVideo && (audio?.packetsReceived ?? 0) > 0 && this.phase === 'connecting') this.#show('playing', SOUND_ALONE);
  }

  /** The best estimate of the delay that there is, and where it comes from. */
  #latency(video, path, buffer) {
    if (this.picture.visible) {
      return { latencyMs: this.picture.latest, latencyFrom: 'read from the picture',
        p95Ms: percentile(this.picture.samples, 0.95) };
    }
    const estimated = video?.estimatedPlayoutTimestamp;
    if (Number.isFinite(estimated) && estimated > 0) {
      const delay = Date.now() - (estimated > NTP_OFFSET_MS ? estimated - NTP_OFFSET_MS : estimated);
      if (delay > -1000 && delay < 60_000) {
        return { latencyMs: Math.max(delay, 0), latencyFrom: 'by the sender’s clock (RTCP)' };
      }
    }
    if (Number.isFinite(path.currentRoundTripTime) && Number.isFinite(buffer)) {
      return { latencyMs: path.currentRoundTripTime * 500 + buffer, latencyFrom: 'network and buffer only' };
    }
    return { latencyMs: null, latencyFrom: '' };
  }
}

/** Tells at each call whether packets have come since the last: of sound too, in hidden tabs too. */
function flowing(pc) {
  let before = null;
  return () => {
    const newest = pc.getReceivers().flatMap((one) => one.getSynchronizationSources())
      .map(({ timestamp }) => timestamp);
    const now = newest.length > 0 ? Math.max(...newest) : null;
    const flows = now !== null && now !== before;
    before = now;
    return flows;
  };
}
