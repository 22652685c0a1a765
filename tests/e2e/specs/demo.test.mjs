// The built-in test stream: seen by WHEP and by hls.js, with a clock that the player can read.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { delays, read } from '../lib/browser.mjs';
import { playAll, scene } from '../lib/scene.mjs';
import { OUT, percentile, report } from '../lib/wait.mjs';

const made = scene('demo', { command: 'demo' });

test('the demo is seen and heard both ways, and its clock can be read', async () => {
  await made.node.live('demo');
  const page = await playAll(made, 'demo', { size: null, query: { hlsjs: 'tuned' } });
  const found = {};
  for (const which of ['whep', 'hls']) {
    const samples = await delays(page, which, 3000);
    assert.ok(samples.length > 30, `${which}: the clock was read in ${samples.length} frames only`);
    found[which] = { samples: samples.length, p50: percentile(samples, 0.5) };
    assert.ok(found[which].p50 > -50 && found[which].p50 < 30_000, `${which} is ${found[which].p50} ms late`);
    assert.match((await read(page, which)).stats.latencyFrom, /picture/);
  }
  const { viewers, hls_viewers: byHls } = await made.node.api('/api/v1/streams/demo');
  assert.deepEqual([viewers, byHls], [1, 1], 'each player is counted');
  report('demo', found);
  await page.screenshot({ path: path.join(OUT, 'demo.png'), fullPage: true });
  await page.context().close();
  const overview = await made.open('overview', '/');
  await overview.locator('.stream', { hasText: 'demo' }).waitFor();
  await overview.screenshot({ path: path.join(OUT, 'overview.png') });
  assert.deepEqual(overview.failures, []);
  await overview.context().close();
});
