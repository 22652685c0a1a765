// Starts a Headwater node, or several as one cluster, on free loopback ports with data folders of
// their own.
// Not here: publishers (`encoders.mjs`), browsers (`browser.mjs`).
import { execFileSync } from 'node:child_process';
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

/**
 * Starts a node and waits until it is ready; `env` adds or overrides settings. With `join`, a node of
 * a cluster, it joins that cluster.
 */
export async function startNode(name, { env = {}, args = [], command = 'serve', join = null } = {}) {
  const at = { http: await ports(), webrtc: await ports(WEBRTC_PORTS), srt: await ports(),
    rtmp: await ports(), cluster: await ports() };
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'headwater-e2e-'));
  const listen = Object.fromEntries(['http', 'webrtc', 'srt', 'rtmp', 'cluster'].map(
    (section) => [`HEADWATER_${section.toUpperCase()}__LISTEN`, `127.0.0.1:${at[section]}`]));
  const member = join && { HEADWATER_CLUSTER__JOIN: `127.0.0.1:${join.ports.cluster}`,
    HEADWATER_JOIN_TOKEN: joinToken(join) };
  const program = new Program(name, BINARY, [command, '--data', data, ...args],
    { RUST_LOG: process.env.RUST_LOG ?? 'info', ...listen, ...member, ...env });
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

/** A token with which one node may join the cluster of `node`. */
function joinToken(node) {
  const args = ['cluster', 'join-token', '--api', node.url];
  return execFileSync(BINARY, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/** Starts `count` nodes as one cluster, called `{name}-1` and so on. */
export async function startCluster(name, count, options = {}) {
  const nodes = [];
  try {
    for (let number = 1; number <= count; number += 1) {
      const [join = null] = nodes;
      const args = ['--name', `${name}-${number}`, ...(options.args ?? [])];
      nodes.push(await startNode(`${name}-${number}`, { ...options, args, join }));
    }
    await until(`${name} has ${count} voters`, async () => {
      const cluster = await nodes[0].api('/api/v1/cluster');
      return cluster.nodes.filter(({ voter, state }) => voter && state === 'up').length === count;
    });
  } catch (error) {
    for (const node of nodes) await node.stop();
    throw error;
  }
  return nodes;
}
