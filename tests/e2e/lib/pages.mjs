// Serves the pages' sources without a node, and lets the player's page play from a peer
// connection in the same page: the browser's own floor, and a test of the pages alone.
// Not here: how a node serves them (`origin/src/assets.rs`).
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

const WEB = path.resolve(import.meta.dirname, '../../../origin/web');
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript',
  '.svg': 'image/svg+xml' };

function fileOf(route) {
  if (route === '/') return 'index.html';
  if (route.startsWith('/publish/')) return 'publish.html';
  if (route.startsWith('/play/')) return 'play.html';
  if (route === '/favicon.ico') return 'img/logo.svg';
  if (route === '/assets/vendor/hls.js') return 'node_modules/hls.js/dist/hls.min.js';
  return route.startsWith('/assets/') ? route.slice('/assets/'.length) : null;
}

const NOT_LIVE = { type: 'stream-not-found', title: 'Stream not found', status: 404,
  detail: 'Nothing is published under this name.' };

/** Starts the server; `answers` maps routes of the API to what they give. */
export async function servePages(answers = {}) {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://pages');
    if (answers[pathname]) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answers[pathname]));
      return;
    }
    const file = fileOf(decodeURI(pathname));
    const full = file && path.join(WEB, file);
    if (full && full.startsWith(WEB + path.sep) && fs.existsSync(full)) {
      response.writeHead(200, { 'content-type': TYPES[path.extname(full)] ?? 'text/plain' });
      response.end(fs.readFileSync(full));
      return;
    }
    response.writeHead(404, { 'content-type': 'application/problem+json', 'retry-after': '1' });
    response.end(JSON.stringify(NOT_LIVE));
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, stop };
}

/**
 * Runs in the page before its scripts: answers WHEP offers for the stream `loop` from a peer
 * connection here, which sends the test pattern as the publisher's page would.
 */
export function loopInPage() {
  const outside = window.fetch.bind(window);
  const methods = [];
  window.loopMethods = methods;
  window.fetch = async (address, options = {}) => {
    const { pathname } = new URL(address, window.location.href);
    if (pathname === '/whep/loop/-/1') {
      methods.push(options.method);
      return new Response(null, { status: options.method === 'PATCH' ? 204 : 200 });
    }
    if (pathname !== '/whep/loop' || options.method !== 'POST') return outside(address, options);
    const wanted = new URLSearchParams(window.location.search).get('codec') ?? 'H264';
    const { startPattern } = await import('/assets/js/pattern.js');
    const { stream } = startPattern({ width: 640, height: 360, fps: 30, label: 'loop',
      withCode: true, withAudio: true });
    const peer = new RTCPeerConnection();
    window.loopPeer = peer;
    await peer.setRemoteDescription({ type: 'offer', sdp: options.body });
    for (const transceiver of peer.getTransceivers()) {
      const { kind } = transceiver.receiver.track;
      const [track] = stream.getTracks().filter((one) => one.kind === kind);
      await transceiver.sender.replaceTrack(track);
      transceiver.direction = 'sendonly';
    }
    await peer.setLocalDescription(await peer.createAnswer());
    for (const sender of peer.getSenders()) {
      if (sender.track?.kind !== 'video') continue;
      const parameters = sender.getParameters();
      parameters.degradationPreference = 'maintain-resolution';
      const codec = parameters.codecs.find(({ mimeType }) => mimeType === `video/${wanted}`);
      for (const encoding of parameters.encodings) Object.assign(encoding, { maxBitrate: 1_000_000, codec });
      await sender.setParameters(parameters);
    }
    await new Promise((resolve) => {
      const look = () => { if (peer.iceGatheringState === 'complete') resolve(); };
      peer.addEventListener('icegatheringstatechange', look);
      look();
    });
    const headers = { location: '/whep/loop/-/1', etag: '"1"', 'content-type': 'application/sdp' };
    return new Response(peer.localDescription.sdp, { status: 201, headers });
  };
}
