//! H.264 payloads (RFC 6184, packetization-mode 1): single NAL units, STAP-A, FU-A.
//!
//! Not here: which frames are sent.

use std::sync::Arc;

const TYPE_MASK: u8 = 0x1f;
const NRI_MASK: u8 = 0x60;
const SPS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The payloads of a frame of length-prefixed NAL units. A keyframe gets the given
/// parameter sets in front, unless it carries its own. What follows a malformed length is left
/// out.
pub(super) fn packetize(
    frame: &[u8],
    keyframe: bool,
    parameter_sets: &[&[u8]],
    payload_bytes: usize,
) -> Vec<Arc<[u8]>> {
    let mut payloads = Payloads { done: Vec::new(), small: Vec::new(), small_bytes: 1 };
    let own = || Nals(frame).any(|nal| nal.first().is_some_and(|b| b & TYPE_MASK == SPS));
    if keyframe && !own() {
        for nal in parameter_sets {
            payloads.push(nal, payload_bytes);
        }
    }
    for nal in Nals(frame) {
        let kind = nal.first().map(|b| b & TYPE_MASK);
        if !matches!(kind, None | Some(0 | ACCESS_UNIT_DELIMITER | FILLER)) {
            payloads.push(nal, payload_bytes);
        }
    }
    payloads.flush();
    payloads.done
}

/// NAL units with 4-byte lengths.
struct Nals<'a>(&'a [u8]);

impl<'a> Iterator for Nals<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (nal, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(nal)
    }
}

struct Payloads<'a> {
    done: Vec<Arc<[u8]>>,
    /// NAL units that may share a packet.
    small: Vec<&'a [u8]>,
    /// Length of the STAP-A that they would make.
    small_bytes: usize,
}

impl<'a> Payloads<'a> {
    fn push(&mut self, nal: &'a [u8], payload_bytes: usize) {
        if nal.len() > payload_bytes {
            self.flush();
            self.fragment(nal, payload_bytes);
            return;
        }
        if self.small_bytes + 2 + nal.len() > payload_bytes {
            self.flush();
        }
        self.small.push(nal);
        self.small_bytes += 2 + nal.len();
    }

    fn flush(&mut self) {
        match self.small.as_slice() {
            [] => {}
            [one] => self.done.push((*one).into()),
            several => {
                // F is the or, NRI the highest of all (RFC 6184 §5.7.1).
                let headers = || several.iter().filter_map(|nal| nal.first());
                let nri = headers().map(|b| b & NRI_MASK).max().unwrap_or_default();
                let forbidden = headers().fold(0, |all, b| all | (b & 0x80));
                let mut payload = Vec::with_capacity(self.small_bytes);
                payload.push(forbidden | nri | STAP_A);
                for nal in several {
                    // At most `payload_bytes`, which is far below 65,536.
                    payload.extend_from_slice(&(nal.len() as u16).to_be_bytes());
                    payload.extend_from_slice(nal);
                }
                self.done.push(payload.into());
            }
        }
        self.small.clear();
        self.small_bytes = 1;
    }

    fn fragment(&mut self, nal: &[u8], payload_bytes: usize) {
        let Some((header, body)) = nal.split_first() else { return };
        let chunk = payload_bytes.saturating_sub(2).max(1);
        let count = body.len().div_ceil(chunk);
        for (index, part) in body.chunks(chunk).enumerate() {
            let start = if index == 0 { FU_START } else { 0 };
            let end = if index + 1 == count { FU_END } else { 0 };
            let mut payload = Vec::with_capacity(2 + part.len());
            payload.push(header & !TYPE_MASK | FU_A);
            payload.push(start | end | header & TYPE_MASK);
            payload.extend_from_slice(part);
            self.done.push(payload.into());
        }
    }
}
