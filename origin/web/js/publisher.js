// Publishes media to the node by WHIP: connects, comes back after a failure, ends the session,
// and tells how it goes.
// Not here: signalling (`webrtc.js`), where the media comes from (`publish.js`).
import { withToken } from './api.js';
import { Session, codecOf, lost, pathOf, retryDelay } from './webrtc.js';
import { pause } from './servers.js';

/** Puts one codec first and leaves repair formats in; others are not offered. */
function codecsFor(name) {
  const all = RTCRtpSender.getCapabilities('video').codecs;
  const wanted = all.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`);
  // H.264 as most things decode it: constrained baseline, packets of more than one NAL unit.
  const score = ({ sdpFmtpLine = '' }) =>
    (sdpFmtpLine.includes('packetization-mode=1') ? 2 : 0) + (sdpFmtpLine.includes('42e01f') ? 1 : 0);
  wanted.sort((a, b) => score(b) - score(a));
  const repair = all.filter(({ mimeType }) => /\/(rtx|red|ulpfec|flexfec-03)$/i.test(mimeType));
  return [wanted, repair];
}

/** Codec names that this browser can send. */
export function sendableCodecs(names) {
  return names.filter((name) => codecsFor(name)[0].length > 0);
}

export class Publisher {
  /** idle, connecting, live, retrying, failed */
  phase = 'idle';
  message = '';
  stats = {};
  reconnects = 0;
  #endpoint;
  #onChange;
  #run = null;
  #session = null;
  #pc = null;
  #before = null;

  constructor(stream, onChange) {
    this.#endpoint = `/whip/${stream}`;
    this.#onChange = onChange;
  }

  get running() {
    return this.#run !== null;
  }

  get location() {
    return this.#session?.location ?? null;
  }

  /**
   * Publishes until stopped or refused.
   * @param {MediaStream} media
   * @param {{codec: string, bitrate: number, fps: number}} options
   */
  async start(media, options) {
    if (this.#run) return;
    const run = new AbortController();
    this.#run = run;
    let tries = 0;
    while (!run.signal.aborted) {
      this.#show(tries === 0 ? 'connecting' : 'retrying', this.message);
      try {
        await this.#once(media, options, run.signal);
        if (run.signal.aborted) break;
        tries = 0;
        this.reconnects += 1;
        this.#show('retrying', 'Connection lost, connecting again');
      } catch (error) {
        if (run.signal.aborted) break;
        // After a failure the node may still hold our own last session: that passes.
        const refused = [400, 401, 403, 415, 422].includes(error.status)
          || (error.status === 409 && this.reconnects === 0 && tries === 0);
        this.#show(refused ? 'failed' : 'retrying', error.message);
        if (refused) {
          this.#run = null;
          return;
        }
        await pause(retryDelay(tries, error), run.signal);
        tries += 1;
      } finally {
        this.#close();
      }
    }
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
    this.#close();
    this.stats = {};
    this.#show('idle', '');
  }

  async #once(media, { codec, bitrate, fps }, signal) {
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#pc = pc;
    this.#session = new Session(pc);
    this.#before = null;
    for (const track of media.getTracks()) {
      const encoding = track.kind === 'video' ? { maxBitrate: bitrate, maxFramerate: fps } : {};
      const transceiver = pc.addTransceiver(track, {
        direction: 'sendonly', streams: [media], sendEncodings: [encoding],
      });
      if (track.kind !== 'video') continue;
      const [wanted, repair] = codecsFor(codec);
      if (wanted.length === 0) {
        throw Object.assign(new Error(`This browser cannot send ${codec}.`), { status: 422 });
      }
      transceiver.setCodecPreferences([...wanted, ...repair]);
    }
    await this.#session.open(withToken(this.#endpoint), signal);
    await this.#keepResolution(pc);
    const connected = new Promise((resolve) => {
      pc.addEventListener('connectionstatechange', () => {
        if (pc.connectionState !== 'connected') return;
        this.#show('live', '');
        resolve();
      });
    });
    const aborted = new Promise((resolve) => { signal.addEventListener('abort', resolve, { once: true }); });
    const gone = lost(pc);
    await Promise.race([connected, gone, aborted]);
    await Promise.race([gone, aborted]);
  }

  /** Under pressure let the rate of frames fall, not the size of the picture. */
  async #keepResolution(pc) {
    for (const sender of pc.getSenders()) {
      if (sender.track?.kind !== 'video') continue;
      const parameters = sender.getParameters();
      parameters.degradationPreference = 'maintain-resolution';
      await sender.setParameters(parameters).catch((error) => console.info(error.message));
    }
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
    const sent = all.filter((one) => one.type === 'outbound-rtp');
    const video = sent.find((one) => one.kind === 'video');
    const audio = sent.find((one) => one.kind === 'audio');
    const remote = all.find((one) => one.type === 'remote-inbound-rtp' && one.kind === (video ? 'video' : 'audio'));
    const path = pathOf(report);
    const now = {
      at: performance.now(),
      bytes: sent.reduce((sum, one) => sum + (one.bytesSent ?? 0), 0),
      frames: video?.framesEncoded ?? 0,
      busy: video?.totalEncodeTime ?? 0,
    };
    const before = this.#before ?? now;
    this.#before = now;
    const seconds = (now.at - before.at) / 1000;
    const frames = now.frames - before.frames;
    this.stats = {
      bitrate: seconds > 0 ? ((now.bytes - before.bytes) * 8) / seconds : null,
      fps: seconds > 0 ? frames / seconds : null,
      encodeMs: frames > 0 ? ((now.busy - before.busy) / frames) * 1000 : null,
      width: video?.frameWidth ?? null,
      height: video?.frameHeight ?? null,
      codec: codecOf(report, video),
      audioCodec: codecOf(report, audio),
      keyframes: video?.keyFramesEncoded ?? null,
      plis: video?.pliCount ?? null,
      limited: video?.qualityLimitationReason ?? null,
      rttMs: Number.isFinite(path.currentRoundTripTime) ? path.currentRoundTripTime * 1000 : null,
      lossPercent: Number.isFinite(remote?.fractionLost) ? remote.fractionLost * 100 : null,
      framesSent: video?.framesSent ?? 0,
    };
  }
}
