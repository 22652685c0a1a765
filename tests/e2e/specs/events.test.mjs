// The server-sent events of a WHEP session, read by a browser's EventSource.
// Not here: the refusals (`origin/tests/node/webrtc.rs`).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { publishPattern, scene } from '../lib/scene.mjs';
import { until } from '../lib/wait.mjs';

const made = scene('events');
const RELATION = 'urn:ietf:params:whep:ext:core:server-sent-events';

/** Runs in the page: a WHEP session, and what its events say. */
async function watch(stream, relation, wanted) {
  const peer = new RTCPeerConnection();
  peer.addTransceiver('video', { direction: 'recvonly' });
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(`/whep/${stream}`, { method: 'POST', body: peer.localDescription.sdp,
    headers: { 'content-type': 'application/sdp' } });
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  const link = answer.headers.get('link').match(`<([^>]*)>; rel="${relation}"; events="([^"]*)"`);
  const created = await fetch(link[1], { method: 'POST', body: JSON.stringify(wanted),
    headers: { 'content-type': 'application/json' } });
  const feed = created.headers.get('location');
  const source = new EventSource(feed);
  const said = [];
  for (const name of ['active', 'inactive', 'viewercount']) {
    source.addEventListener(name, ({ data }) => said.push([name, JSON.parse(data)]));
  }
  window.events = { said, source, peer };
  return { offered: link[2], status: created.status, feed };
}

test('a viewer hears of its publisher and of other viewers', async () => {
  const publisher = await publishPattern(made, 'told');
  const page = await made.open('viewer', '/');
  const wanted = ['active', 'inactive', 'viewercount', 'layers'];
  const made1 = await page.evaluate(`(${watch})('told', '${RELATION}', ${JSON.stringify(wanted)})`);
  assert.equal(made1.offered, 'active,inactive,viewercount');
  assert.equal(made1.status, 201);
  assert.match(made1.feed, /^\/whep\/told\/-\/[0-9a-f]+\/sse\/active,inactive,viewercount$/);

  const said = () => page.evaluate(() => window.events.said);
  const hears = (event) => until(`the event ${JSON.stringify(event)}`, async () => {
    const all = await said();
    return all.some((one) => JSON.stringify(one) === JSON.stringify(event));
  });
  await hears(['active', {}]);
  await hears(['viewercount', { viewercount: 1 }]);

  const other = await made.open('other', '/');
  await other.evaluate(`(${watch})('told', '${RELATION}', ['inactive'])`);
  await hears(['viewercount', { viewercount: 2 }]);
  await publisher.context().close();
  await hears(['inactive', {}]);
  const [[kind]] = await said();
  assert.equal(kind, 'active', 'the state comes first');
  const others = await until('the other viewer', async () => {
    const all = await other.evaluate(() => window.events.said);
    return all.length > 0 && all;
  });
  assert.deepEqual(others, [['inactive', {}]], 'it hears what it asked for, and nothing else');
});
