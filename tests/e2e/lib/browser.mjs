// Debian's Chromium, its pages, and what the tests read from them.
// Not here: what the pages do (`origin/web`).
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { OUT, until } from './wait.mjs';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-dev-shm-usage', '--autoplay-policy=no-user-gesture-required',
  '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
  '--disable-features=WebRtcHideLocalIpsWithMdns', '--allow-loopback-in-peer-connection',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

export async function launch() {
  return chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: FLAGS });
}

/** Opens a page in a context of its own; its console goes to `tests/out/{name}.console.log`. */
export async function open(browser, name, url, { before, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const log = path.join(OUT, `${name.replaceAll('/', '-')}.console.log`);
  fs.writeFileSync(log, '');
  const failures = [];
  page.on('console', (message) => fs.appendFileSync(log, `${message.type()}: ${message.text()}\n`));
  page.on('pageerror', (error) => {
    failures.push(error.message);
    fs.appendFileSync(log, `uncaught: ${error.stack}\n`);
  });
  if (before) await page.addInitScript(before);
  await page.goto(url);
  return Object.assign(page, { failures });
}

/** The state and figures of a page's player (`whep` or `hls`) or of its `publisher`. */
export function read(page, which) {
  return page.evaluate((name) => {
    const { phase, message, stats, startupMs, reconnects, stalls } = window.headwater[name];
    const video = document.querySelectorAll('video')[name === 'hls' ? 1 : 0];
    return { phase, message, stats, startupMs, reconnects, stalls, time: video.currentTime,
      presented: video.getVideoPlaybackQuality().totalVideoFrames };
  }, which);
}

/** Waits until a player presents moving pictures: `frames` further ones. */
export async function moving(page, which, { frames = 30, timeoutMs = 30_000 } = {}) {
  let first = null;
  return until(`${which} presents ${frames} frames`, async () => {
    const now = await read(page, which);
    if (now.phase !== 'playing') throw new Error(`${now.phase}: ${now.message}`);
    first ??= now.presented;
    return now.presented - first >= frames && now.stats.width && now;
  }, timeoutMs);
}

/** Waits until the publisher's page is live and has sent some frames. */
export function live(page, timeoutMs = 20_000) {
  return until('the page is live', async () => {
    const now = await read(page, 'publisher');
    if (now.phase !== 'live') throw new Error(`${now.phase}: ${now.message}`);
    return now.stats.framesSent > 10 && now;
  }, timeoutMs);
}

/** The loudest level (0 to 1) that a player's sound reaches within a second. */
export function loudness(page, which) {
  return page.evaluate(async (name) => {
    const video = document.querySelectorAll('video')[name === 'hls' ? 1 : 0];
    video.muted = false;
    const context = new AudioContext();
    await context.resume();
    const stream = name === 'whep' ? video.srcObject : video.captureStream();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    context.createMediaStreamSource(new MediaStream(stream.getAudioTracks())).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    const end = performance.now() + 1000;
    while (performance.now() < end) {
      analyser.getFloatTimeDomainData(samples);
      for (const sample of samples) loudest = Math.max(loudest, Math.abs(sample));
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
    await context.close();
    return loudest;
  }, which);
}

/** Waits until a player is heard; a tone at a twentieth of full scale is far above this. */
export function heard(page, which) {
  return until(`${which} is heard`, async () => (await loudness(page, which)) > 0.01);
}

/** Delays in milliseconds that a player reads from the picture, from now for a while. */
export async function delays(page, which, milliseconds) {
  const from = Date.now();
  await sleep(milliseconds);
  const log = await page.evaluate((name) => window.headwater[name].picture.log, which);
  return log.filter(([at]) => at >= from).map(([, delay]) => delay);
}
