// A publisher is killed and comes back within the reconnect window: viewers stay connected and
// see the picture again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { moving, read } from '../lib/browser.mjs';
import { publishRtmp, publishSrt } from '../lib/encoders.mjs';
import { playAll, scene } from '../lib/scene.mjs';
import { until } from '../lib/wait.mjs';

const made = scene('comeback');

/** An encoder that tries again when it is refused: the node may not know yet that the last died. */
function returning({ keep }, publish) {
  let wanted = true;
  let program;
  const tries = (async () => {
    for (let n = 2; wanted; n += 1) {
      program = keep(publish(n));
      await program.exited;
    }
  })();
  return {
    async stop() {
      wanted = false;
      await program.kill();
      await tries;
    },
  };
}

for (const [protocol, publish] of [['SRT', publishSrt], ['RTMP', publishRtmp]]) {
  test(`viewers stay when an encoder by ${protocol} is killed and comes back`, async () => {
    const stream = `comeback/${protocol.toLowerCase()}`;
    const first = made.keep(publish(`comeback-${protocol}-1`, made.node, stream));
    await made.node.live(stream);
    const page = await playAll(made, stream, { sound: false });
    await first.kill();
    await until('WHEP notices the silence', async () => (await read(page, 'whep')).phase === 'away');
    const again = returning(made, (n) => publish(`comeback-${protocol}-${n}`, made.node, stream));
    for (const which of ['whep', 'hls']) {
      const now = await moving(page, which, { frames: 60 });
      assert.equal(now.reconnects, 0, `${which} stayed connected`);
    }
    assert.deepEqual(page.failures, []);
    await page.context().close();
    await again.stop();
  });
}
