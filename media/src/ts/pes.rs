//! Packetised elementary streams of one PID: put together, their headers read
//! (ISO/IEC 13818-1 §2.4.3.6).
//!
//! A PES with a length is complete when its bytes are there. One without (video, mostly) ends
//! where the next begins, which would cost a frame of delay; so its end is also taken from
//! stuffing: a multiplexer fills up the last packet of a PES, and only that one. This is believed
//! of a PID after [`EARLY_END_PROOFS`] PES in a row have shown it, and never again once a packet
//! with stuffing was followed by more of the same PES. A PES that happens to fill its last packet
//! exactly waits for the next one.
//!
//! Not here: continuity of packets, unwrapping of times (`demux`).

use bytes::{Buf, Bytes, BytesMut};

use super::event::LostReason;

/// How often stuffing must have marked the end of a PES before it is taken for one.
const EARLY_END_PROOFS: u8 = 16;

/// A packetised elementary stream packet: for video one access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pes {
    /// Of which elementary stream.
    pub pid: u16,
    /// Presentation time in ticks of 90 kHz, widened beyond 33 bits.
    pub pts: Option<i64>,
    /// Decoding time in ticks of 90 kHz, widened beyond 33 bits; `pts` where the header has none.
    pub dts: Option<i64>,
    /// The payload.
    pub data: Bytes,
    /// The multiplexer says that decoding can start here.
    pub random_access: bool,
}

/// A PES with times of 33 bits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawPes {
    pub(super) pts: Option<u64>,
    pub(super) dts: Option<u64>,
    pub(super) data: Bytes,
    pub(super) random_access: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    pts: Option<u64>,
    dts: Option<u64>,
    /// Bytes before the payload.
    length: usize,
    /// Bytes of the whole PES, where it says.
    total: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has begun, or what began is complete: more of it is stuffing to be ignored.
    Idle,
    /// What comes until the next start is of no use.
    Skipping,
    /// The header is not there yet.
    Header,
    /// The payload is coming.
    Payload(Header),
    /// Taken for complete at a packet with stuffing.
    EarlyEnded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EarlyEnd {
    Proving(u8),
    On,
    Off,
}

/// Puts the PES of one PID together.
#[derive(Debug)]
pub(super) struct Assembler {
    buffer: BytesMut,
    state: State,
    random_access: bool,
    early_end: EarlyEnd,
    /// The last packet had stuffing.
    stuffed: bool,
}

/// What a payload is given with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) starts: bool,
    pub(super) random_access: bool,
    pub(super) stuffed: bool,
    pub(super) payload: &'a [u8],
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            state: State::Idle,
            random_access: false,
            early_end: EarlyEnd::Proving(0),
            stuffed: false,
        }
    }

    /// Bytes of the PES under way.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Packets are missing or damaged: the PES under way cannot become whole. False when there
    /// was none.
    pub(super) fn damage(&mut self) -> bool {
        let open = matches!(self.state, State::Header | State::Payload(_));
        self.skip();
        open
    }

    fn skip(&mut self) {
        self.buffer.clear();
        self.state = State::Skipping;
        self.stuffed = false;
    }

    /// Takes the payload of a packet; gives out what becomes complete or is lost. The PES under
    /// way may have at most `limit` bytes.
    pub(super) fn push(
        &mut self,
        chunk: Chunk<'_>,
        limit: usize,
        out: &mut dyn FnMut(Result<RawPes, LostReason>),
    ) {
        if chunk.starts {
            self.finish(out);
            self.state = State::Header;
            self.random_access = chunk.random_access;
        } else {
            match self.state {
                State::Idle | State::Skipping => return,
                State::EarlyEnded => {
                    self.early_end = EarlyEnd::Off;
                    self.skip();
                    return out(Err(LostReason::EarlyEnd));
                }
                State::Header | State::Payload(_) if self.stuffed => {
                    self.early_end = EarlyEnd::Off;
                }
                State::Header | State::Payload(_) => {}
            }
        }
        if self.buffer.len() + chunk.payload.len() > limit {
            self.skip();
            return out(Err(LostReason::TooLarge));
        }
        self.buffer.extend_from_slice(chunk.payload);
        self.stuffed = chunk.stuffed;
        if self.state == State::Header {
            match Header::parse(&self.buffer) {
                Ok(None) => return,
                Ok(Some(header)) => {
                    self.state = State::Payload(header);
                    let total = header.total.unwrap_or(0).min(limit);
                    self.buffer.reserve(total.saturating_sub(self.buffer.len()));
                }
                Err(reason) => {
                    self.skip();
                    if let Some(reason) = reason {
                        out(Err(reason));
                    }
                    return;
                }
            }
        }
        if let State::Payload(header) = self.state {
            match header.total {
                Some(total) if self.buffer.len() >= total => {
                    self.buffer.truncate(total);
                    out(Ok(self.take(header)));
                    self.state = State::Idle;
                }
                None if self.stuffed && self.early_end == EarlyEnd::On => {
                    out(Ok(self.take(header)));
                    self.state = State::EarlyEnded;
                }
                _ => {}
            }
        }
    }

    /// Ends the PES under way, where the next begins or the stream ends.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(Result<RawPes, LostReason>)) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Payload(header) if header.total.is_none() => {
                if let (true, EarlyEnd::Proving(proofs)) = (self.stuffed, self.early_end) {
                    self.early_end = match proofs + 1 {
                        EARLY_END_PROOFS => EarlyEnd::On,
                        proofs => EarlyEnd::Proving(proofs),
                    };
                }
                out(Ok(self.take(header)));
            }
            State::Header | State::Payload(_) => out(Err(LostReason::Truncated)),
            State::Idle | State::Skipping | State::EarlyEnded => {}
        }
        self.buffer.clear();
        self.stuffed = false;
    }

    fn take(&mut self, header: Header) -> RawPes {
        let mut data = self.buffer.split().freeze();
        data.advance(header.length.min(data.len()));
        let Header { pts, dts, .. } = header;
        RawPes { pts, dts, data, random_access: self.random_access }
    }
}

impl Header {
    /// Reads a header; none when more bytes are needed. `Err(None)` is a stream without media.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Option<LostReason>> {
        let [a, b, c, id, high, low, rest @ ..] = bytes else { return Ok(None) };
        if (*a, *b, *c) != (0, 0, 1) {
            return Err(Some(LostReason::Malformed));
        }
        // Maps, padding, private 2, ECM, EMM, DSM-CC, H.222.1 type E and directories have no
        // header of this kind, and no media.
        if matches!(id, 0xbc | 0xbe | 0xbf | 0xf0 | 0xf1 | 0xf2 | 0xf8 | 0xff) {
            return Err(None);
        }
        let [marks, flags, length, fields @ ..] = rest else { return Ok(None) };
        if marks & 0xc0 != 0x80 {
            return Err(Some(LostReason::Malformed));
        }
        let Some(fields) = fields.get(..usize::from(*length)) else { return Ok(None) };
        let malformed = Some(LostReason::Malformed);
        let (pts, dts) = match flags >> 6 {
            0 => (None, None),
            2 => (Some(time(fields, 0).ok_or(malformed)?), None),
            3 => {
                let pts = time(fields, 0).ok_or(malformed)?;
                (Some(pts), Some(time(fields, 5).ok_or(malformed)?))
            }
            _ => return Err(malformed),
        };
        let length = 9 + usize::from(*length);
        let total = match u16::from_be_bytes([*high, *low]) {
            0 => None,
            behind => Some(6 + usize::from(behind)),
        };
        if total.is_some_and(|total| total < length) {
            return Err(malformed);
        }
        Ok(Some(Self { pts, dts: dts.or(pts), length, total }))
    }
}

/// A time of 33 bits in five bytes, with its three marker bits.
fn time(fields: &[u8], at: usize) -> Option<u64> {
    let &[a, b, c, d, e] = fields.get(at..)?.first_chunk::<5>()?;
    if a & c & e & 1 == 0 {
        return None;
    }
    let (a, b, c, d, e) = (u64::from(a), u64::from(b), u64::from(c), u64::from(d), u64::from(e));
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(length: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0xe0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0x80, 0x80, 5, 0x21, 0, 1, 0, 1]);
        bytes.extend(data);
        bytes
    }

    fn push(
        assembler: &mut Assembler,
        starts: bool,
        stuffed: bool,
        payload: &[u8],
    ) -> Vec<Result<Bytes, LostReason>> {
        let mut out = Vec::new();
        let chunk = Chunk { starts, random_access: false, stuffed, payload };
        assembler.push(chunk, 1_000, &mut |pes| out.push(pes.map(|pes| pes.data)));
        out
    }

    fn proven() -> Assembler {
        let mut assembler = Assembler::new();
        for _ in 0..EARLY_END_PROOFS + 1 {
            push(&mut assembler, true, true, &start(0, b"x"));
        }
        assembler
    }

    #[test]
    fn a_pes_with_a_length_is_complete_at_its_last_byte() {
        let mut assembler = Assembler::new();
        assert_eq!(push(&mut assembler, true, false, &start(12, b"ab")), []);
        let out = push(&mut assembler, false, false, b"cd surplus");
        assert_eq!(out, [Ok(Bytes::from_static(b"abcd"))]);
        assert_eq!(push(&mut assembler, false, false, b"more"), []);
    }

    #[test]
    fn a_pes_without_a_length_ends_where_the_next_begins() {
        let mut assembler = Assembler::new();
        assert_eq!(push(&mut assembler, true, false, &start(0, b"ab")), []);
        assert_eq!(push(&mut assembler, false, true, b"cd"), []);
        let out = push(&mut assembler, true, false, &start(0, b"ef"));
        assert_eq!(out, [Ok(Bytes::from_static(b"abcd"))]);
    }

    #[test]
    fn proven_stuffing_ends_a_pes_at_once() {
        let mut assembler = proven();
        assert_eq!(push(&mut assembler, true, false, &start(0, b"ab")).len(), 0);
        assert_eq!(push(&mut assembler, false, true, b"cd"), [Ok(Bytes::from_static(b"abcd"))]);
        assert_eq!(push(&mut assembler, true, false, &start(0, b"ef")), []);
        assert_eq!(push(&mut assembler, true, true, &start(0, b"")).len(), 2);
    }

    #[test]
    fn stuffing_within_a_pes_switches_the_early_end_off_for_good() {
        let mut assembler = proven();
        assert_eq!(push(&mut assembler, true, true, &start(0, b"ab")).len(), 1);
        assert_eq!(push(&mut assembler, false, false, b"cd"), [Err(LostReason::EarlyEnd)]);
        for _ in 0..3 * EARLY_END_PROOFS {
            push(&mut assembler, true, true, &start(0, b"x"));
        }
        push(&mut assembler, true, true, &start(0, b"ab"));
        assert_eq!(push(&mut assembler, false, true, b"cd"), []);
        let out = push(&mut assembler, true, false, &start(0, b""));
        assert_eq!(out, [Ok(Bytes::from_static(b"abcd"))]);
    }

    #[test]
    fn stuffing_within_a_pes_is_no_proof() {
        let mut assembler = Assembler::new();
        push(&mut assembler, true, true, &start(0, b"ab"));
        push(&mut assembler, false, true, b"cd");
        for _ in 0..3 * EARLY_END_PROOFS {
            push(&mut assembler, true, true, &start(0, b"x"));
        }
        let out = push(&mut assembler, true, true, &start(0, b"y"));
        assert_eq!(out, [Ok(Bytes::from_static(b"x"))]);
    }

    #[test]
    fn a_header_may_come_in_pieces() {
        let mut assembler = Assembler::new();
        let bytes = start(9, b"z");
        for (index, byte) in bytes.iter().enumerate() {
            let out = push(&mut assembler, index == 0, false, &[*byte]);
            let want = if index + 1 == bytes.len() { 1 } else { 0 };
            assert_eq!(out.len(), want, "byte {index}");
        }
    }

    #[test]
    fn times_of_33_bits_are_read() {
        let field = [0x3f, 0xff, 0xff, 0xff, 0xff, 0x11, 0, 1, 0, 3];
        assert_eq!(time(&field, 0), Some((1 << 33) - 1));
        assert_eq!(time(&field, 5), Some(1));
        assert_eq!(time(&field, 6), None);
        assert_eq!(time(&[0x20, 0, 1, 0, 1], 0), None);
    }

    #[test]
    fn bad_headers_are_refused_and_padding_is_passed_over() {
        type Given = &'static [Result<Bytes, LostReason>];
        let cases: [(&[u8], Given); 6] = [
            (&[0, 0, 2, 0xe0, 0, 0, 0x80, 0, 0], &[Err(LostReason::Malformed)]),
            (&[0, 0, 1, 0xe0, 0, 0, 0x00, 0, 0], &[Err(LostReason::Malformed)]),
            (&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x40, 0], &[Err(LostReason::Malformed)]),
            (&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 1, 0], &[Err(LostReason::Malformed)]),
            (
                &[0, 0, 1, 0xe0, 0, 4, 0x80, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &[Err(LostReason::Malformed)],
            ),
            (&[0, 0, 1, 0xbe, 0, 9, 0xff, 0xff, 0xff], &[]),
        ];
        for (bytes, want) in cases {
            assert_eq!(push(&mut Assembler::new(), true, false, bytes), want, "{bytes:x?}");
        }
    }

    #[test]
    fn a_pes_over_the_limit_is_dropped_once() {
        let mut assembler = Assembler::new();
        push(&mut assembler, true, false, &start(0, &[0; 500]));
        assert_eq!(push(&mut assembler, false, false, &[0; 500]), [Err(LostReason::TooLarge)]);
        assert_eq!(push(&mut assembler, false, false, &[0; 500]), []);
        assert_eq!(assembler.len(), 0);
        assert_eq!(push(&mut assembler, true, false, &start(9, b"k")).len(), 1);
    }
}
