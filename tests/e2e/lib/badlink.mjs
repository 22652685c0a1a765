// A bad link to a UDP port of this network: the kernel drops datagrams (nftables), a relay holds
// each back for a while, both ways. Only inside a network of its own (`unshare -n`), whose rules
// are nobody else's.
// Not here: what crosses the link.
import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';

const TABLE = 'badlink';

function nft(...lines) {
  execFileSync('nft', ['-f', '-'], { input: lines.join('\n') });
}

/** Numbers from 0 to 1 that are the same in every run (xorshift). */
function random(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function bound(address = '127.0.0.1') {
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(0, address, () => resolve(socket));
  });
}

/** A link to `target` for one client: `lossPercent` each way, up to `jitterMs` more delay. */
export async function badLink(target, { lossPercent, jitterMs, seed = 7 }) {
  const next = random(seed);
  const front = await bound();
  const back = await bound();
  const { port } = front.address();
  let client;
  let passed = 0;
  let closed = false;
  const later = (send) => {
    passed += 1;
    setTimeout(() => { if (!closed) send(); }, next() * jitterMs);
  };
  front.on('message', (data, from) => {
    client = from.port;
    later(() => back.send(data, target, '127.0.0.1'));
  });
  back.on('message', (data) => later(() => front.send(data, client, '127.0.0.1')));
  nft(`add table ip ${TABLE}`,
    `add chain ip ${TABLE} in { type filter hook input priority 0; }`,
    `add rule ip ${TABLE} in udp dport ${port} numgen random mod 100 < ${lossPercent} counter drop`,
    `add rule ip ${TABLE} in udp sport ${port} numgen random mod 100 < ${lossPercent} counter drop`);
  return {
    port,
    /** Datagrams dropped and passed so far. */
    counts() {
      const said = execFileSync('nft', ['list', 'table', 'ip', TABLE], { encoding: 'utf8' });
      const dropped = [...said.matchAll(/packets (\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
      return { dropped, passed };
    },
    close() {
      closed = true;
      nft(`delete table ip ${TABLE}`);
      front.close();
      back.close();
    },
  };
}
