//! The multiplexer: frames in, transport packets out, as SRT readers get them.
//!
//! One program; a PES a frame; tables before every keyframe of video and at least every 100 ms.
//! Times are the frames' own plus [`TIME_OFFSET_TICKS`], in 33 bits that wrap.
//! Not here: pacing, null packets for a constant rate, sending (the reader's session).

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::opus::put_control_header;
use super::psi::crc32;
use super::{PACKET_BYTES, PID_PAT, SYNC_BYTE};
use crate::codec::aac::AacConfig;
use crate::codec::{Codec, MediaKind};
use crate::frame::Frame;
use crate::time::{ClockRate, MediaTime};
use crate::track::TrackConfig;

/// How far presentation and decoding times lie ahead of the program clock, in ticks of 90 kHz:
/// 100 ms, enough for a frame to arrive before its time and small beside SRT's own latency.
pub const TIME_OFFSET_TICKS: i64 = 9_000;
/// Tables at least this often, in ticks of 90 kHz (100 ms: ETSI TR 101 290 asks for 500 ms).
const TABLE_INTERVAL_TICKS: i64 = 9_000;
/// A clock that jumps further than this from where the last frame ended is announced as
/// discontinuous, in ticks of 90 kHz (1 s): no cadence wavers that much.
const CLOCK_JUMP_TICKS: i64 = 90_000;
/// Tracks of a program: what fits a PMT of one packet.
const TRACKS_MAX: usize = 8;

const PID_PMT: u16 = 0x1000;
const PID_FIRST_TRACK: u16 = 0x100;
const PROGRAM: u16 = 1;
const TIME_MASK: u64 = (1 << 33) - 1;
const STREAM_ID_VIDEO: u8 = 0xe0;
const STREAM_ID_AUDIO: u8 = 0xc0;
const STREAM_ID_PRIVATE_1: u8 = 0xbd;
/// Bytes of payload of a packet without adaptation field.
const PAYLOAD_BYTES: usize = PACKET_BYTES - 4;
/// Adaptation field with a PCR: length, flags, PCR.
const PCR_FIELD_BYTES: usize = 8;

/// What cannot be multiplexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MuxError {
    /// MPEG-TS does not carry the codec here.
    #[error("{0} is not carried in MPEG-TS: read by WHEP or HLS, or publish H.264 or H.265")]
    Codec(&'static str),
    /// No track, or too many.
    #[error("a program has 1 to {TRACKS_MAX} tracks, not {0}")]
    Tracks(usize),
    /// There is no track of that number.
    #[error("there is no track {0}")]
    NoTrack(usize),
    /// The track has another codec than it was declared with.
    #[error("the track was declared otherwise and now carries {0}")]
    CodecChanged(&'static str),
    /// The payload is not a list of NAL units with lengths of four bytes.
    #[error("a NAL unit's length exceeds the frame")]
    NalUnits,
    /// An AAC configuration that ADTS cannot name.
    #[error("ADTS cannot carry {channels} channels at {sample_rate} Hz")]
    Adts {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u8,
    },
    /// An audio frame that does not fit its header.
    #[error("an audio frame of {0} bytes is too large")]
    FrameSize(usize),
}

/// What the PMT says of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    H264,
    H265,
    Aac,
    Opus { channels: u8 },
}

impl Kind {
    fn of(codec: &Codec) -> Result<Self, MuxError> {
        Ok(match codec {
            Codec::H264(_) => Self::H264,
            Codec::H265(_) => Self::H265,
            Codec::Aac(_) => Self::Aac,
            Codec::Opus(config) => Self::Opus { channels: config.channels },
            Codec::Av1(_) | Codec::Vp8(_) | Codec::Vp9(_) => {
                return Err(MuxError::Codec(codec.name()));
            }
        })
    }

    fn stream_type(self) -> u8 {
        match self {
            Self::H264 => 0x1b,
            Self::H265 => 0x24,
            Self::Aac => 0x0f,
            Self::Opus { .. } => 0x06,
        }
    }

    fn stream_id(self) -> u8 {
        match self {
            Self::H264 | Self::H265 => STREAM_ID_VIDEO,
            Self::Aac => STREAM_ID_AUDIO,
            Self::Opus { .. } => STREAM_ID_PRIVATE_1,
        }
    }
}

#[derive(Debug)]
struct Track {
    kind: Kind,
    pid: u16,
    continuity: u8,
}

/// The program clock where a frame begins.
#[derive(Debug, Clone, Copy)]
struct Clock {
    ticks: i64,
    discontinuity: bool,
}

/// A multiplexer of one program.
#[derive(Debug)]
pub struct Muxer {
    tracks: Vec<Track>,
    /// Which track carries the program clock.
    clock: usize,
    pat_continuity: u8,
    pmt_continuity: u8,
    tables_at: Option<i64>,
    /// Where the clock track's last frame ended.
    clock_end: Option<i64>,
    /// The PES under way: kept for its memory.
    pes: BytesMut,
}

impl Muxer {
    /// A multiplexer of these tracks; [`Self::push`] names them by their place. The program clock
    /// goes with the first video track, else with the first track.
    ///
    /// # Errors
    /// A codec that is not carried, no track, or too many.
    pub fn new<'a>(configs: impl IntoIterator<Item = &'a TrackConfig>) -> Result<Self, MuxError> {
        let (mut tracks, mut clock) = (Vec::new(), None);
        for (index, config) in configs.into_iter().enumerate() {
            let kind = Kind::of(&config.codec)?;
            if config.codec.kind() == MediaKind::Video {
                clock = clock.or(Some(index));
            }
            if index >= TRACKS_MAX {
                return Err(MuxError::Tracks(index + 1));
            }
            tracks.push(Track { kind, pid: PID_FIRST_TRACK + index as u16, continuity: 0 });
        }
        if tracks.is_empty() {
            return Err(MuxError::Tracks(0));
        }
        Ok(Self {
            tracks,
            clock: clock.unwrap_or(0),
            pat_continuity: 0,
            pmt_continuity: 0,
            tables_at: None,
            clock_end: None,
            pes: BytesMut::new(),
        })
    }

    /// Appends the packets of a frame to `out`, whole packets always. On an error nothing is
    /// appended.
    ///
    /// # Errors
    /// A track that is not there or has another codec, a payload that is not what its codec's
    /// should be, or an audio frame that its header cannot describe.
    pub fn push(
        &mut self,
        track: usize,
        frame: &Frame,
        config: &TrackConfig,
        out: &mut BytesMut,
    ) -> Result<(), MuxError> {
        let known = self.tracks.get(track).ok_or(MuxError::NoTrack(track))?;
        let kind = known.kind;
        if Kind::of(&config.codec) != Ok(kind) {
            return Err(MuxError::CodecChanged(config.codec.name()));
        }
        let is_clock = track == self.clock;
        let clock = frame.dts.to_rate(ClockRate::VIDEO).ticks();
        let mut pes = std::mem::take(&mut self.pes);
        pes.clear();
        let written = write_pes(&mut pes, kind, frame, config);
        if written.is_ok() {
            let random_access = frame.keyframe || config.codec.kind() == MediaKind::Audio;
            let keyframe = frame.keyframe && config.codec.kind() == MediaKind::Video;
            let due = |at: i64| !(0..TABLE_INTERVAL_TICKS).contains(&clock.saturating_sub(at));
            if keyframe || is_clock && self.tables_at.is_none_or(due) || self.tables_at.is_none() {
                self.tables(out);
                self.tables_at = Some(clock);
            }
            let pcr = is_clock.then(|| {
                let jumped = |end: i64| clock.abs_diff(end) > CLOCK_JUMP_TICKS.unsigned_abs();
                let discontinuity = self.clock_end.is_some_and(jumped);
                let duration = frame.duration.to_rate(ClockRate::VIDEO).ticks();
                self.clock_end = Some(clock.saturating_add(duration));
                Clock { ticks: clock, discontinuity }
            });
            if let Some(track) = self.tracks.get_mut(track) {
                packets(out, track, &pes, pcr, random_access);
            }
        }
        self.pes = pes;
        written
    }

    fn tables(&mut self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u16(PROGRAM);
        body.put_u16(0xe000 | PID_PMT);
        section(out, PID_PAT, &mut self.pat_continuity, 0, 1, &body);
        body.clear();
        let clock_pid = self.tracks.get(self.clock).map_or(0x1fff, |track| track.pid);
        body.put_u16(0xe000 | clock_pid);
        body.put_u16(0xf000);
        for track in &self.tracks {
            body.put_u8(track.kind.stream_type());
            body.put_u16(0xe000 | track.pid);
            match track.kind {
                Kind::Opus { channels } => {
                    body.put_u16(0xf000 | 10);
                    body.put_slice(b"\x05\x04Opus");
                    body.put_slice(&[0x7f, 2, 0x80, channels]);
                }
                Kind::H265 => {
                    body.put_u16(0xf000 | 6);
                    body.put_slice(b"\x05\x04HEVC");
                }
                Kind::H264 | Kind::Aac => body.put_u16(0xf000),
            }
        }
        section(out, PID_PMT, &mut self.pmt_continuity, 2, PROGRAM, &body);
    }
}

/// Writes a table of one section and one packet. [`TRACKS_MAX`] keeps it that small.
fn section(
    out: &mut BytesMut,
    pid: u16,
    continuity: &mut u8,
    table: u8,
    extension: u16,
    body: &[u8],
) {
    let start = out.len();
    header(out, pid, true, 0x10, continuity);
    out.put_u8(0); // pointer: the section begins at once
    let section = out.len();
    out.put_u8(table);
    out.put_u16(0xb000 | (5 + body.len() + 4) as u16);
    out.put_u16(extension);
    out.put_slice(&[0xc1, 0, 0]); // version 0, in force, the only section
    out.put_slice(body);
    let crc = crc32(out.get(section..).unwrap_or_default());
    out.put_u32(crc);
    out.put_bytes(0xff, (start + PACKET_BYTES).saturating_sub(out.len()));
}

const _: () = assert!(
    4 + 1 + 8 + 4 + TRACKS_MAX * (5 + 10) + 4 <= PACKET_BYTES,
    "a PMT of all tracks fits one packet"
);

/// The four bytes of a packet's header; counts the continuity counter on.
fn header(out: &mut BytesMut, pid: u16, starts: bool, control: u8, continuity: &mut u8) {
    out.put_u8(SYNC_BYTE);
    out.put_u16(u16::from(starts) << 14 | pid);
    out.put_u8(control | *continuity);
    *continuity = (*continuity + 1) & 0x0f;
}

/// Cuts a PES into packets. The last one is filled up by its adaptation field.
fn packets(
    out: &mut BytesMut,
    track: &mut Track,
    pes: &[u8],
    pcr: Option<Clock>,
    random_access: bool,
) {
    let (mut rest, mut first) = (pes, true);
    while first || !rest.is_empty() {
        let pcr = pcr.filter(|_| first);
        let flags = u8::from(pcr.is_some_and(|clock| clock.discontinuity)) << 7
            | u8::from(random_access && first) << 6
            | u8::from(pcr.is_some()) << 4;
        let field = match (flags, pcr) {
            (0, _) => 0,
            (_, None) => 2,
            (_, Some(_)) => PCR_FIELD_BYTES,
        };
        let taken = rest.len().min(PAYLOAD_BYTES - field);
        let field = PAYLOAD_BYTES - taken;
        let control = if field > 0 { 0x30 } else { 0x10 };
        header(out, track.pid, first, control, &mut track.continuity);
        if let Some(length) = field.checked_sub(1) {
            out.put_u8(length as u8);
            if length > 0 {
                out.put_u8(flags);
                let mut filled = length - 1;
                if let Some(clock) = pcr {
                    // 33 bits of base, 6 reserved, 9 of extension, which stays 0.
                    let base = clock.ticks.cast_unsigned() & TIME_MASK;
                    out.put_uint(base << 15 | 0x3f << 9, 6);
                    filled -= 6;
                }
                out.put_bytes(0xff, filled);
            }
        }
        let (now, later) = rest.split_at(taken);
        out.put_slice(now);
        (rest, first) = (later, false);
    }
}

/// Writes the PES of a frame: header and elementary stream.
fn write_pes(
    out: &mut BytesMut,
    kind: Kind,
    frame: &Frame,
    config: &TrackConfig,
) -> Result<(), MuxError> {
    let ticks = |time: MediaTime| {
        let ticks = time.to_rate(ClockRate::VIDEO).ticks().wrapping_add(TIME_OFFSET_TICKS);
        ticks.cast_unsigned() & TIME_MASK
    };
    // A source that is slower than its cadence may be shown before its decoding on the bus, which
    // a PES must not say (ISO/IEC 13818-1 §2.7.5).
    let early = frame.pts.since(frame.dts).ticks() < 0;
    let (pts, dts) = (ticks(if early { frame.dts } else { frame.pts }), ticks(frame.dts));
    out.put_slice(&[0, 0, 1, kind.stream_id(), 0, 0]);
    out.put_u8(0x84); // data alignment: an access unit begins here
    if pts == dts {
        out.put_slice(&[0x80, 5]);
        put_time(out, 2, pts);
    } else {
        out.put_slice(&[0xc0, 10]);
        put_time(out, 3, pts);
        put_time(out, 1, dts);
    }
    match &config.codec {
        Codec::H264(codec) => {
            out.put_slice(&[0, 0, 0, 1, 0x09, 0xf0]);
            let sets = codec.sps.iter().chain(&codec.pps);
            annex_b(out, frame, sets, |head| head & 0x1f == 9)?;
        }
        Codec::H265(codec) => {
            out.put_slice(&[0, 0, 0, 1, 0x46, 0x01, 0x50]);
            let sets = codec.vps.iter().chain(&codec.sps).chain(&codec.pps);
            annex_b(out, frame, sets, |head| head >> 1 & 0x3f == 35)?;
        }
        Codec::Aac(codec) => {
            out.put_slice(&adts_header(codec, frame.payload.len())?);
            out.put_slice(&frame.payload);
        }
        Codec::Opus(_) => {
            put_control_header(out, frame.payload.len());
            out.put_slice(&frame.payload);
        }
        other => return Err(MuxError::Codec(other.name())),
    }
    // The length, where 16 bits hold it; video may leave it open.
    let behind = out.len().saturating_sub(6);
    match u16::try_from(behind) {
        Ok(length) => {
            if let Some(place) = out.get_mut(4..6) {
                place.copy_from_slice(&length.to_be_bytes());
            }
            Ok(())
        }
        Err(_) if kind.stream_id() == STREAM_ID_VIDEO => Ok(()),
        Err(_) => Err(MuxError::FrameSize(frame.payload.len())),
    }
}

/// A time of 33 bits in five bytes with marker bits.
fn put_time(out: &mut BytesMut, prefix: u64, time: u64) {
    let bits = prefix << 36
        | (time >> 30 & 7) << 33
        | 1 << 32
        | (time >> 15 & 0x7fff) << 17
        | 1 << 16
        | (time & 0x7fff) << 1
        | 1;
    out.put_uint(bits, 5);
}

/// Writes a frame's NAL units behind start codes: parameter sets first on keyframes, and without
/// the delimiter, which has been written.
fn annex_b<'a>(
    out: &mut BytesMut,
    frame: &Frame,
    sets: impl Iterator<Item = &'a bytes::Bytes>,
    is_delimiter: impl Fn(u8) -> bool,
) -> Result<(), MuxError> {
    if frame.keyframe {
        for set in sets {
            out.put_slice(&[0, 0, 0, 1]);
            out.put_slice(set);
        }
    }
    let mut rest: &[u8] = &frame.payload;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(MuxError::NalUnits)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (unit, after) = after.split_at_checked(length).ok_or(MuxError::NalUnits)?;
        rest = after;
        match unit.first() {
            Some(&head) if !is_delimiter(head) => {
                out.put_slice(&[0, 0, 1]);
                out.put_slice(unit);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The seven bytes of an ADTS header without CRC (ISO/IEC 13818-7 §6.2).
fn adts_header(config: &AacConfig, payload: usize) -> Result<[u8; 7], MuxError> {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8_000, 7_350,
    ];
    let AacConfig { sample_rate, channels, .. } = *config;
    let wrong = MuxError::Adts { sample_rate, channels };
    let rate = RATES.iter().position(|&rate| rate == sample_rate).ok_or(wrong)? as u8;
    let layout = match channels {
        1..=6 => channels,
        8 => 7,
        _ => return Err(wrong),
    };
    // High efficiency is signalled within; its core is LC.
    let profile = if matches!(config.object_type, 1..=4) { config.object_type - 1 } else { 1 };
    let length = u16::try_from(payload + 7).ok().filter(|&length| length < 1 << 13);
    let length = length.ok_or(MuxError::FrameSize(payload))?;
    let [high, low] = length.to_be_bytes();
    Ok([
        0xff,
        0xf1, // MPEG-4, no CRC
        profile << 6 | rate << 2 | layout >> 2,
        (layout & 3) << 6 | high >> 3,
        high << 5 | low >> 3,
        low << 5 | 0x1f,
        0xfc,
    ])
}
