// The clock in the picture: a bar code of the wall clock, drawn by a publisher into each frame
// and read back by a player from decoded luma, so that latency is measured on what is seen.
// Not here: drawing the rest of the test pattern (`pattern.js`), statistics (`latency.js`).
//
// Layout, so that anything may draw or read it. W and H are the picture's width and height in
// luma samples; all divisions round down.
//
// * The code fills a band over the picture's whole width, rows 0 up to H / 12 (not included).
// * The band is cut into 36 columns; column i covers x from i * W / 36 up to (i + 1) * W / 36.
// * A column is all white (luma 235, or RGB 255) or all black (luma 16, or RGB 0), with neutral
//   chroma. White is 1, black is 0.
// * Columns 0 and 35 are white, columns 1 and 34 are black: references for the reader.
// * Columns 2 to 25 hold the value, 24 bits, most significant first: milliseconds since the Unix
//   epoch modulo 2^24 (about 4 h 40 min) at the time the frame was drawn.
// * Columns 26 to 33 hold a check, 8 bits, most significant first: CRC-8 with polynomial 0x07,
//   initial value 0xff, nothing reflected, nothing xored at the end, over the value's three bytes
//   from the most significant on. Example: value 0x123456 has check 0x57.
//
// A reader takes each column's mean luma around its centre, puts the threshold half way between
// the means of the white and of the black references, refuses a contrast below 48, and refuses
// a wrong check.

export const COLUMNS = 36;
export const BAND_DIVISOR = 12;
export const VALUE_BITS = 24;
const MODULUS = 2 ** VALUE_BITS;
const CONTRAST_MIN = 48;

/** CRC-8 (0x07, initial 0xff) of the value's three bytes. */
export function check(value) {
  let crc = 0xff;
  for (const shift of [16, 8, 0]) {
    crc ^= (value >> shift) & 0xff;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
    }
  }
  return crc;
}

/** The 36 columns, 1 for white, for a time in milliseconds since the Unix epoch. */
export function columns(milliseconds) {
  const value = Math.floor(milliseconds) % MODULUS;
  const bits = [1, 0];
  for (let i = VALUE_BITS - 1; i >= 0; i -= 1) bits.push((value >> i) & 1);
  const crc = check(value);
  for (let i = 7; i >= 0; i -= 1) bits.push((crc >> i) & 1);
  bits.push(0, 1);
  return bits;
}

/** Draws the code on a 2D canvas context of the given size. */
export function draw(context, width, height, milliseconds) {
  const band = Math.floor(height / BAND_DIVISOR);
  columns(milliseconds).forEach((bit, i) => {
    const left = Math.floor((i * width) / COLUMNS);
    const right = Math.floor(((i + 1) * width) / COLUMNS);
    context.fillStyle = bit ? '#fff' : '#000';
    context.fillRect(left, 0, right - left, band);
  });
}

/** The rows worth reading: a few in the middle of the band, on even rows as chroma wants. */
export function rowsToRead(height) {
  const band = Math.floor(height / BAND_DIVISOR);
  const first = Math.floor(band / 2 - 2) & ~1;
  return { first: Math.max(first, 0), count: 4 };
}

/**
 * Reads the code from rows of luma taken inside the band.
 * @param {Uint8Array} luma samples, one byte each
 * @param {number} width of the picture
 * @param {number} rows how many rows there are
 * @param {number} stride bytes from one row to the next
 * @param {number} step bytes from one sample to the next (4 for RGBA)
 * @returns {number|null} the 24-bit value, or null where no valid code is seen
 */
export function read(luma, width, rows, stride, step = 1) {
  const means = [];
  for (let i = 0; i < COLUMNS; i += 1) {
    const left = Math.floor((i * width) / COLUMNS);
    const size = Math.floor(((i + 1) * width) / COLUMNS) - left;
    const from = left + Math.floor(size / 4);
    const to = Math.max(from + 1, left + Math.ceil((size * 3) / 4));
    let sum = 0;
    for (let y = 0; y < rows; y += 1) {
      for (let x = from; x < to; x += 1) sum += luma[y * stride + x * step];
    }
    means.push(sum / ((to - from) * rows));
  }
  const white = (means[0] + means[COLUMNS - 1]) / 2;
  const black = (means[1] + means[COLUMNS - 2]) / 2;
  if (!(white - black >= CONTRAST_MIN)) return null;
  const bit = (i) => (means[i] > (white + black) / 2 ? 1 : 0);
  if (!bit(0) || bit(1) || bit(COLUMNS - 2) || !bit(COLUMNS - 1)) return null;
  let value = 0;
  let crc = 0;
  for (let i = 0; i < VALUE_BITS; i += 1) value = value * 2 + bit(2 + i);
  for (let i = 0; i < 8; i += 1) crc = crc * 2 + bit(2 + VALUE_BITS + i);
  return crc === check(value) ? value : null;
}

/** Milliseconds from the code's time to `now`, both modulo 2^24; negative when clocks disagree. */
export function age(value, now) {
  const difference = (Math.floor(now) - value) % MODULUS;
  const positive = difference < 0 ? difference + MODULUS : difference;
  return positive > MODULUS / 2 ? positive - MODULUS : positive;
}
