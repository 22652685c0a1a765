// The pages without a node: what they show, how they wait, and that the player reads the delay
// from the picture of a peer connection in the same browser.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { delays, heard, launch, moving, open, read } from '../lib/browser.mjs';
import { loopInPage, servePages } from '../lib/pages.mjs';
import { percentile, report, until } from '../lib/wait.mjs';

const STREAMS = [
  { name: 'demo', state: 'live', since: '2026-01-01T00:00:00Z', viewers: 3, hls_viewers: 4, warnings: [],
    publisher: { protocol: 'demo' }, tracks: [{ name: 'video', kind: 'video', codec: 'h264',
      resolution: { width: 640, height: 360 }, bitrate: 900_000 }] },
  { name: 'auction/lot-7', state: 'waiting', since: '2026-01-01T00:00:00Z', viewers: 1, tracks: [],
    publisher: null, warnings: ['WebRTC cannot carry B-frames: encode without them.'] },
];
const nodeOf = (id, name, region, parent, second, place, children, reason) => ({
  id, name, region, parent, second, place, children, reason, role: 'relay', state: id === 6 ? 'draining' : 'up',
  depth: 0,
});
const TREE = {
  stream: 'demo', this: 3, owner: 1, epoch: 4, gateways: 2, max_children: 32, depth: 2,
  nodes: [
    nodeOf(1, 'origin-1', 'eu-west', null, null, 'owner', 2, 'owns it'),
    nodeOf(3, 'relay-1', 'us-east', 1, 2, 'gateway', 10, 'gateway 1 of its region'),
    ...[4, 5, 6, 7, 8, 9, 10, 11, 12, 13].map((id) =>
      nodeOf(id, `relay-${id - 2}`, 'us-east', 3, 1, 'member', 0, 'from a gateway of its region')),
    nodeOf(2, 'origin-2', 'eu-west', 1, null, 'near', 0, "in the owner's region"),
  ],
};
let browser;
let pages;

before(async () => {
  browser = await launch();
  pages = await servePages({
    '/api/v1/streams': { streams: STREAMS },
    '/api/v1/cluster/tree/demo': TREE,
    '/api/v1/node': { role: 'origin', version: '0.1.0', listeners: { srt: '127.0.0.1:7001', webrtc: [] } },
  });
});
after(async () => {
  await browser?.close();
  pages?.stop();
});

test('the overview lists what is live and leads to it', async () => {
  const page = await open(browser, 'overview', pages.url);
  await page.getByText('1 live').waitFor();
  const names = await page.locator('.stream .name').allTextContents();
  assert.deepEqual(names, ['auction/lot-7', 'demo']);
  assert.equal(await page.locator('.stream', { hasText: 'demo' }).locator('.tag').last().textContent(),
    'H.264 640×360 900 kb/s');
  await page.getByText('WebRTC cannot carry B-frames').waitFor();
  await page.getByText('7 viewers').waitFor();
  await page.getByText('srt://127.0.0.1:7001').waitFor();
  assert.equal(await page.getByText('WHIP').count(), 0, 'a listener that is off is not offered');
  await page.locator('#name').fill('auction/lot-9');
  await page.getByText('streamid=publish:auction/lot-9').waitFor();
  await page.getByText('rtmp://127.0.0.1:1935/auction').waitFor();
  await page.getByText('Headwater 0.1.0').waitFor();
  await page.locator('#name').fill('not valid!');
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByText('Letters, digits').waitFor();
  await page.locator('.stream a', { hasText: 'demo' }).click();
  await page.waitForURL('**/play/demo');
  assert.deepEqual(page.failures, []);
  await page.context().close();
});

test("a stream's tree is drawn with its owner, gateways and others, on a phone too", async () => {
  for (const viewport of [{ width: 1200, height: 900 }, { width: 360, height: 740 }]) {
    const page = await open(browser, `tree-${viewport.width}`, pages.url, { viewport });
    await page.locator('[data-tree="demo"]').click();
    await page.getByText('13 nodes, 2 hops at most.').waitFor();
    const picture = page.locator('#tree-picture svg');
    const names = await picture.locator('text').allTextContents();
    assert.equal(names.length, 10, `the many are summed up: ${names}`);
    assert.match(names[0], /origin-1.*eu-west/);
    assert.match(names.find((name) => name.includes('relay-4')), /draining/);
    assert.equal(names[8], 'and 4 more');
    assert.equal(await picture.locator('.owner').count(), 1);
    assert.equal(await picture.locator('.gateway title').textContent(),
      'gateway 1 of its region; else from origin-2');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `the page is ${wide} pixels too wide`);
    await page.getByRole('button', { name: 'Close' }).click();
    assert.equal(await picture.isVisible(), false);
    assert.deepEqual(page.failures, []);
    await page.context().close();
  }
});

test('an overview that the node refuses says why, on a phone too', async () => {
  const closed = await servePages();
  try {
    const phone = { viewport: { width: 390, height: 800 } };
    const page = await open(browser, 'closed', closed.url, phone);
    await page.getByText('Refused').waitFor();
    await page.getByRole('alert').getByText('Nothing is published').waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
    await page.context().close();
  } finally {
    closed.stop();
  }
});

test('a player waits for a stream that is not live, and says so', async () => {
  const page = await open(browser, 'waiting', `${pages.url}/play/nobody`);
  for (const which of ['whep', 'hls']) {
    await until(`${which} waits`, async () => (await read(page, which)).phase === 'waiting');
  }
  assert.equal(await page.getByText('Waiting for the stream to start').count(), 2);
  await page.keyboard.press('w');
  await until('the key stops WHEP', async () => (await read(page, 'whep')).phase === 'idle');
  await page.keyboard.press('l');
  await until('the key stops LL-HLS', async () => (await read(page, 'hls')).phase === 'idle');
  assert.deepEqual(page.failures, []);
  await page.context().close();
});

test('the publisher page takes its settings from the address and tells of a refusal', async () => {
  const address = `${pages.url}/publish/x?source=pattern&codec=VP9&width=320&height=180&fps=25`
    + '&bitrate=300000&autostart=1';
  const page = await open(browser, 'refused', address);
  await page.getByText('The stream is not live').or(page.getByText('Stream not found')).first().waitFor();
  assert.equal(await page.locator('#codec').inputValue(), 'VP9');
  assert.equal(await page.locator('#size').inputValue(), '320x180');
  assert.equal(await page.locator('#fps').inputValue(), '25');
  const size = await until('the preview has a picture', () => page.evaluate(
    () => { const { videoWidth: w, videoHeight: h } = document.querySelector('video'); return w && [w, h]; }));
  assert.deepEqual(size, [320, 180]);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Off air').waitFor();
  assert.deepEqual(page.failures, []);
  await page.context().close();
});

for (const codec of ['H264', 'VP8', 'VP9', 'AV1']) {
  test(`the delay of ${codec} is read from the picture of a loop in the browser`, async () => {
    const page = await open(browser, `loop-${codec}`,
      `${pages.url}/play/loop?hls=0&log=1&codec=${codec}`, { before: loopInPage });
    const { stats } = await moving(page, 'whep', { frames: 60 });
    assert.equal(stats.width, 640, 'the picture keeps its size');
    assert.equal(stats.codec, codec);
    await heard(page, 'whep');
    const found = await delays(page, 'whep', 5000);
    assert.ok(found.length > 60, `only ${found.length} frames of five seconds could be read`);
    const p50 = percentile(found, 0.5);
    assert.ok(p50 >= 0 && p50 < 500, `the delay is ${p50} ms`);
    report(`loop-${codec}`, { codec, samples: found.length, p50, p95: percentile(found, 0.95) });
    await page.keyboard.press('w');
    const methods = await page.evaluate(() => window.loopMethods);
    assert.equal(methods.at(-1), 'DELETE', 'stopping ends the session on the node');
    assert.deepEqual(page.failures, []);
    await page.context().close();
  });
}
