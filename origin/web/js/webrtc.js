// WHIP and WHEP signalling, which are the same but for the direction of the media: one offer, one
// answer, candidates as they are found, and an end.
// Not here: what is sent or shown (`publish.js`, `whep.js`).
import { NodeError, problem, request } from './api.js';

const ANSWER_TIMEOUT_MS = 20_000;

/** One session on the node, made from a peer connection whose tracks are in place. */
export class Session {
  #pc;
  #location = null;
  #etag = null;
  #found = [];
  #sending = false;
  #ended = false;

  constructor(pc) {
    this.#pc = pc;
    pc.addEventListener('icecandidate', ({ candidate }) => {
      if (this.#ended) return;
      this.#found.push(candidate);
      this.#trickle();
    });
  }

  /** Offers, and takes the answer. */
  async open(endpoint, signal) {
    const pc = this.#pc;
    await pc.setLocalDescription(await pc.createOffer());
    const limit = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const response = await request(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp', accept: 'application/sdp' },
      body: pc.localDescription.sdp,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const location = response.headers.get('location');
    if (!location) throw new NodeError(response.status, 'no-location', 'The node named no session.', null);
    this.#location = new URL(location, endpoint).href;
    this.#etag = response.headers.get('etag');
    const sdp = await response.text();
    if (this.#ended) {
      this.#delete();
      return;
    }
    await pc.setRemoteDescription({ type: 'answer', sdp });
    this.#trickle();
  }

  /** Sends what candidates there are, one request at a time. */
  async #trickle() {
    if (!this.#location || !this.#etag || this.#sending || this.#found.length === 0) return;
    const sdp = this.#pc.localDescription?.sdp ?? '';
    const line = (name) => sdp.match(new RegExp(`^a=${name}:.*$`, 'm'))?.[0]?.trim();
    const found = this.#found.splice(0);
    const lines = [line('ice-ufrag'), line('ice-pwd')];
    const first = sdp.match(/^m=.*$/m)?.[0]?.trim();
    if (!lines[0] || !lines[1] || !first) return;
    lines.push(first, line('mid') ?? 'a=mid:0');
    for (const candidate of found) {
      lines.push(candidate?.candidate ? `a=${candidate.candidate}` : 'a=end-of-candidates');
    }
    this.#sending = true;
    try {
      const response = await fetch(this.#location, {
        method: 'PATCH',
        headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': this.#etag },
        body: `${lines.join('\r\n')}\r\n`,
      });
      // The node learns this side's addresses from its checks too, so that a refusal costs nothing.
      if (!response.ok) console.info('candidates refused:', (await problem(response)).message);
    } catch (error) {
      console.info('candidates not sent:', error.message);
    }
    this.#sending = false;
    this.#trickle();
  }

  /** The session's URL on the node, once there is one. */
  get location() {
    return this.#location;
  }

  /** Ends the session here and on the node. Safe to call twice, and while the page goes away. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#delete();
    this.#pc.close();
  }

  #delete() {
    if (!this.#location) return;
    fetch(this.#location, { method: 'DELETE', keepalive: true }).catch(() => {});
  }
}

/**
 * Resolves when the connection is lost: failed or closed at once, disconnected after a while
 * (it may come back by itself).
 */
export function lost(pc, graceMs = 3000) {
  return new Promise((resolve) => {
    let timer = null;
    const look = () => {
      clearTimeout(timer);
      if (pc.connectionState === 'failed' || pc.connectionState === 'closed') resolve(pc.connectionState);
      if (pc.connectionState === 'disconnected') timer = setTimeout(() => resolve('disconnected'), graceMs);
    };
    pc.addEventListener('connectionstatechange', look);
    look();
  });
}

/** The chosen candidate pair's figures and the codec of a stream, out of a stats report. */
export function pathOf(report) {
  const transport = [...report.values()].find((one) => one.type === 'transport');
  return report.get(transport?.selectedCandidatePairId) ?? {};
}

export function codecOf(report, stream) {
  return report.get(stream?.codecId)?.mimeType?.split('/')[1] ?? null;
}

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 8000;

/** How long to wait before the next try: what the node asked for, else longer each time. */
export function retryDelay(tries, error) {
  if (Number.isFinite(error?.retryAfter)) return Math.max(error.retryAfter * 1000, 250);
  return Math.min(RETRY_FIRST_MS * 2 ** tries, RETRY_MAX_MS);
}
