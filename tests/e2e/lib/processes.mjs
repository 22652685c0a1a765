// Starts programs, keeps their output, and ends them by their id.
// Not here: which programs (`node.mjs`, `encoders.mjs`).
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { OUT } from './wait.mjs';

/** Longer than the node's own `drain_timeout`. */
const TERM_GRACE_MS = 12_000;
const running = new Set();
process.on('exit', () => { for (const child of running) child.kill('SIGKILL'); });

/** One program that runs; its output goes to `tests/out/{name}.log`. */
export class Program {
  constructor(name, command, args, env = {}) {
    this.name = name;
    this.logPath = path.join(OUT, `${name}.log`);
    const log = fs.openSync(this.logPath, 'w');
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    running.add(this.child);
    this.exited = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => this.#over(code ?? signal, resolve));
      this.child.once('error', (error) => this.#over(error.message, resolve));
    });
  }

  #over(how, resolve) {
    running.delete(this.child);
    this.ended = String(how);
    resolve(this.ended);
  }

  get alive() {
    return this.ended === undefined;
  }

  /** The end of what the program wrote. */
  log(lines = 30) {
    return fs.readFileSync(this.logPath, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }

  /** Asks the program to end, and makes it where it does not. Returns how it ended. */
  async stop() {
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), TERM_GRACE_MS);
    const how = await this.exited;
    clearTimeout(timer);
    return how;
  }
}
