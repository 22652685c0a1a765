//! Draws the demo's picture: bars, movement, a clock to read and its bar code.
//!
//! Not here: encoding it (`super`). The bar code's layout is written down in
//! `origin/web/js/clockcode.js`, which reads it.

use openh264::formats::YUVSource;

use super::font;

/// A colour as luma and the two chroma values (BT.601, limited range).
#[derive(Clone, Copy)]
struct Colour(u8, u8, u8);

const WHITE: Colour = Colour(235, 128, 128);
const BLACK: Colour = Colour(16, 128, 128);
const NIGHT: Colour = Colour(33, 133, 125);
const AMBER: Colour = Colour(178, 34, 166);
const TEAL: Colour = Colour(154, 151, 72);
const GREY: Colour = Colour(161, 132, 122);
/// Grey, yellow, cyan, green, magenta, red, blue at 75 %.
const BARS: [Colour; 7] = [
    Colour(180, 128, 128),
    Colour(162, 44, 142),
    Colour(131, 156, 44),
    Colour(112, 72, 58),
    Colour(84, 184, 198),
    Colour(65, 100, 212),
    Colour(35, 212, 114),
];

const CODE_COLUMNS: usize = 36;
const CODE_BAND_DIVISOR: usize = 12;

/// A 4:2:0 picture.
pub(super) struct Picture {
    width: usize,
    height: usize,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

/// A rectangle in luma samples.
#[derive(Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Picture {
    /// A black picture; both sides even.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let chroma = (width / 2) * (height / 2);
        Self {
            width,
            height,
            y: vec![16; width * height],
            u: vec![128; chroma],
            v: vec![128; chroma],
        }
    }

    /// Draws the frame for `millis` since the Unix epoch.
    pub(super) fn draw(&mut self, millis: i64, frame: u64) {
        let (w, h) = (self.width, self.height);
        self.fill(Area { left: 0, top: 0, right: w, bottom: h }, NIGHT);
        for (n, bar) in BARS.into_iter().enumerate() {
            let (left, right) = (n * w / BARS.len(), (n + 1) * w / BARS.len());
            self.fill(Area { left, top: 0, right, bottom: h * 6 / 10 }, bar);
        }
        self.ball(millis);
        let second = usize::try_from(millis.rem_euclid(1_000)).unwrap_or(0);
        let hand = Area { left: 0, top: h * 94 / 100, right: w * second / 1_000, bottom: h };
        self.fill(hand, TEAL);
        let of_day = millis.rem_euclid(86_400_000);
        let clock = format!(
            "{:02}:{:02}:{:02}.{:03}",
            of_day / 3_600_000,
            of_day / 60_000 % 60,
            of_day / 1_000 % 60,
            of_day % 1_000
        );
        self.text(&clock, h * 66 / 100, h / 60, WHITE);
        self.text(&format!("HEADWATER DEMO  UTC  FRAME {frame}"), h * 85 / 100, h / 160, GREY);
        self.code(millis);
    }

    fn ball(&mut self, millis: i64) {
        let (w, h) = (self.width as f64, self.height as f64);
        let phase = millis.rem_euclid(4_000) as f64 / 4_000.0;
        let radius = h / 14.0;
        let there = if phase < 0.5 { phase * 2.0 } else { 2.0 - phase * 2.0 };
        let x = radius + (w - 2.0 * radius) * there;
        let bounce = (millis.rem_euclid(2_639) as f64 / 420.0).sin().abs();
        let y = h * (0.52 - 0.2 * bounce);
        let (first, last) = ((y - radius).max(0.0) as usize, (y + radius) as usize);
        for row in (first..last.min(self.height)).step_by(2) {
            let off = row as f64 + 1.0 - y;
            let half = (radius * radius - off * off).max(0.0).sqrt();
            let (left, right) = ((x - half).max(0.0) as usize, (x + half) as usize);
            self.fill(Area { left, top: row, right, bottom: row + 2 }, AMBER);
        }
    }

    fn code(&mut self, millis: i64) {
        let bottom = self.height / CODE_BAND_DIVISOR;
        for (n, white) in code_columns(millis).into_iter().enumerate() {
            let left = n * self.width / CODE_COLUMNS;
            let right = (n + 1) * self.width / CODE_COLUMNS;
            let area = Area { left, top: 0, right, bottom };
            self.fill(area, if white { WHITE } else { BLACK });
        }
    }

    /// Draws a line of text in the middle, each dot of the font `dot` samples wide.
    fn text(&mut self, text: &str, top: usize, dot: usize, colour: Colour) {
        let dot = dot.max(1);
        let width = text.chars().count() * font::ADVANCE * dot;
        let start = self.width.saturating_sub(width) / 2;
        for (n, character) in text.chars().enumerate() {
            for (row, bits) in font::glyph(character).into_iter().enumerate() {
                for column in 0..font::WIDTH {
                    if bits & (1 << (font::WIDTH - 1 - column)) != 0 {
                        let left = start + (n * font::ADVANCE + column) * dot;
                        let top = top + row * dot;
                        let (right, bottom) = (left + dot, top + dot);
                        self.fill(Area { left, top, right, bottom }, colour);
                    }
                }
            }
        }
    }

    fn fill(&mut self, area: Area, Colour(y, u, v): Colour) {
        let (right, bottom) = (area.right.min(self.width), area.bottom.min(self.height));
        let rows = |plane: &mut [u8], stride: usize, shift: usize, value: u8| {
            let (left, right) = (area.left >> shift, right.div_ceil(1 << shift).min(stride));
            for row in area.top >> shift..bottom.div_ceil(1 << shift) {
                if let Some(cells) = plane.get_mut(row * stride + left..row * stride + right) {
                    cells.fill(value);
                }
            }
        };
        if area.left >= right || area.top >= bottom {
            return;
        }
        rows(&mut self.y, self.width, 0, y);
        rows(&mut self.u, self.width / 2, 1, u);
        rows(&mut self.v, self.width / 2, 1, v);
    }
}

/// The bar code's columns, true for white.
fn code_columns(millis: i64) -> [bool; CODE_COLUMNS] {
    let value = u32::try_from(millis.rem_euclid(1 << 24)).unwrap_or(0);
    let word = (u64::from(value) << 8) | u64::from(crc8(value));
    let mut columns = [false; CODE_COLUMNS];
    for (n, column) in columns.iter_mut().enumerate() {
        *column = match n {
            0 | 35 => true,
            1 | 34 => false,
            n => word >> (33 - n) & 1 == 1,
        };
    }
    columns
}

/// CRC-8 with polynomial 0x07 and initial value 0xff over the value's three bytes.
fn crc8(value: u32) -> u8 {
    let [_, bytes @ ..] = value.to_be_bytes();
    bytes.into_iter().fold(0xff, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x07 } else { crc << 1 })
    })
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.y
    }

    fn u(&self) -> &[u8] {
        &self.u
    }

    fn v(&self) -> &[u8] {
        &self.v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_check_is_the_one_its_readers_compute() {
        assert_eq!(crc8(0x12_34_56), 0x57);
    }

    #[test]
    fn the_code_can_be_read_back_from_the_picture() {
        let mut picture = Picture::new(640, 360);
        picture.draw(1_795_384_844_123, 7);
        let row = 10;
        let bits: Vec<bool> = (0..CODE_COLUMNS)
            .map(|n| picture.y[row * 640 + n * 640 / CODE_COLUMNS + 8] > 128)
            .collect();
        let value = bits[2..26].iter().fold(0i64, |value, bit| value << 1 | i64::from(*bit));
        assert_eq!(value, 1_795_384_844_123 % (1 << 24));
        assert_eq!(bits[..2], [true, false]);
        assert_eq!(bits[34..], [false, true]);
    }

    #[test]
    fn odd_sizes_and_any_time_stay_within_the_picture() {
        for (width, height) in [(2, 2), (64, 36), (320, 180), (1_920, 1_080)] {
            let mut picture = Picture::new(width, height);
            for millis in [0, -1, i64::MAX, 999, 3_999] {
                picture.draw(millis, u64::MAX);
            }
        }
    }
}
