// The publisher's page: picks a source and settings, previews, goes live.
// Not here: the connection (`publisher.js`), the pattern's picture (`pattern.js`).
// In the address: `source=camera|screen|pattern`, `codec`, `width`, `height`, `fps`, `bitrate`,
// `audio=0|1`, `clock=0|1` (the bar code in the pattern), `autostart=1`, `token=…`.
import { streamOfPage, validName } from './api.js';
import { startPattern } from './pattern.js';
import { Publisher, sendableCodecs } from './publisher.js';
import { Spark, bitrate, lasted, milliseconds, number, showNote, showPill, showStats } from './ui.js';

const MEASURE_MS = 1000;
const stream = streamOfPage('publish');
const query = new URLSearchParams(window.location.search);
const find = (selector) => document.querySelector(selector);
const form = find('#settings');
const preview = find('#preview');
const note = find('#note');
const spark = new Spark(find('#spark'));
const MOODS = {
  idle: ['Off air', ''], connecting: ['Connecting', 'busy'], live: ['Live', 'bad'],
  retrying: ['Reconnecting', 'busy'], failed: ['Failed', 'bad'],
};
const LIMITS = { none: 'Nothing', cpu: 'Processor', bandwidth: 'Network', other: 'Other' };

let source = null;
let liveSince = null;
const publisher = new Publisher(stream, show);
window.headwater = { page: 'publish', stream, publisher, start, stop };

/** Chooses an option, adding it where the address asks for one that is not listed. */
function choose(select, value, label = value) {
  if (![...select.options].some((option) => option.value === value)) select.add(new Option(label, value));
  select.value = value;
}

function numberOf(name, low, high) {
  const value = Number.parseInt(query.get(name) ?? '', 10);
  return value >= low && value <= high ? value : null;
}

function fromAddress() {
  const wanted = query.get('source');
  const radio = [...form.elements.source].find(({ value }) => value === wanted);
  if (radio) radio.checked = true;
  const width = numberOf('width', 64, 4096);
  const height = numberOf('height', 64, 4096);
  if (width && height) choose(form.elements.size, `${width}x${height}`, `${width} × ${height}`);
  const fps = numberOf('fps', 1, 120);
  if (fps) choose(form.elements.fps, String(fps));
  const rate = numberOf('bitrate', 50_000, 50_000_000);
  if (rate) choose(form.elements.bitrate, String(rate), bitrate(rate));
  if (query.get('audio') === '0') form.elements.audio.value = 'off';
  const able = sendableCodecs(['H264', 'VP8', 'VP9', 'AV1']);
  for (const option of form.elements.codec.options) {
    if (!able.includes(option.value)) option.disabled = true;
  }
  const codec = (query.get('codec') ?? '').toUpperCase().replace('.', '');
  form.elements.codec.value = able.includes(codec) ? codec : able[0] ?? 'VP8';
}

function settings() {
  const [width, height] = form.elements.size.value.split('x').map(Number);
  return {
    source: form.elements.source.value,
    codec: form.elements.codec.value,
    width,
    height,
    fps: Number(form.elements.fps.value),
    bitrate: Number(form.elements.bitrate.value),
    audio: form.elements.audio.value === 'on',
  };
}

const REFUSED = {
  NotAllowedError: 'The browser did not allow it.',
  NotFoundError: 'There is no such device.',
  NotReadableError: 'The device is in use by something else.',
  OverconstrainedError: 'The device cannot give this resolution or rate.',
};

/** Opens the chosen source; returns its media and how to stop it. */
async function open({ source: kind, width, height, fps, audio }) {
  if (kind === 'pattern') {
    return startPattern({
      width, height, fps, label: stream, withCode: query.get('clock') !== '0', withAudio: audio,
    });
  }
  const devices = navigator.mediaDevices;
  if (!devices) throw new Error('Cameras and screens need https, or an address on this machine.');
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  const media = kind === 'screen'
    ? await devices.getDisplayMedia({ video, audio })
    : await devices.getUserMedia({ video, audio });
  const stopTracks = () => { for (const track of media.getTracks()) track.stop(); };
  return { stream: media, stop: stopTracks };
}

async function start() {
  if (source) return;
  const chosen = settings();
  showNote(note, '');
  try {
    source = await open(chosen);
  } catch (error) {
    show();
    showNote(note, `The source did not open. ${REFUSED[error.name] ?? error.message}`);
    find('#figures').hidden = false;
    return;
  }
  const opened = source;
  preview.srcObject = opened.stream;
  preview.play().catch(() => {});
  // The browser's own "stop sharing", or a camera pulled out.
  opened.stream.getVideoTracks()[0]?.addEventListener('ended', () => { if (source === opened) stop(); });
  show();
  await publisher.start(opened.stream, chosen);
  if (publisher.phase === 'failed' && source === opened) closeSource();
}

function closeSource() {
  source?.stop();
  source = null;
  preview.srcObject = null;
  spark.clear();
  show();
}

function stop() {
  publisher.stop();
  closeSource();
}

function show() {
  const { phase, message } = publisher;
  showPill(find('#state'), ...MOODS[phase]);
  showNote(note, message, phase === 'failed' ? 'bad' : 'warn');
  if (phase !== 'live') liveSince = null;
  else liveSince ??= Date.now();
  find('#over').hidden = source !== null;
  // Off air there are no figures: on a phone they would push the settings off the screen.
  find('#stats').hidden = source === null;
  find('#figures').hidden = source === null && note.hidden;
  find('#spark').toggleAttribute('hidden', phase !== 'live');
  const [on, off] = [find('#start'), find('#stop')];
  const focused = document.activeElement;
  on.disabled = source !== null;
  off.disabled = source === null;
  // A button that is switched off loses the focus: the other one is what comes next.
  if (focused === on && on.disabled) off.focus();
  if (focused === off && off.disabled) on.focus();
  for (const field of form.querySelectorAll('input, select')) field.disabled = source !== null;
}

function showFigures() {
  const { stats } = publisher;
  showStats(find('#stats'), [
    ['On air', liveSince ? lasted((Date.now() - liveSince) / 1000) : '–'],
    ['Bit rate', bitrate(stats.bitrate)],
    ['Frames a second', number(stats.fps)],
    ['Picture', stats.width ? `${stats.width} × ${stats.height}` : '–'],
    ['Round trip', milliseconds(stats.rttMs)],
    ['Packets lost', number(stats.lossPercent, 1, ' %')],
    ['Encoding a frame', number(stats.encodeMs, 1, ' ms')],
    ['Held back by', LIMITS[stats.limited] ?? '–'],
    ['Codecs', [stats.codec, stats.audioCodec].filter(Boolean).join(' + ') || '–'],
  ]);
}

async function measure() {
  await publisher.measure().catch(console.error);
  showFigures();
  if (publisher.phase === 'live') spark.add(publisher.stats.bitrate);
  setTimeout(measure, MEASURE_MS);
}

document.title = `Publish ${stream} · Headwater`;
find('#stream').textContent = stream;
find('#watch').href = `/play/${stream}`;
form.addEventListener('submit', (event) => {
  event.preventDefault();
  start();
});
find('#stop').addEventListener('click', stop);
window.addEventListener('pagehide', () => publisher.stop());
fromAddress();
show();
measure();
if (!validName(stream)) {
  showNote(note, 'That is not a valid stream name.');
  find('#figures').hidden = false;
  find('#start').disabled = true;
} else if (query.get('autostart') === '1') {
  start();
}
