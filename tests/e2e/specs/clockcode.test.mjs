// The clock in the picture, without a browser: what `clockcode.js` draws it reads back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BAND_DIVISOR, age, check, columns, draw, read, rowsToRead }
  from '../../../origin/web/js/clockcode.js';

/** A canvas context of luma alone. */
function raster(width, height) {
  const luma = new Uint8Array(width * height).fill(128);
  return {
    luma,
    fillStyle: '',
    fillRect(x, y, w, h) {
      for (let row = y; row < y + h; row += 1) {
        luma.fill(this.fillStyle === '#fff' ? 235 : 16, row * width + x, row * width + x + w);
      }
    },
  };
}

function readBack(luma, width, height) {
  const { first, count } = rowsToRead(height);
  return read(luma.subarray(first * width), width, count, width);
}

test('the layout is the one that the comment promises', () => {
  assert.equal(check(0x123456), 0x57);
  const bits = columns(0x5_123456);
  assert.equal(bits.length, 36);
  assert.equal(bits.slice(2, 26).join(''), (0x123456).toString(2).padStart(24, '0'));
  assert.equal(bits.slice(26, 34).join(''), (0x57).toString(2).padStart(8, '0'));
  assert.deepEqual([bits[0], bits[1], bits[34], bits[35]], [1, 0, 0, 1]);
});

test('a drawn code is read back at every common size', () => {
  for (const [width, height] of [[320, 180], [426, 240], [640, 360], [1280, 720], [1920, 1080]]) {
    for (const time of [0, 1, 0xffffff, 1_800_000_123_456]) {
      const context = raster(width, height);
      draw(context, width, height, time);
      assert.equal(readBack(context.luma, width, height), time % 2 ** 24, `${width} at ${time}`);
      const band = Math.floor(height / BAND_DIVISOR);
      assert.equal(context.luma[band * width], 128, 'nothing is drawn below the band');
    }
  }
});

test('noise, a blank picture and a flipped column are not read as a time', () => {
  const [width, height] = [640, 360];
  const context = raster(width, height);
  assert.equal(readBack(context.luma, width, height), null);
  draw(context, width, height, 1_800_000_123_456);
  for (let column = 0; column < 36; column += 1) {
    const luma = Uint8Array.from(context.luma);
    const left = Math.floor((column * width) / 36);
    const right = Math.floor(((column + 1) * width) / 36);
    for (let y = 0; y < 30; y += 1) {
      for (let x = left; x < right; x += 1) luma[y * width + x] = 251 - luma[y * width + x];
    }
    assert.equal(readBack(luma, width, height), null, `column ${column}`);
  }
});

test('an age survives the wrap of the value', () => {
  assert.equal(age(0xfffff0, 2 ** 24 + 0x10), 0x20);
  assert.equal(age(0x10, 2 ** 24 + 0x05), -11);
  assert.equal(age(1_800_000_000_000 % 2 ** 24, 1_800_000_000_250), 250);
});
