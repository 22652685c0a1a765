// How the player chooses among nodes and joins their playlists, without a browser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bridged, lacksSegments } from '../../../origin/web/js/bridge.js';
import { backOff, baseOf } from '../../../origin/web/js/servers.js';

const head = (first, skip = '') => `#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-PART-INF:PART-TARGET=0.2
#EXT-X-MEDIA-SEQUENCE:${first}
#EXT-X-DISCONTINUITY-SEQUENCE:0
${skip}#EXT-X-MAP:URI="init-7.mp4"
`;
const segment = (number) => `#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0${number}.000Z
#EXT-X-PART:DURATION=0.2,URI="${number}.0.m4s",INDEPENDENT=YES
#EXTINF:2.0,
${number}.m4s
`;
const making = (number) => `#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0${number}.000Z
#EXT-X-PART:DURATION=0.2,URI="${number}.0.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${number}.1.m4s"
`;
const joined = `${head(8)}#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:08.000Z
#EXTINF:2.0,
8.m4s
${making(9)}`;

test('a playlist without a complete segment gets the one before from the last node', () => {
  const last = head(7) + segment(7) + segment(8) + making(9);
  const fresh = head(9) + making(9);
  assert.ok(lacksSegments(fresh) && !lacksSegments(last));
  assert.equal(bridged(fresh, last), joined);
  const skipping = head(2, '#EXT-X-SKIP:SKIPPED-SEGMENTS=6\n') + segment(8) + making(9);
  assert.equal(bridged(fresh, skipping), joined, 'a delta update counts what it skips');
});

test('playlists that do not meet are not joined', () => {
  const last = head(7) + segment(7) + making(8);
  assert.equal(bridged(head(9) + making(9), last), null, 'segment 8 is not known');
  const other = head(8).replace('init-7', 'init-8') + making(8);
  assert.equal(bridged(other, last), null, 'another init section');
  assert.equal(bridged(`${head(8)}#EXT-X-DISCONTINUITY\n${making(8)}`, last), null, 'a discontinuity between');
  assert.ok(!lacksSegments(head(9)), 'nothing at all is not parts alone');
});

test('base URLs are taken without their last slash, and refused where a page could not use them', () => {
  const page = 'http://a.example/play/x';
  for (const [text, base] of [
    ['http://b.example:8080/', 'http://b.example:8080'],
    [' https://b.example/edge/1/ ', 'https://b.example/edge/1'],
    ['b.example', null], ['ftp://b.example', null], ['http://u@b.example', null],
    ['javascript:alert(1)', null], ['http://b.example/?x=1', null], ['', null],
  ]) assert.equal(baseOf(text, page), base, text);
  assert.equal(baseOf('http://b.example', 'https://a.example/play/x'), null, 'http under https');
});

test('tries come further apart, by chance, and not without end', () => {
  assert.deepEqual([0, 1, 2, 9].map((tries) => backOff(tries, 1)), [250, 500, 1000, 5000]);
  assert.equal(backOff(3, 0), backOff(3, 1) / 2);
});
