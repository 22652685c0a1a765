// A node and a browser for the tests of one file, and the tests' usual moves with them.
// Not here: the moves' parts (`node.mjs`, `browser.mjs`, `encoders.mjs`).
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { heard, launch, live, moving, open } from './browser.mjs';
import { startNode } from './node.mjs';

/** Starts both before a file's tests, and ends both after them; programs given to `keep` too. */
export function scene(name, options) {
  const kept = [];
  const made = {
    name,
    keep(program) {
      kept.push(program);
      return program;
    },
    open: (suffix, route, more) => open(made.browser, `${name}-${suffix}`, made.node.url + route, more),
  };
  before(async () => {
    made.browser = await launch();
    made.node = await startNode(name, options);
  });
  after(async () => {
    await made.browser?.close();
    for (const program of kept) if (program.alive) await program.kill();
    const how = await made.node?.stop();
    if (how !== undefined) assert.equal(how, '0', `the node ended with ${how}:\n${made.node.program.log()}`);
  });
  return made;
}

/** Publishes the test pattern from a page of its own; resolves once it is live. */
export async function publishPattern(made, stream, query = {}) {
  const settings = new URLSearchParams({ source: 'pattern', autostart: '1', clock: '1', codec: 'H264',
    width: '640', height: '360', fps: '30', bitrate: '1000000', ...query });
  const page = await made.open(`${stream}-publish`, `/publish/${stream}?${settings}`);
  await live(page);
  return page;
}

/** Plays a stream on the player's page and checks that the wanted players show and sound. */
export async function playAll(made, stream, { whep = true, hls = true, sound = true,
  size = [640, 360], query = {} } = {}) {
  const settings = new URLSearchParams({ whep: whep ? '1' : '0', hls: hls ? '1' : '0',
    hlsjs: 'defaults', log: '1', ...query });
  const page = await made.open(`${stream}-play`, `/play/${stream}?${settings}`);
  for (const which of [whep && 'whep', hls && 'hls'].filter(Boolean)) {
    const { stats } = await moving(page, which, { frames: 60 });
    if (size) assert.deepEqual([stats.width, stats.height], size, `${which} shows the whole picture`);
    if (sound) await heard(page, which);
  }
  assert.deepEqual(page.failures, []);
  return page;
}
