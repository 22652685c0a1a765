//! The numbers by which nodes are chosen. They are part of what nodes agree on: two nodes whose
//! hashes differ would plan different trees. So none of this may ever change without a new name for
//! it in the cluster, and none of it is left to a library or to floating point.
//!
//! Not here: what is chosen by them (`seating`).

/// 2^64 divided by the golden ratio: SplitMix64's increment.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a, 64 bits: offset basis and prime.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// SplitMix64's finalizer (Stafford's thirteenth variant).
pub(super) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a text: FNV-1a of its bytes, mixed.
pub(super) fn of_text(text: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    mix(text.bytes().fold(FNV_BASIS, fnv))
}

/// The key of a number, such as a node's.
pub(super) const fn of_number(number: u64) -> u64 {
    mix(number.wrapping_add(GOLDEN))
}

/// The hash of two keys together.
pub(super) const fn pair(a: u64, b: u64) -> u64 {
    mix(a ^ b)
}

/// The half of a hash by which one thing is preferred to another: the greater, the better.
pub(super) const fn preference(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The half of a hash by which one of several is picked evenly.
pub(super) const fn pick(hash: u64, of: u32) -> u32 {
    let low = hash as u32;
    // The same number either way: nearly always it is a power of two, and division is slow.
    if of.is_power_of_two() { low & (of - 1) } else { low % of }
}

/// Bits of the fraction in [`minus_log2`].
const FRACTION: u32 = 34;
/// Bits of the mantissa by which the table is looked up.
const TABLE_BITS: u32 = 8;
/// log2(1 + i/256) in units of 2^-34.
const TABLE: [u64; (1 << TABLE_BITS) + 1] = table();

const fn table() -> [u64; (1 << TABLE_BITS) + 1] {
    let mut table = [0; (1 << TABLE_BITS) + 1];
    let mut i = 0;
    while i < table.len() {
        table[i] = log2_by_squaring((1 << TABLE_BITS) + i as u64);
        i += 1;
    }
    table
}

/// log2(x / 256) in units of 2^-34, for x from 256 to 512, bit by bit.
const fn log2_by_squaring(x: u64) -> u64 {
    if x == 2 << TABLE_BITS {
        return 1 << FRACTION;
    }
    // The number between 1 and 2, in units of 2^-62.
    let mut x = (x as u128) << (62 - TABLE_BITS);
    let mut log = 0;
    let mut bit = 0;
    while bit < FRACTION {
        x = (x * x) >> 62;
        log <<= 1;
        if x >= 2 << 62 {
            x >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

/// −log2 of the fraction (`x` + 1) / 2^32 in units of 2^-34: falls as `x` rises, and is 0 at the
/// greatest `x`.
fn minus_log2(x: u32) -> u64 {
    let x = u64::from(x) + 1;
    let whole = 63 - x.leading_zeros();
    // The mantissa's fraction, in units of 2^-32.
    let fraction = (x << (32 - whole)) & 0xffff_ffff;
    let at = (fraction >> (32 - TABLE_BITS)) as usize;
    let (low, high) = (TABLE[at], TABLE[at + 1]);
    let rest = fraction & ((1 << (32 - TABLE_BITS)) - 1);
    let log = low + (((high - low) * rest) >> (32 - TABLE_BITS));
    (u64::from(32 - whole) << FRACTION) - log
}

/// What a weight costs to divide by: see [`cost`].
pub(super) fn reciprocal(weight: u64) -> u64 {
    u64::MAX / weight.max(1)
}

/// Weighted rendezvous hashing: of several, the one of least cost is chosen, and so each in
/// proportion to its weight (−ln(u)/w is the waiting time for an event of rate w).
pub(super) fn cost(preference: u32, reciprocal: u64) -> u64 {
    // At most 2^39 before the shift.
    let waiting = u128::from(minus_log2(preference) << 24);
    ((waiting * u128::from(reciprocal)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_the_ones_that_older_nodes_compute() {
        // SplitMix64 of state 0 begins with this number.
        assert_eq!(of_number(0), 0xe220_a839_7b1d_cdaf);
        // FNV-1a of "a" is 0xaf63dc4c8601ec8c.
        assert_eq!(of_text("a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(of_text(""), mix(FNV_BASIS));
        // Half of the range: one halving, in units of 2^-58 for a weight of one.
        let halves = minus_log2(0x7fff_ffff);
        assert_eq!((halves, cost(0x7fff_ffff, reciprocal(1))), (1 << FRACTION, (1 << 58) - 1));
        assert_eq!(cost(0x7fff_ffff, reciprocal(3)), (1 << 58) / 3);
        assert_eq!(cost(0x1234_5678, reciprocal(100)), 10_992_480_705_639_874);
    }

    #[test]
    fn the_logarithm_is_right_to_five_digits_and_never_rises() {
        let (mut x, mut before) = (0_u32, u64::MAX);
        loop {
            let log = minus_log2(x);
            assert!(log <= before, "{x}");
            before = log;
            let exact = -((f64::from(x) + 1.0) / f64::from(2.0_f32).powi(32)).log2();
            let told = log as f64 / f64::from(2.0_f32).powi(34);
            assert!((told - exact).abs() < 5e-6, "{x}: {told} for {exact}");
            let Some(next) = x.checked_add(x / 97 + 1) else { break };
            x = next;
        }
        assert_eq!(minus_log2(u32::MAX), 0);
        assert_eq!(minus_log2(0), 32 << FRACTION);
    }

    #[test]
    fn nodes_are_chosen_in_proportion_to_their_weights() {
        let weights = [1_u64, 2, 3, 10];
        let mut chosen = [0_u32; 4];
        for stream in 0..16_000 {
            let cost = |i: usize| {
                let hash = pair(of_number(stream), of_number(i as u64 + 100_000));
                cost(preference(hash), reciprocal(weights[i] * 1_000))
            };
            chosen[(0..4).min_by_key(|i| cost(*i)).unwrap()] += 1;
        }
        for (chosen, weight) in chosen.iter().zip(weights) {
            let expected = 1_000.0 * weight as f64;
            assert!((f64::from(*chosen) / expected - 1.0).abs() < 0.1, "{chosen} for {expected}");
        }
    }
}
