//! Playlists compressed for HTTP: each encoding at most once for each playlist.
//!
//! Not here: which encoding a client gets (`http::hls`).

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

/// A content coding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
}

impl Encoding {
    /// Its name in `Content-Encoding`; none for identity.
    #[must_use]
    pub fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }
}

/// Playlists are a few KiB of repeating text: level 5 takes some 0.2 ms and comes within a few
/// percent of the slowest levels.
const BROTLI_QUALITY: i32 = 5;
/// 64 KiB, more than any playlist; the window is memory while encoding.
const BROTLI_WINDOW_BITS: i32 = 16;

/// A text with its compressed forms, made when first asked for and then shared.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    plain: OnceLock<Option<Bytes>>,
    gzip: OnceLock<Option<Bytes>>,
    brotli: OnceLock<Option<Bytes>>,
}

impl Compressed {
    /// The text in `encoding`, with the encoding it really has: compression that fails or gains
    /// nothing gives way to the plain text. None where `make` gives none; `make` is called once.
    pub(super) fn get(
        &self,
        encoding: Encoding,
        make: impl FnOnce() -> Option<String>,
    ) -> Option<(Bytes, Encoding)> {
        let plain = self.plain.get_or_init(|| make().map(Bytes::from)).clone()?;
        Some(self.packed(&plain, encoding))
    }

    fn packed(&self, plain: &Bytes, encoding: Encoding) -> (Bytes, Encoding) {
        let packed = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => self.gzip.get_or_init(|| gzip(plain)).clone(),
            Encoding::Brotli => self.brotli.get_or_init(|| brotli(plain)).clone(),
        };
        packed.map_or_else(|| (plain.clone(), Encoding::Identity), |packed| (packed, encoding))
    }
}

/// The text that was asked for last: whoever gets the same, gets the same compressed bytes.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<Arc<(Bytes, Compressed)>>>);

impl Latest {
    /// `text` in `encoding`, with the encoding it really has.
    pub(super) fn get(&self, text: String, encoding: Encoding) -> (Bytes, Encoding) {
        let shared = {
            let mut latest = self.0.lock();
            match &*latest {
                Some(known) if known.0 == text => Arc::clone(known),
                _ => {
                    let fresh = Arc::new((Bytes::from(text), Compressed::default()));
                    Arc::clone(latest.insert(fresh))
                }
            }
        };
        let (plain, compressed) = &*shared;
        compressed.packed(plain, encoding)
    }
}

fn gzip(text: &[u8]) -> Option<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(text).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn brotli(mut text: &[u8]) -> Option<Bytes> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: BROTLI_WINDOW_BITS,
        size_hint: text.len(),
        ..Default::default()
    };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut text, &mut out, &params).ok()?;
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_compressed_once_and_another_takes_its_place() {
        let latest = Latest::default();
        let get = |text: &str| latest.get(text.to_owned(), Encoding::Gzip);
        let (long, other) = ("a".repeat(1_000), "b".repeat(1_000));
        let first = get(&long);
        assert_eq!(first.1, Encoding::Gzip);
        assert_eq!(get(&long).0.as_ptr(), first.0.as_ptr(), "the same bytes");
        assert_ne!(get(&other).0, first.0);
        assert_eq!(get(&long), first);
        assert_eq!(latest.get(long.clone(), Encoding::Identity), (long.into(), Encoding::Identity));
    }
}
