// The player moves to another node when its own dies: by hls.js without a reload, by WHEP with the
// last picture held. The node is killed, which closes its connections; the next one is then stopped,
// which leaves them open and silent. The next node has not had a viewer of the stream, so that it
// begins to take it only then.
// `E2E_QUIET=1` says that nothing else runs, and holds the pauses to what is promised.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch, moving, open, read } from '../lib/browser.mjs';
import { publishWhip } from '../lib/encoders.mjs';
import { startCluster } from '../lib/node.mjs';
import { OUT, report, until } from '../lib/wait.mjs';

const STREAM = 'show/must-go-on';
/** The longest that a picture may stand still, in milliseconds, and sound may be away. */
const BOUNDS = process.env.E2E_QUIET ? {
  killed: { hls: 500, hlsSound: 500, whep: 1000 },
  stopped: { hls: 1000, hlsSound: 1000, whep: 1500 },
} : {
  killed: { hls: 3000, hlsSound: 3000, whep: 3000 },
  stopped: { hls: 6000, hlsSound: 6000, whep: 5000 },
};
/** Mean brightness (0 to 255) below which the picture counts as black; the test picture is far above. */
const BLACK_BELOW = 30;

let browser;
let nodes = [];
let encoder;

before(async () => {
  browser = await launch();
  nodes = await startCluster('failover', 3);
});
after(async () => {
  await browser?.close();
  if (encoder?.alive) await encoder.kill();
  // One was killed and one is stopped: they cannot end by themselves.
  for (const { program } of [nodes[0], nodes[2]].filter(Boolean)) if (program.alive) await program.kill();
  for (const node of nodes) await node.stop();
});

/** Runs in the page: notes at every frame of the screen what both players show and sound like. */
function watch() {
  const [whep, hls] = document.querySelectorAll('video');
  const held = document.querySelector('.held');
  const seen = { hls: 0, whep: 0, hlsSound: 0, darkest: 255, held: 0, errors: [], back: 0 };
  const last = { hls: performance.now(), whep: performance.now(), hlsSound: performance.now() };
  const mark = (name) => {
    const now = performance.now();
    seen[name] = Math.max(seen[name], now - last[name]);
    last[name] = now;
  };
  for (const [name, video] of [['hls', hls], ['whep', whep]]) {
    const each = () => {
      mark(name);
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }
  const { library } = window.headwater.hls;
  library.on('hlsError', (_, { fatal, details }) => seen.errors.push({ fatal, details }));
  let time = hls.currentTime;
  hls.muted = false;
  const audio = new AudioContext();
  const analyser = new AnalyserNode(audio, { fftSize: 1024 });
  audio.createMediaStreamSource(new MediaStream(hls.captureStream().getAudioTracks())).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const small = new OffscreenCanvas(16, 9).getContext('2d', { willReadFrequently: true });
  const look = () => {
    small.fillStyle = '#000';
    small.fillRect(0, 0, 16, 9);
    if (whep.readyState >= 2) small.drawImage(whep, 0, 0, 16, 9);
    if (!held.hidden) {
      small.drawImage(held, 0, 0, 16, 9);
      seen.held += 1;
    }
    const { data } = small.getImageData(0, 0, 16, 9);
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum += (data[i] + data[i + 1] + data[i + 2]) / 3;
    seen.darkest = Math.min(seen.darkest, sum / (data.length / 4));
    analyser.getFloatTimeDomainData(samples);
    if (samples.some((sample) => Math.abs(sample) > 0.01)) mark('hlsSound');
    if (hls.currentTime < time) seen.back += 1;
    time = hls.currentTime;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  window.watched = {
    library,
    seen,
    /** Counts from now. */
    begin() {
      Object.assign(seen, { hls: 0, whep: 0, hlsSound: 0, darkest: 255, held: 0 });
      const now = performance.now();
      Object.assign(last, { hls: now, whep: now, hlsSound: now });
    },
  };
}

/** The address of the node that a player plays from. */
const nodeOf = (page, which) => page.evaluate((name) => window.headwater[name].route.server.url, which);

/** Does `act` to the players' node, and checks how both go on from the node `next`. */
async function survives(page, how, act, next) {
  await page.screenshot({ path: path.join(OUT, `failover-${how}-1-before.png`) });
  await page.evaluate(() => window.watched.begin());
  const before = await read(page, 'hls');
  act();
  await until('the last picture is held', () => page.evaluate(() => window.watched.seen.held > 0), 5000);
  await page.screenshot({ path: path.join(OUT, `failover-${how}-2-during.png`) });
  for (const which of ['hls', 'whep']) {
    await until(`${which} has moved`, async () => await nodeOf(page, which) === next.url, 5000);
    await moving(page, which, { frames: 60 });
  }
  const { seen, same } = await page.evaluate(() => ({ seen: window.watched.seen,
    same: window.watched.library === window.headwater.hls.library }));
  await page.screenshot({ path: path.join(OUT, `failover-${how}-3-after.png`) });
  report(`failover-${how}`, seen);
  assert.ok(same, 'it is the same hls.js, not started anew');
  assert.deepEqual(seen.errors.filter(({ fatal }) => fatal), [], 'hls.js saw nothing that it could not mend');
  assert.equal(seen.back, 0, 'LL-HLS never went back');
  const after = await read(page, 'hls');
  assert.ok(after.time > before.time + 1, 'LL-HLS went on');
  assert.equal(after.reconnects, 0);
  for (const [name, bound] of Object.entries(BOUNDS[how])) {
    assert.ok(seen[name] <= bound, `${name} stood still for ${Math.round(seen[name])} ms, at most ${bound}`);
  }
  assert.ok(seen.held > 0 && seen.darkest > BLACK_BELOW, `WHEP went dark: ${seen.darkest}`);
  await page.locator('.player', { hasText: 'LL-HLS' }).getByText('does not answer').waitFor();
}

test('a player goes on from the next node when its own dies', async () => {
  const [first, owner, third] = nodes;
  encoder = publishWhip('failover-encoder', owner, STREAM);
  await owner.live(STREAM);
  const servers = [first, third, owner].map(({ url }) => url).join(',');
  const query = new URLSearchParams({ servers, hlsjs: 'defaults' });
  const page = await open(browser, 'failover-play', `${first.url}/play/${STREAM}?${query}`);
  for (const which of ['whep', 'hls']) await moving(page, which, { frames: 60 });
  await page.evaluate(watch);
  await until('LL-HLS is heard', () => page.evaluate(() => window.watched.seen.hlsSound > 0));
  await survives(page, 'killed', () => first.program.child.kill('SIGKILL'), third);
  await survives(page, 'stopped', () => third.program.child.kill('SIGSTOP'), owner);
  assert.deepEqual(page.failures, []);
});
