// The player's page: WHEP and LL-HLS side by side.
// Not here: how each plays (`whep.js`, `hls.js`).
// In the address: `whep=0|1`, `hls=0|1` (start by itself; both do by default), `muted=0|1`,
// `hlsjs=defaults` (hls.js as it comes), `log=1` (keep every sample of the delay), `token=…`,
// `servers=URL,URL` (nodes to play from; by itself the page asks its own for the others).
import { streamOfPage, validName } from './api.js';
import { HlsPlayer } from './hls.js';
import { Servers } from './servers.js';
import { Spark, bitrate, copy, milliseconds, number, showNote, showPill, showStats } from './ui.js';
import { WhepPlayer } from './whep.js';

const MEASURE_MS = 500;
/** How long a panel tells of a move. */
const MOVED_NOTE_MS = 15_000;
const stream = streamOfPage('play');
const query = new URLSearchParams(window.location.search);
const servers = new Servers();
const MOODS = {
  idle: ['Stopped', ''], connecting: ['Connecting', 'busy'], waiting: ['Waiting', 'busy'],
  playing: ['Playing', 'good'], away: ['Publisher away', 'busy'], stalled: ['Buffering', 'busy'],
  retrying: ['Reconnecting', 'busy'], ended: ['Ended', ''], failed: ['Failed', 'bad'],
};

/** One player with its picture, figures and buttons. */
class Panel {
  constructor(title, Player, figures) {
    const template = document.querySelector('#player');
    this.root = template.content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.root.querySelector(selector);
    this.title = title;
    this.figures = figures;
    this.video = this.find('video');
    this.spark = new Spark(this.find('.spark'));
    this.find('h2').textContent = title;
    this.root.setAttribute('aria-label', `${title} player`);
    this.video.setAttribute('aria-label', `${title} picture`);
    this.player = new Player(stream, this.video, () => this.show(), servers);
    this.video.muted = query.get('muted') !== '0';
    this.find('.toggle').addEventListener('click', () => this.toggle());
    this.find('.sound').addEventListener('click', () => this.sound());
    this.find('.full').addEventListener('click', () => this.full());
    this.video.addEventListener('volumechange', () => this.show());
    document.querySelector('#players').append(this.root);
    this.show();
  }

  toggle() {
    if (this.player.running) {
      this.player.stop();
      this.spark.clear();
      this.player.measure().then(() => this.showFigures());
    } else {
      this.player.start();
    }
    this.show();
  }

  sound(muted = !this.video.muted) {
    this.video.muted = muted;
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.find('.stage').requestFullscreen) this.find('.stage').requestFullscreen();
    else this.video.webkitEnterFullscreen?.();
  }

  show() {
    // A player may report while it is being made.
    if (!this.player) return;
    const { running, route } = this.player;
    let { phase, message } = this.player;
    // What a player takes for an absent publisher or a slow line may be the nodes' silence.
    if (route.stranded && ['away', 'stalled'].includes(phase)) [phase, message] = ['retrying', 'No node answers'];
    const [text, mood] = MOODS[phase];
    showPill(this.find('.pill'), text, mood);
    const over = this.find('.over');
    over.hidden = phase === 'playing' && !message;
    over.classList.toggle('late', this.player.held ?? false);
    const words = message || (phase === 'idle' ? `${this.title} is stopped` : `${text} …`);
    const place = over.querySelector('p');
    if (place.textContent !== words) place.textContent = words;
    this.showNode();
    this.showNote();
    const toggle = this.find('.toggle');
    toggle.textContent = running ? `Stop ${this.title}` : `Start ${this.title}`;
    toggle.classList.toggle('main', !running);
    const sound = this.find('.sound');
    sound.textContent = this.video.muted ? 'Sound is off' : 'Sound is on';
    sound.setAttribute('aria-pressed', String(!this.video.muted));
    sound.setAttribute('aria-label', this.video.muted ? 'Turn the sound on' : 'Turn the sound off');
  }

  /** Which of several nodes it plays from. */
  showNode() {
    const { server, several } = this.player.route;
    const tag = this.find('.node');
    tag.hidden = !several || !this.player.running;
    if (tag.textContent !== server.name) tag.textContent = server.name;
    tag.title = `Plays from ${server.url}`;
  }

  /** Why it failed, or where it has moved. */
  showNote() {
    const { phase, message, running, route } = this.player;
    const { server, moved, stranded } = route;
    const note = this.find('.body > .note');
    if (phase === 'failed') showNote(note, message);
    else if (running && stranded) showNote(note, 'No node answers. Asking them all again …', 'warn');
    else if (running && moved && performance.now() - moved.at < MOVED_NOTE_MS) {
      showNote(note, `Plays from ${server.name} now: ${moved.from.name} does not answer.`, 'warn');
    } else showNote(note, '');
  }

  async measure() {
    await this.player.measure();
    this.showFigures();
    if (this.player.running && this.player.startupMs !== null) this.spark.add(this.player.stats.latencyMs);
  }

  showFigures() {
    const { stats, startupMs, running } = this.player;
    this.showNode();
    this.showNote();
    this.find('[data-stat="latency"]').textContent = milliseconds(stats.latencyMs);
    const p95 = Number.isFinite(stats.p95Ms) ? `, 95 % under ${milliseconds(stats.p95Ms)}` : '';
    this.find('.how').textContent = stats.latencyFrom ? `${stats.latencyFrom}${p95}` : '';
    showStats(this.find('.stats'), [
      ['Picture', stats.width ? `${stats.width} × ${stats.height}` : '–'],
      ['Bit rate', bitrate(stats.bitrate)],
      ['Frames a second', number(stats.fps)],
      ['Dropped frames', number(stats.dropped)],
      ['Start-up', milliseconds(running ? startupMs : null)],
      ...this.figures(stats, this.player),
    ]);
  }
}

const loss = ({ lost, received }) => (received > 0 ? number((Math.max(lost, 0) * 100) / (lost + received), 1, ' %') : '–');
const codecs = ({ codec, audioCodec }) => [codec, audioCodec].filter(Boolean).join(' + ') || '–';

const panels = {};

function begin() {
  document.title = `${stream} · Headwater`;
  document.querySelector('#stream').textContent = stream;
  document.querySelector('#publish').href = `/publish/${stream}`;
  if (!validName(stream)) {
    showNote(document.querySelector('#players ~ .note'), 'That is not a valid stream name.');
    return;
  }
  panels.whep = new Panel('WebRTC', WhepPlayer, (stats) => [
    ['Packets lost', loss(stats)],
    ['Round trip', milliseconds(stats.rttMs)],
    ['Jitter buffer', milliseconds(stats.bufferMs)],
    ['Codecs', codecs(stats)],
  ]);
  panels.hls = new Panel('LL-HLS', HlsPlayer, (stats, player) => [
    ['Stalls', player.running ? String(player.stalls) : '–'],
    ['Buffer', milliseconds(stats.bufferMs)],
    ['Target delay', milliseconds(stats.targetMs)],
    ['Codecs', codecs(stats)],
  ]);
  // For the tests, and for the curious at the console.
  window.headwater = {
    page: 'play', stream, panels, servers, whep: panels.whep.player, hls: panels.hls.player,
  };
  servers.follow();
  const measure = async () => {
    await Promise.all(Object.values(panels).map((panel) => panel.measure().catch(console.error)));
    setTimeout(measure, MEASURE_MS);
  };
  measure();
  for (const name of ['whep', 'hls']) if (query.get(name) !== '0') panels[name].toggle();

  document.querySelector('#share').addEventListener('click', ({ target }) => {
    const given = query.get('servers');
    const more = given ? `?${new URLSearchParams({ servers: given })}` : '';
    copy(`${window.location.origin}/play/${stream}${more}`, target);
  });
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input, select')) return;
    const inFocus = Object.values(panels).find(({ root }) => root.contains(document.activeElement));
    const actions = {
      w: () => panels.whep.toggle(),
      l: () => panels.hls.toggle(),
      m: () => {
        const muted = !Object.values(panels).every(({ video }) => video.muted);
        for (const panel of Object.values(panels)) panel.sound(muted);
      },
      f: () => (inFocus ?? panels.whep).full(),
    };
    const action = actions[event.key.toLowerCase()];
    if (action) {
      event.preventDefault();
      action();
    }
  });
  window.addEventListener('pagehide', () => {
    for (const { player } of Object.values(panels)) if (player.running) player.stop();
  });
}

begin();
