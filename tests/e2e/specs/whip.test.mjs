// A browser publishes by WHIP, another page plays: each codec by WHEP, and by hls.js what LL-HLS
// can carry.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { read } from '../lib/browser.mjs';
import { playAll, publishPattern, scene } from '../lib/scene.mjs';
import { until } from '../lib/wait.mjs';

const made = scene('whip');

for (const [codec, hls] of [['H264', true], ['VP8', false], ['VP9', true], ['AV1', true]]) {
  const also = hls ? ' and by hls.js' : '';
  test(`${codec} from a browser is seen and heard by WHEP${also}`, async () => {
    const stream = `browser-${codec.toLowerCase()}`;
    const publisher = await publishPattern(made, stream, { codec });
    assert.equal((await read(publisher, 'publisher')).stats.codec, codec);
    const player = await playAll(made, stream, { hls });
    assert.equal((await read(player, 'whep')).stats.codec, codec);
    await player.context().close();
    await publisher.getByRole('button', { name: 'Stop' }).click();
    await until('the stream is gone or waits for its publisher', async () => {
      const response = await fetch(`${made.node.url}/api/v1/streams/${stream}`);
      return response.status === 404 || (await response.json()).state !== 'live';
    });
    assert.deepEqual(publisher.failures, []);
    await publisher.context().close();
  });
}
