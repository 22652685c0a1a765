//! Records with a checksum, so that what a disk changed is found before it is believed.
//!
//! A record is the CRC-32C (RFC 3720, appendix B.4) of its place and its bytes, then the bytes.
//! The place is part of the sum: a record that turns up at another place is damaged too.
//!
//! Not here: protection against people who change the file on purpose.

use serde::Serialize;
use serde::de::DeserializeOwned;

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut sum = n as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
}

static TABLE: [u32; 256] = table();

fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |sum, byte| {
        let [low, ..] = (sum ^ u32::from(*byte)).to_le_bytes();
        (sum >> 8) ^ TABLE[usize::from(low)]
    })
}

fn sum(place: u64, bytes: &[u8]) -> u32 {
    !crc32c(crc32c(!0, &place.to_le_bytes()), bytes)
}

/// Makes the record of `bytes` at `place`.
pub(crate) fn seal(place: u64, bytes: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(4 + bytes.len());
    record.extend_from_slice(&sum(place, bytes).to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

/// The bytes of the record at `place`, or `None` if it is damaged.
pub(crate) fn unseal(place: u64, record: &[u8]) -> Option<&[u8]> {
    let (stored, bytes) = record.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*stored) == sum(place, bytes)).then_some(bytes)
}

/// Makes the record of `value` at `place`.
pub(super) fn seal_value(place: u64, value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let bytes = postcard::to_stdvec(value).map_err(std::io::Error::other)?;
    Ok(seal(place, &bytes))
}

/// The value of the record at `place`.
pub(crate) fn unseal_value<T: DeserializeOwned>(place: u64, record: &[u8]) -> Result<T, String> {
    let bytes = unseal(place, record).ok_or("its checksum is wrong")?;
    postcard::from_bytes(bytes).map_err(|e| format!("it cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_3720() {
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn any_flipped_bit_and_any_other_place_is_found() {
        let record = seal(7, b"some bytes");
        assert_eq!(unseal(7, &record), Some(&b"some bytes"[..]));
        assert_eq!(unseal(8, &record), None);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(7, &damaged), None, "bit {bit}");
        }
        for len in 0..record.len() {
            assert_eq!(unseal(7, &record[..len]), None);
        }
    }
}
