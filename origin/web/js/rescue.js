// Mends a fault of hls.js (1.7): it keeps account of the segments that it has, and takes one for
// whole of which up to 0.2 s are missing. Where that is the part it needs next, it asks for nothing
// any more, although its playlists go on, and the picture stands until a segment later or for ever.
// Not here: what else may fail (`hls.js`), moves to another node (`loader.js`).

/** Playlists in a row that bring more and have nothing asked for: each brings a part to ask for. */
const IDLE_UPDATES_MAX = 2;
/** A request that takes longer does not count as being under way. */
const UNDERWAY_MAX_MS = 3000;

/** Whether it plays so near the edge that it loads parts; farther off a segment is long in coming. */
function byParts(media, { partList }) {
  if (!media || media.paused || media.buffered.length === 0 || !partList?.length) return false;
  return media.buffered.end(media.buffered.length - 1) >= partList[0].start;
}

/** Watches `hls`; has it count anew where it is stuck, and tells `noted`. */
export function rescue(Hls, hls, noted) {
  const { Events } = Hls;
  /** By the kind of playlist: updates since something was asked for, and since when that is under way. */
  const kinds = { main: { idle: 0, since: null, begun: false }, audio: { idle: 0, since: null, begun: false } };
  const asks = (_, { frag }) => {
    const kind = kinds[frag.type];
    if (kind) Object.assign(kind, { idle: 0, since: performance.now(), begun: true });
  };
  const has = (_, data) => {
    const kind = kinds[data.frag?.type];
    if (kind) Object.assign(kind, { idle: 0, since: null });
  };
  hls.on(Events.FRAG_LOADING, asks);
  hls.on(Events.FRAG_BUFFERED, has);
  hls.on(Events.FRAG_LOAD_EMERGENCY_ABORTED, has);
  hls.on(Events.ERROR, has);
  const updated = (type) => (_, { details }) => {
    const kind = kinds[type];
    const underway = kind.since !== null && performance.now() - kind.since < UNDERWAY_MAX_MS;
    if (underway || !kind.begun || !details.live || !details.advanced || !byParts(hls.media, details)) {
      kind.idle = 0;
      return;
    }
    kind.idle += 1;
    if (kind.idle <= IDLE_UPDATES_MAX) return;
    kind.idle = 0;
    // It has no method for this. Parts that it has are known by their own marks, and not asked again.
    hls.streamController?.fragmentTracker?.removeAllFragments?.();
    noted();
  };
  hls.on(Events.LEVEL_UPDATED, updated('main'));
  hls.on(Events.AUDIO_TRACK_UPDATED, updated('audio'));
}
