// Encoders in, browser out: ffmpeg by SRT, RTMP and WHIP, played by WHEP and by hls.js, seen and
// heard.
import { test } from 'node:test';
import { publishRtmp, publishSrt, publishWhip } from '../lib/encoders.mjs';
import { playAll, scene } from '../lib/scene.mjs';

const made = scene('encoders');

for (const [protocol, publish] of [['srt', publishSrt], ['rtmp', publishRtmp], ['whip', publishWhip]]) {
  test(`ffmpeg by ${protocol.toUpperCase()} is seen and heard by WHEP and by hls.js`, async () => {
    const stream = `live/${protocol}`;
    const encoder = made.keep(publish(`encoders-${protocol}`, made.node, stream));
    await made.node.live(stream);
    const page = await playAll(made, stream);
    await page.context().close();
    await encoder.kill();
  });
}
