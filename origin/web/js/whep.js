// Plays a stream by WHEP: connects, waits while the stream is not live, comes back after a
// failure, and tells how it goes.
// Not here: signalling (`webrtc.js`), the page around it (`play.js`).
import { withToken } from './api.js';
import { PictureClock, percentile } from './latency.js';
import { Session, codecOf, lost, pathOf, retryDelay } from './webrtc.js';

/** Seconds that the node may hold an offer until the stream is live. */
const WAIT_SECONDS = 20;
/** Milliseconds from the NTP epoch to the Unix epoch. */
const NTP_OFFSET_MS = 2_208_988_800_000;
/** No picture for this long: the publisher is away. */
const SILENCE_MS = 2000;
const SOUND_ALONE = 'Sound alone: the stream has no picture that WebRTC can carry.';

export class WhepPlayer {
  /** idle, connecting, waiting, playing, away, retrying, failed */
  phase = 'idle';
  message = '';
  stats = {};
  startupMs = null;
  reconnects = 0;
  #endpoint;
  #video;
  #onChange;
  #run = null;
  #session = null;
  #pc = null;
  #before = null;
  #lastFrame = 0;

  constructor(stream, video, onChange) {
    this.#endpoint = `/whep/${stream}`;
    this.#video = video;
    this.#onChange = onChange;
    this.picture = new PictureClock(video, (metadata) => this.#framed(metadata));
  }

  get running() {
    return this.#run !== null;
  }

  async start() {
    if (this.#run) return;
    const run = new AbortController();
    this.#run = run;
    let tries = 0;
    let wait = false;
    let connected = false;
    while (!run.signal.aborted) {
      this.#show(wait ? 'waiting' : 'connecting', wait ? 'Waiting for the stream to start' : '');
      try {
        const why = await this.#once(run.signal, wait);
        if (run.signal.aborted) break;
        tries = 0;
        wait = false;
        connected = true;
        this.#show('retrying', why === 'failed' ? 'Connection lost, connecting again' : 'Connecting again');
      } catch (error) {
        if (run.signal.aborted) break;
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
    this.#close();
    this.#video.srcObject = null;
    this.#show('idle', '');
  }

  /** One connection, until it is lost. */
  async #once(signal, wait) {
    const began = performance.now();
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#pc = pc;
    const media = new MediaStream();
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addEventListener('track', ({ track }) => media.addTrack(track));
    this.#session = new Session(pc);
    this.#before = null;
    this.startupMs = null;
    this.picture.clear();
    const endpoint = withToken(this.#endpoint, wait ? { wait: WAIT_SECONDS } : {});
    this.began = began;
    await this.#session.open(endpoint, signal);
    if (wait) this.began = performance.now();
    this.#lastFrame = performance.now();
    this.#video.srcObject = media;
    this.#video.play().catch(() => {});
    const why = lost(pc);
    const aborted = new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    return Promise.race([why, aborted]);
  }

  #framed(metadata) {
    if (!this.#pc) return;
    this.#lastFrame = performance.now();
    this.captureTime = metadata.captureTime ?? null;
    if (this.startupMs === null) this.startupMs = performance.now() - this.began;
    if (this.phase !== 'playing' || this.message) this.#show('playing', '');
  }

  #close() {
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

export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
