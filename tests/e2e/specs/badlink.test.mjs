// SRT over a link that loses 3 % of all datagrams and holds each back for up to 30 ms, both ways:
// a reader on the other side of the node gets every frame. `E2E_LOSS_SECONDS=60` makes it long.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { badLink } from '../lib/badlink.mjs';
import { publishSrt } from '../lib/encoders.mjs';
import { Program } from '../lib/processes.mjs';
import { scene } from '../lib/scene.mjs';
import { OUT, report } from '../lib/wait.mjs';

const SECONDS = Number(process.env.E2E_LOSS_SECONDS ?? 15);
const RATE = 30;
const made = scene('badlink');

/** A counter of the node. */
async function counter(name) {
  const text = await (await fetch(`${made.node.url}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return Number(line?.split(' ').at(-1) ?? 0);
}

test('SRT over a bad link loses no frame', { timeout: (SECONDS + 60) * 1000 }, async () => {
  const link = await badLink(made.node.ports.srt, { lossPercent: 3, jitterMs: 30 });
  const through = { ports: { srt: link.port } };
  const encoder = made.keep(publishSrt('badlink-encoder', through, 'bad', { latencyMs: 400 }));
  await made.node.live('bad');
  const file = path.join(OUT, 'badlink.ts');
  const reader = made.keep(new Program('badlink-reader', 'ffmpeg', ['-hide_banner', '-nostdin', '-y',
    '-loglevel', 'error', '-i', `srt://127.0.0.1:${made.node.ports.srt}?streamid=request:bad`,
    '-t', String(SECONDS), '-c', 'copy', file]));
  assert.equal(await reader.exited, '0', reader.log());
  await encoder.kill();
  const counts = link.counts();
  link.close();

  const said = execFileSync('ffprobe', ['-v', 'error', '-select_streams', 'v:0', '-show_entries',
    'packet=dts_time', '-of', 'csv=p=0', file], { encoding: 'utf8' });
  const times = said.split('\n').map(parseFloat).filter(Number.isFinite);
  const gaps = times.slice(1).map((time, n) => time - times[n])
    .filter((step) => Math.abs(step - 1 / RATE) > 0.002);
  const lost = await counter('headwater_srt_packets_lost_total');
  const dropped = await counter('headwater_srt_packets_dropped_total{direction="in"}');
  report('badlink', { seconds: SECONDS, frames: times.length, gaps: gaps.length, ...counts,
    lostAndMended: lost, givenUp: dropped });
  assert.ok(counts.dropped > counts.passed * 0.02, `the link dropped only ${counts.dropped}`);
  assert.ok(lost > 0, 'the node noticed the loss');
  assert.equal(dropped, 0, 'it gave none up');
  assert.deepEqual(gaps, [], 'frames follow each other without a gap');
  assert.ok(times.length >= (SECONDS - 1) * RATE, `${times.length} frames in ${SECONDS} s`);
});
