// How the player reads lists of nodes and playlists, and how long it waits between tries, without a
// browser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { span } from '../../../origin/web/js/loader.js';
import { backOff, baseOf } from '../../../origin/web/js/servers.js';

test('a playlist says which segments it has whole, those that it skips included', () => {
  const head = '#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:7\n';
  const two = '#EXTINF:2.0,\n7.m4s\n#EXTINF:2.0,\n8.m4s\n#EXT-X-PART:DURATION=0.2,URI="9.0.m4s"\n';
  assert.deepEqual(span(head + two), { first: 7, last: 8 });
  assert.deepEqual(span(`${head}#EXT-X-SKIP:SKIPPED-SEGMENTS=10\n${two}`), { first: 7, last: 18 });
  const parts = '#EXT-X-PART:DURATION=0.2,URI="7.0.m4s"\n';
  assert.deepEqual(span(head + parts), { first: 7, last: 6 }, 'parts alone are none');
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
