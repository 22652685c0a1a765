// Starts a Headwater node on free loopback ports with a data folder of its own.
// Not here: publishers (`encoders.mjs`), browsers (`browser.mjs`).
import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Program } from './processes.mjs';
import { until } from './wait.mjs';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const BINARY = process.env.E2E_HEADWATER
  ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug/headwater');
/** WebRTC takes a port a worker, from its first one up. */
const WEBRTC_PORTS = 8;
let nextPort = 21_000 + (process.pid % 1000) * 10;

function freeTcp(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

function freeUdp(port) {
  return new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', () => resolve(false));
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
  });
}

/** The first of `count` neighbouring ports that are free for TCP and UDP. */
async function ports(count = 1) {
  for (;;) {
    const first = nextPort;
    nextPort += count;
    let free = true;
    for (let port = first; port < first + count; port += 1) {
      free &&= (await freeTcp(port)) && (await freeUdp(port));
    }
    if (free) return first;
  }
}

/** Starts a node and waits until it is ready; `env` adds or overrides settings. */
export async function startNode(name, { env = {}, args = [], command = 'serve' } = {}) {
  const at = { http: await ports(), webrtc: await ports(WEBRTC_PORTS), srt: await ports(),
    rtmp: await ports(), cluster: await ports() };
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'headwater-e2e-'));
  const listen = Object.fromEntries(['http', 'webrtc', 'srt', 'rtmp'].map(
    (section) => [`HEADWATER_${section.toUpperCase()}__LISTEN`, `127.0.0.1:${at[section]}`]));
  const program = new Program(name, BINARY, [command, '--data', data, ...args],
    { RUST_LOG: process.env.RUST_LOG ?? 'info', ...listen, ...env });
  const url = `http://127.0.0.1:${at.http}`;
  const node = {
    name, program, ports: at, url, data,
    async stop() {
      const how = await program.stop();
      fs.rmSync(data, { recursive: true, force: true });
      return how;
    },
    async api(route) {
      const response = await fetch(url + route);
      if (!response.ok) throw new Error(`${route}: ${response.status} ${await response.text()}`);
      return response.json();
    },
    /** Waits until a stream is live. */
    live(stream) {
      return until(`${stream} is live`, () => node.api(`/api/v1/streams/${stream}`));
    },
  };
  try {
    await until(`${name} is ready`, async () => !program.alive || (await fetch(`${url}/readyz`)).ok);
    if (!program.alive) throw new Error(`the node ended at once: ${program.ended}`);
  } catch (error) {
    await node.stop();
    throw new Error(`${error.message}\n${program.log()}`);
  }
  return node;
}
