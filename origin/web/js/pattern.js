// The test pattern: bars, movement, a clock to read and its bar code, and a beep each second.
// Not here: the bar code's layout (`clockcode.js`), sending it (`publish.js`).
import { draw as drawCode } from './clockcode.js';

const BARS = ['#c0c0c0', '#c0c000', '#00c0c0', '#00c000', '#c000c0', '#c00000', '#0000c0'];
const TONE_HZ = 440;
const BEEP_HZ = 880;

function clock(now) {
  const date = new Date(now);
  const two = (value) => String(value).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${
    String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** Draws one frame. */
function drawFrame(context, { width, height, label, withCode }, background, frame, now) {
  context.drawImage(background, 0, 0);

  // A ball that crosses the picture every four seconds, so that a frozen frame shows.
  const phase = (now % 4000) / 4000;
  const radius = height / 14;
  const x = radius + (width - 2 * radius) * (phase < 0.5 ? phase * 2 : 2 - phase * 2);
  const bounce = Math.abs(Math.sin(now / 420));
  context.fillStyle = '#f5b301';
  context.beginPath();
  context.arc(x, height * (0.52 - 0.2 * bounce), radius, 0, Math.PI * 2);
  context.fill();

  // A second's hand, as a bar.
  context.fillStyle = '#46bdd2';
  context.fillRect(0, Math.floor(height * 0.94), (width * (now % 1000)) / 1000, Math.ceil(height * 0.06));

  const size = Math.round(height / 8);
  context.font = `600 ${size}px ui-monospace, "Liberation Mono", Menlo, monospace`;
  context.textBaseline = 'middle';
  context.textAlign = 'center';
  context.fillStyle = '#fff';
  context.fillText(clock(now), width / 2, height * 0.74);
  context.font = `500 ${Math.round(size / 2.4)}px system-ui, sans-serif`;
  context.fillStyle = '#a9bac8';
  context.fillText(`${label} · frame ${frame}`, width / 2, height * 0.86);
  if (withCode) drawCode(context, width, height, now);
}

function drawBackground(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { alpha: false });
  context.fillStyle = '#10181f';
  context.fillRect(0, 0, width, height);
  const each = width / BARS.length;
  BARS.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(Math.floor(i * each), 0, Math.ceil(each), Math.floor(height * 0.6));
  });
  return canvas;
}

/** A tone with a beep at each full second, both soft. */
function startTone() {
  const context = new AudioContext({ latencyHint: 'interactive' });
  const output = context.createMediaStreamDestination();
  const tone = new OscillatorNode(context, { frequency: TONE_HZ });
  const toneGain = new GainNode(context, { gain: 0.05 });
  const beep = new OscillatorNode(context, { frequency: BEEP_HZ });
  const beepGain = new GainNode(context, { gain: 0 });
  tone.connect(toneGain).connect(output);
  beep.connect(beepGain).connect(output);
  tone.start();
  beep.start();
  const schedule = () => {
    const at = context.currentTime + (1000 - (Date.now() % 1000)) / 1000;
    beepGain.gain.setValueAtTime(0.25, at);
    beepGain.gain.setValueAtTime(0, at + 0.08);
  };
  schedule();
  const timer = setInterval(schedule, 1000);
  context.resume();
  return {
    track: output.stream.getAudioTracks()[0],
    stop() {
      clearInterval(timer);
      context.close();
    },
  };
}

/**
 * Starts the pattern; returns its stream and how to stop it.
 * @param {{width: number, height: number, fps: number, label: string, withCode: boolean,
 *   withAudio: boolean}} options
 */
export function startPattern(options) {
  const canvas = document.createElement('canvas');
  canvas.width = options.width;
  canvas.height = options.height;
  const context = canvas.getContext('2d', { alpha: false });
  const background = drawBackground(options.width, options.height);
  const stream = canvas.captureStream(0);
  const [video] = stream.getVideoTracks();
  video.contentHint = 'motion';
  let frame = 0;
  const ticker = new Worker('/assets/js/ticker.js');
  ticker.onmessage = () => {
    drawFrame(context, options, background, frame, Date.now());
    frame += 1;
    video.requestFrame();
  };
  ticker.postMessage(options.fps);
  const tone = options.withAudio ? startTone() : null;
  if (tone) stream.addTrack(tone.track);
  return {
    stream,
    stop() {
      ticker.terminate();
      tone?.stop();
      for (const track of stream.getTracks()) track.stop();
    },
  };
}
