//! Hostile variations of real headers, for the parsers' tests.
//!
//! Not here: the headers themselves (beside the code that reads them).

/// A small deterministic generator (xorshift64).
pub(crate) struct XorShift(pub(crate) u64);

impl XorShift {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Bytes from hex digits; spaces are ignored.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Calls `parse` with `data` cut at every length, then with 20,000 seeded mutations of it (bits
/// flipped, bytes set, dropped, doubled, tails cut). `parse` must not panic.
pub(crate) fn torture(data: &[u8], mut parse: impl FnMut(&[u8])) {
    for end in 0..data.len() {
        parse(&data[..end]);
    }
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut bytes = data.to_vec();
        for _ in 0..=random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(6) {
                0 | 1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes[at] = [0, 0xff, 0x80, 0x7f][random.below(4)],
                3 => drop(bytes.remove(at)),
                4 => bytes.insert(at, random.next() as u8),
                _ => bytes.truncate(at),
            }
        }
        parse(&bytes);
    }
}
