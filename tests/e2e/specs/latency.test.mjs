// Delay in the picture, from a browser's WHIP: WHEP beside the browser's own loop in the same
// run, LL-HLS with hls.js as it comes. The figures go to `tests/out/latency.json`.
// hls.js starts at the hold-back as it was when it read its first playlist, and never makes good
// the time that its start then took; so its delay is the hold-back and its own start-up, which
// is the machine's speed. `E2E_QUIET=1` says that nothing else runs, and holds it to the goal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delays, moving, read } from '../lib/browser.mjs';
import { loopInPage } from '../lib/pages.mjs';
import { playAll, publishPattern, scene } from '../lib/scene.mjs';
import { percentile, report } from '../lib/wait.mjs';

const made = scene('latency');
const OBSERVED_MS = 15_000;
/** More than the browser's own loop, at the median. */
const WHEP_OVER_FLOOR_MS = 25;
/** With parts of 200 ms, at the 95th percentile, on a machine that does nothing else. */
const HLS_P95_MS = 800;
/** What may come on top of hold-back and start-up: a part in the making, and some frames. */
const HLS_OVER_START_MS = 300;

function figures(samples) {
  return { samples: samples.length, p50: percentile(samples, 0.5), p95: percentile(samples, 0.95) };
}

test('WHEP stays near the browser’s own floor, and LL-HLS near its target', async () => {
  const loop = await made.open('loop', '/play/loop?hls=0&log=1', { before: loopInPage });
  await moving(loop, 'whep', { frames: 60 });
  const floor = figures(await delays(loop, 'whep', OBSERVED_MS));
  await loop.context().close();

  const publisher = await publishPattern(made, 'latency');
  const whepPage = await playAll(made, 'latency', { hls: false, sound: false });
  const whep = figures(await delays(whepPage, 'whep', OBSERVED_MS));
  await whepPage.context().close();
  const hlsPage = await playAll(made, 'latency', { whep: false, sound: false });
  const hls = figures(await delays(hlsPage, 'hls', OBSERVED_MS));
  const { stats, startupMs, stalls } = await read(hlsPage, 'hls');
  await hlsPage.context().close();
  await publisher.context().close();

  const over = whep.p50 - floor.p50;
  report('latency', { floor, whep, hls, whepOverFloorMs: over,
    hlsTargetMs: stats.targetMs, hlsStartupMs: startupMs, hlsStalls: stalls });
  for (const one of [floor, whep, hls]) assert.ok(one.samples > OBSERVED_MS / 100, JSON.stringify(one));
  assert.ok(over <= WHEP_OVER_FLOOR_MS, `WHEP is ${over} ms over the browser's floor`);
  const explained = stats.targetMs + startupMs + HLS_OVER_START_MS;
  assert.ok(hls.p50 <= explained, `LL-HLS is at ${hls.p50} ms, of which ${explained} is explained`);
  if (process.env.E2E_QUIET) assert.ok(hls.p95 <= HLS_P95_MS, `LL-HLS is at ${hls.p95} ms`);
});
