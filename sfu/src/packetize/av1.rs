//! AV1 payloads (RTP Payload Format For AV1, v1.0): aggregation header and OBU elements.
//!
//! Every element has its length in front (W = 0), and OBUs lose their own size fields.
//! Not here: what OBUs mean, beyond their types.

use std::sync::Arc;

const CONTINUES_LAST: u8 = 0x80;
const CONTINUES_NEXT: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

const HAS_SIZE: u8 = 0x02;
const HAS_EXTENSION: u8 = 0x04;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// The payloads of a temporal unit. A keyframe gets the given sequence header in
/// front, unless it carries one. What follows a malformed OBU is left out.
pub(super) fn packetize(
    unit: &[u8],
    keyframe: bool,
    sequence_header: &[u8],
    payload_bytes: usize,
) -> Vec<Arc<[u8]>> {
    let mut obus: Vec<Obu<'_>> = Obus(unit).collect();
    if keyframe && !obus.iter().any(|obu| obu.kind() == SEQUENCE_HEADER) {
        obus.splice(0..0, Obus(sequence_header));
    }
    let mut packer = Packer { done: Vec::new(), open: Vec::new(), payload_bytes, keyframe };
    for obu in &obus {
        if !matches!(obu.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            packer.push(&obu.element());
        }
    }
    packer.finish()
}

/// One OBU: its header without size field, and its payload.
struct Obu<'a> {
    header: u8,
    extension: Option<u8>,
    payload: &'a [u8],
}

impl Obu<'_> {
    fn kind(&self) -> u8 {
        self.header >> 3 & 0x0f
    }

    fn element(&self) -> Vec<u8> {
        let mut element = vec![self.header & !HAS_SIZE];
        element.extend(self.extension);
        element.extend_from_slice(self.payload);
        element
    }
}

/// OBUs of a low-overhead bitstream.
struct Obus<'a>(&'a [u8]);

impl<'a> Iterator for Obus<'a> {
    type Item = Obu<'a>;
    fn next(&mut self) -> Option<Obu<'a>> {
        let (header, mut rest) = self.0.split_first()?;
        let mut extension = None;
        if header & HAS_EXTENSION != 0 {
            let (byte, after) = rest.split_first()?;
            (extension, rest) = (Some(*byte), after);
        }
        let mut size = rest.len();
        if header & HAS_SIZE != 0 {
            (size, rest) = leb128(rest)?;
        }
        let (payload, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some(Obu { header: *header, extension, payload })
    }
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Packer {
    done: Vec<Vec<u8>>,
    /// The packet being filled, aggregation header first.
    open: Vec<u8>,
    payload_bytes: usize,
    keyframe: bool,
}

impl Packer {
    fn push(&mut self, mut element: &[u8]) {
        let mut continued = false;
        while !element.is_empty() {
            if self.open.is_empty() {
                let new_sequence = self.keyframe && self.done.is_empty();
                let z = if continued { CONTINUES_LAST } else { 0 };
                self.open.push(z | if new_sequence { NEW_SEQUENCE } else { 0 });
            }
            let room = self.payload_bytes.saturating_sub(self.open.len());
            // A length of 128 or more takes two bytes.
            let most = if room <= 128 { room.saturating_sub(1) } else { room - 2 };
            let fits =
                if element.len() < 128 { element.len() < room } else { element.len() <= most };
            if !fits && most == 0 {
                self.close(false);
                continue;
            }
            let take = if fits { element.len() } else { most };
            let (part, rest) = element.split_at_checked(take).unwrap_or((element, &[]));
            push_leb128(&mut self.open, part.len());
            self.open.extend_from_slice(part);
            element = rest;
            continued = true;
            if !element.is_empty() {
                self.close(true);
            }
        }
    }

    fn close(&mut self, continues: bool) {
        let mut packet = std::mem::take(&mut self.open);
        if let Some(header) = packet.first_mut()
            && continues
        {
            *header |= CONTINUES_NEXT;
        }
        if !packet.is_empty() {
            self.done.push(packet);
        }
    }

    fn finish(mut self) -> Vec<Arc<[u8]>> {
        self.close(false);
        self.done.into_iter().map(Arc::from).collect()
    }
}
