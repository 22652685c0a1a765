// Delay from the publisher's clock to the screen, sampled once a frame from the bar code in the
// picture, and percentiles of the newest samples.
// Not here: the bar code's layout (`clockcode.js`), other estimates (`whep.js`, `hls.js`).
import { age, read, rowsToRead } from './clockcode.js';

const WINDOW = 300;
/** After this many frames without a code, look at one frame in `IDLE_EVERY` only. */
const MISSES_MAX = 60;
const IDLE_EVERY = 30;
/** No stream is this far behind its publisher's clock: beyond it, the clocks disagree. */
const PLAUSIBLE_MS = 120_000;

export function percentile(values, fraction) {
  if (values.length === 0) return null;
  const sorted = values.slice().sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))];
}

/** Watches a video element; calls `onFrame` at each frame that it presents. */
export class PictureClock {
  #video;
  #buffer = new Uint8Array(0);
  #misses = 0;
  #handle = null;
  #reading = false;
  #onFrame;
  /** Newest delays in milliseconds. */
  samples = [];
  /** Every sample since the start, kept where a test asks for it. */
  log = new URLSearchParams(window.location.search).has('log') ? [] : null;

  constructor(video, onFrame = () => {}) {
    this.#video = video;
    this.#onFrame = onFrame;
    if (!('requestVideoFrameCallback' in video)) return;
    const each = (at, metadata) => {
      this.#handle = video.requestVideoFrameCallback(each);
      this.#onFrame(metadata);
      const idle = this.#misses > MISSES_MAX && metadata.presentedFrames % IDLE_EVERY !== 0;
      if (!idle && !this.#reading) this.#read(Date.now());
    };
    this.#handle = video.requestVideoFrameCallback(each);
  }

  stop() {
    if (this.#handle !== null) this.#video.cancelVideoFrameCallback(this.#handle);
    this.#handle = null;
  }

  clear() {
    this.samples = [];
    this.#misses = 0;
  }

  /** Whether the picture carries a readable clock. */
  get visible() {
    return this.samples.length > 0 && this.#misses < MISSES_MAX;
  }

  get latest() {
    return this.visible ? percentile(this.samples.slice(-10), 0.5) : null;
  }

  async #read(now) {
    if (!('VideoFrame' in window)) return;
    this.#reading = true;
    let value = null;
    let frame = null;
    try {
      frame = new VideoFrame(this.#video);
      value = await this.#decode(frame);
    } catch {
      // No picture at this moment, or one that may not be read.
    } finally {
      frame?.close();
      this.#reading = false;
    }
    const delay = value === null ? null : age(value, now);
    if (delay === null || Math.abs(delay) > PLAUSIBLE_MS) {
      this.#misses += 1;
      return;
    }
    this.#misses = 0;
    this.samples.push(delay);
    if (this.samples.length > WINDOW) this.samples.shift();
    this.log?.push([now, delay]);
  }

  async #decode(frame) {
    const { x, y, width, height } = frame.visibleRect;
    const { first, count } = rowsToRead(height);
    const rect = { x, y: y + first, width: width & ~1, height: count };
    const planar = frame.format !== null && /^(I4|NV12)/.test(frame.format);
    const options = planar ? { rect } : { rect, format: 'RGBA' };
    const size = frame.allocationSize(options);
    if (this.#buffer.length < size) this.#buffer = new Uint8Array(size);
    const [plane] = await frame.copyTo(this.#buffer, options);
    return read(this.#buffer.subarray(plane.offset), rect.width, count, plane.stride, planar ? 1 : 4);
  }
}
