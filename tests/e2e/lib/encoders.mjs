// Publishers that are not browsers: ffmpeg by SRT, RTMP and WHIP.
// Not here: the node's side.
import { Program } from './processes.mjs';

/** Debian's ffmpeg for SRT and RTMP; the static one, newer, has the WHIP muxer. */
const FFMPEG = 'ffmpeg';
const FFMPEG_WHIP = process.env.E2E_FFMPEG ?? 'ffmpeg';

const source = ({ size = '640x360', rate = 30 } = {}) => [
  '-hide_banner', '-nostdin', '-loglevel', 'warning',
  '-re', '-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=${rate}`,
  '-re', '-f', 'lavfi', '-i', 'sine=frequency=440:beep_factor=2:sample_rate=48000',
];
const video = ({ rate = 30 } = {}) => [
  '-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency', '-profile:v', 'baseline',
  '-pix_fmt', 'yuv420p', '-b:v', '1M', '-g', String(rate * 2), '-bf', '0',
];
const aac = ['-c:a', 'aac', '-b:a', '96k', '-ar', '48000', '-ac', '2'];
const opus = ['-c:a', 'libopus', '-b:a', '64k', '-ar', '48000', '-ac', '2'];

export function publishSrt(name, node, stream, options = {}) {
  const query = new URLSearchParams({ mode: 'caller', streamid: `publish:${stream}`,
    // ffmpeg takes microseconds.
    ...(options.latencyMs ? { latency: String(options.latencyMs * 1000) } : {}),
    ...(options.passphrase ? { passphrase: options.passphrase, pbkeylen: '32' } : {}) });
  return new Program(name, FFMPEG, [...source(options), ...video(options), ...aac,
    '-f', 'mpegts', `srt://127.0.0.1:${node.ports.srt}?${decodeURIComponent(query)}`]);
}

/** By RTMP a stream's name has two parts: application and key. */
export function publishRtmp(name, node, stream, options = {}) {
  return new Program(name, FFMPEG, [...source(options), ...video(options), ...aac,
    '-f', 'flv', `rtmp://127.0.0.1:${node.ports.rtmp}/${stream}`]);
}

export function publishWhip(name, node, stream, options = {}) {
  return new Program(name, FFMPEG_WHIP, [...source(options), ...video(options), ...opus,
    '-f', 'whip', `${node.url}/whip/${stream}`]);
}
