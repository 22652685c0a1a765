//! Opus headers (RFC 6716, RFC 7845; Opus in ISOBMFF).
//!
//! Not here: encoding and decoding.

/// What the identification header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpusConfig {
    /// 1 or 2 (mapping family 0).
    pub channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub pre_skip: u16,
    /// The encoder's input rate; informative.
    pub input_sample_rate: u32,
}

impl OpusConfig {
    /// `opus`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        String::from("opus")
    }
}
