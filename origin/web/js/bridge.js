// Joins the media playlists of two nodes. A node that begins to take a stream lists the parts of the
// segment in the making and no complete one, as it has none; hls.js takes such a playlist for an
// empty one. The segments before it were in the last playlist of the node that the player came from.
// Not here: when (`loader.js`).

/** Where the header ends. */
const BODY = /^#(EXTINF:|EXT-X-(PROGRAM-DATE-TIME:|PART:|PRELOAD-HINT:|DISCONTINUITY$|GAP$))/;
/** What of a segment's lines is kept: all but its parts. */
const OWN = /^#(EXTINF:|EXT-X-(PROGRAM-DATE-TIME:|GAP$))/;

const valueOf = (lines, tag) => lines.find((line) => line.startsWith(`${tag}:`))?.slice(tag.length + 1);

function read(text) {
  const lines = text.split(/\r?\n/).filter((line) => line !== '');
  const at = lines.findIndex((line) => BODY.test(line));
  const head = at < 0 ? lines : lines.slice(0, at);
  const first = Number(valueOf(head, '#EXT-X-MEDIA-SEQUENCE') ?? 0);
  const skipped = Number(valueOf(head, '#EXT-X-SKIP')?.match(/SKIPPED-SEGMENTS=(\d+)/)?.[1] ?? 0);
  return { head, first, next: first + skipped, body: at < 0 ? [] : lines.slice(at) };
}

/** The segments of a playlist by their number: their own lines, no parts, and the map they need. */
function segments({ head, next, body }) {
  const all = new Map();
  let number = next;
  let map = valueOf(head, '#EXT-X-MAP');
  let lines = [];
  for (const line of body) {
    if (line.startsWith('#EXT-X-MAP:')) map = line.slice('#EXT-X-MAP:'.length);
    else if (OWN.test(line)) lines.push(line);
    if (line.startsWith('#')) continue;
    all.set(number, { lines: [...lines, line], map });
    number += 1;
    lines = [];
  }
  return all;
}

/** Whether a playlist lists parts and no complete segment. */
export function lacksSegments(text) {
  return !/^#EXTINF:/m.test(text) && /^#EXT-X-PART:/m.test(text);
}

/** `text`, which lacks segments, with the one before its first out of `last`; null if that has none. */
export function bridged(text, last) {
  const own = read(text);
  const before = segments(read(last)).get(own.first - 1);
  // Not across a discontinuity: which numbers it changes is the node's to say.
  if (!before || before.map !== valueOf(own.head, '#EXT-X-MAP') || own.body[0] === '#EXT-X-DISCONTINUITY') return null;
  const head = own.head.map((line) => (line.startsWith('#EXT-X-MEDIA-SEQUENCE:')
    ? `#EXT-X-MEDIA-SEQUENCE:${own.first - 1}` : line));
  return [...head, ...before.lines, ...own.body, ''].join('\n');
}
