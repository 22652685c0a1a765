// Waiting on conditions, and where the tests leave what they saw.
// Not here: anything about the node or the browser.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const OUT = path.resolve(import.meta.dirname, '../../out');
fs.mkdirSync(OUT, { recursive: true });

const POLL_MS = 50;

/** Polls until `probe` gives something truthy, which it returns; fails with what it last saw. */
export async function until(what, probe, timeoutMs = 20_000) {
  const deadline = Date.now() + timeoutMs;
  let last;
  while (Date.now() < deadline) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await sleep(POLL_MS);
  }
  const seen = last instanceof Error ? last.message : JSON.stringify(last);
  throw new Error(`not within ${timeoutMs / 1000} s: ${what} (last seen: ${seen})`);
}

/** Writes a report beside the logs and prints it. */
export function report(name, figures) {
  fs.writeFileSync(path.join(OUT, `${name}.json`), `${JSON.stringify(figures, null, 2)}\n`);
  console.log(`${name}: ${JSON.stringify(figures)}`);
}

export function percentile(values, fraction) {
  const sorted = values.slice().sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? null;
}
