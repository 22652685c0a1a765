//! MPEG-TS into a [`Publisher`]: the tracks of the program map, access units with their times.
//!
//! After a loss the frames that are whole go on (a decoder conceals what they refer to, and the
//! next keyframe mends it); what is damaged is dropped and counted. Not here: transport
//! (`srt`), packets and tables (`media::ts`), mending of time stamps (`publisher`).

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::aac::adts::{AdtsFrame, AdtsFrames};
use headwater_media::codec::opus::{OpusConfig, packet_duration_samples};
use headwater_media::codec::{CodecError, h264, h265};
use headwater_media::ts::{DemuxOptions, Demuxer, Event, LostReason, OpusUnits, Pes, StreamCodec};
use headwater_media::{ClockRate, Codec, MediaDuration, MediaKind, MediaTime, WallTime};
use metrics::counter;

use super::{Publisher, PushError, RawFrame, TrackId};

/// Elementary streams of one publisher that are followed at once; further ones are left out.
const STREAMS_MAX: usize = 16;
/// Samples at 48 kHz that an Opus decoder drops at the start: MPEG-TS does not say, and this is
/// what encoders use (RFC 7845 §4.2 recommends at least 3840 only for seeking).
const OPUS_PRE_SKIP: u16 = 312;

/// What a [`TsIngest`] did so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TsCounts {
    /// Frames that the publisher took.
    pub frames: u64,
    /// Frames, or damaged pieces of them, that were dropped.
    pub dropped: u64,
}

/// One publisher's transport stream.
pub struct TsIngest {
    demuxer: Demuxer,
    publisher: Publisher,
    streams: Vec<Stream>,
    counts: TsCounts,
    warned: HashSet<&'static str>,
}

struct Stream {
    pid: u16,
    codec: StreamCodec,
    track: TrackId,
    parser: Parser,
    /// The program map no longer lists it; a stream of the same codec may take its track over.
    ended: bool,
}

enum Parser {
    H264(Box<h264::AccessUnits>),
    H265(Box<h265::AccessUnits>),
    Aac(AdtsStream),
    /// Channels; configured or not.
    Opus(u8, bool),
}

impl Parser {
    fn new(codec: StreamCodec) -> Self {
        match codec {
            StreamCodec::H264 => Self::H264(Box::default()),
            StreamCodec::H265 => Self::H265(Box::default()),
            StreamCodec::AacAdts => Self::Aac(AdtsStream::default()),
            StreamCodec::Opus { channels } => Self::Opus(channels, false),
        }
    }
}

impl TsIngest {
    /// Feeds `publisher`.
    #[must_use]
    pub fn new(publisher: Publisher) -> Self {
        Self {
            demuxer: Demuxer::new(DemuxOptions::default()),
            publisher,
            streams: Vec::new(),
            counts: TsCounts::default(),
            warned: HashSet::new(),
        }
    }

    /// The publisher that is fed.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> TsCounts {
        self.counts
    }

    /// Takes bytes of the transport stream, cut anywhere, that came at `now`.
    ///
    /// # Errors
    /// Only those that must end the session.
    pub fn push(&mut self, bytes: &[u8], now: WallTime) -> Result<(), PushError> {
        self.demuxer.push(bytes);
        self.drain(now)
    }

    /// The stream has ended: takes what waited for its end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, now: WallTime) -> Result<(), PushError> {
        self.demuxer.finish();
        self.drain(now)
    }

    fn drain(&mut self, now: WallTime) -> Result<(), PushError> {
        while let Some(event) = self.demuxer.poll() {
            match event {
                Event::Track { pid, codec } => self.begin(pid, codec)?,
                Event::TrackEnded { pid } => {
                    for stream in self.streams.iter_mut().filter(|stream| stream.pid == pid) {
                        stream.ended = true;
                    }
                }
                Event::Pes(pes) => self.pes(pes, now)?,
                Event::Lost { pid, reason } => self.lost(pid, reason),
                Event::Unsupported { pid, name, .. } => self.warn(
                    "ts-codec",
                    format!(
                        "the MPEG-TS stream on PID {pid} is {name}, which is not carried and was \
                         left out: encode video as H.264 or H.265 and audio as AAC or Opus \
                         (ffmpeg: -c:v libx264 -c:a aac)"
                    ),
                ),
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, pid: u16, codec: StreamCodec) -> Result<(), PushError> {
        let replaces = |stream: &&mut Stream| stream.ended && stream.codec == codec;
        if let Some(stream) = self.streams.iter_mut().find(replaces) {
            stream.pid = pid;
            stream.ended = false;
            stream.parser = Parser::new(codec);
            return Ok(());
        }
        if self.streams.len() >= STREAMS_MAX {
            self.warn(
                "ts-streams",
                format!("more than {STREAMS_MAX} elementary streams: the rest was left out"),
            );
            return Ok(());
        }
        let kind = if codec.is_video() { MediaKind::Video } else { MediaKind::Audio };
        match self.publisher.add_track(kind) {
            Ok(track) => {
                let parser = Parser::new(codec);
                self.streams.push(Stream { pid, codec, track, parser, ended: false });
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                self.warn("ts-tracks", format!("PID {pid} was left out: {error}"));
                Ok(())
            }
        }
    }

    fn lost(&mut self, pid: Option<u16>, reason: LostReason) {
        counter!("headwater_ts_lost_total", "reason" => reason.name()).increment(1);
        if reason == LostReason::Scrambled {
            self.warn(
                "ts-scrambled",
                "the MPEG-TS stream is scrambled: send it in clear and encrypt with SRT's \
                 passphrase"
                    .to_owned(),
            );
        }
        if reason == LostReason::Continuity {
            self.warn(
                "ts-loss",
                "packets of the MPEG-TS stream are missing: raise SRT's latency where the network \
                 loses them, or mend the encoder (GStreamer's mpegtsmux needs alignment=7)"
                    .to_owned(),
            );
        }
        let hit = |stream: &&mut Stream| pid.is_none_or(|pid| stream.pid == pid);
        for stream in self.streams.iter_mut().filter(hit) {
            self.counts.dropped += 1;
            if let Parser::Aac(adts) = &mut stream.parser {
                adts.reset();
            }
        }
    }

    fn pes(&mut self, pes: Pes, now: WallTime) -> Result<(), PushError> {
        let Some(index) = self.streams.iter().position(|stream| stream.pid == pes.pid) else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        let track = stream.track;
        match &mut stream.parser {
            Parser::H264(units) => {
                let unit = units.annex_b(&pes.data);
                self.video(track, &pes, unit.map(|unit| Unit::from(unit, Codec::H264)), now)
            }
            Parser::H265(units) => {
                let unit = units.annex_b(&pes.data);
                self.video(track, &pes, unit.map(|unit| Unit::from(unit, Codec::H265)), now)
            }
            Parser::Aac(adts) => {
                let found = adts.push(&pes);
                self.audio(track, found, now)
            }
            Parser::Opus(channels, configured) => {
                let found = opus(&pes, *channels, configured);
                self.audio(track, found, now)
            }
        }
    }

    fn video(
        &mut self,
        track: TrackId,
        pes: &Pes,
        unit: Result<Unit, CodecError>,
        now: WallTime,
    ) -> Result<(), PushError> {
        let unit = match unit {
            Ok(unit) => unit,
            Err(error) => {
                self.damaged(&error);
                return Ok(());
            }
        };
        if let Some(codec) = unit.codec {
            self.publisher.configure(track, codec)?;
        }
        if unit.payload.is_empty() {
            return Ok(());
        }
        let (Some(pts), Some(dts)) = (pes.pts, pes.dts.or(pes.pts)) else {
            self.untimed();
            return Ok(());
        };
        let at = |ticks| MediaTime::new(ticks, ClockRate::VIDEO);
        let frame = RawFrame {
            pts: at(pts),
            dts: at(dts),
            keyframe: unit.keyframe,
            capture: None,
            payload: unit.payload,
        };
        self.give(track, frame, now)
    }

    fn audio(&mut self, track: TrackId, found: AudioFound, now: WallTime) -> Result<(), PushError> {
        if let Some(codec) = found.codec {
            self.publisher.configure(track, codec)?;
        }
        if let Some(error) = &found.damage {
            self.damaged(error);
        }
        if found.untimed > 0 {
            self.counts.dropped += found.untimed;
            self.untimed();
        }
        for (time, payload) in found.frames {
            let frame = RawFrame { pts: time, dts: time, keyframe: true, capture: None, payload };
            self.give(track, frame, now)?;
        }
        Ok(())
    }

    fn give(&mut self, track: TrackId, frame: RawFrame, now: WallTime) -> Result<(), PushError> {
        match self.publisher.push(track, frame, now) {
            Ok(()) => self.counts.frames += 1,
            Err(error) if error.is_fatal() => return Err(error),
            Err(_) => self.counts.dropped += 1,
        }
        Ok(())
    }

    fn damaged(&mut self, error: &dyn std::fmt::Display) {
        counter!("headwater_ts_lost_total", "reason" => "codec").increment(1);
        self.counts.dropped += 1;
        self.warn("ts-damaged", format!("a frame of the MPEG-TS stream was dropped: {error}"));
    }

    fn untimed(&mut self) {
        counter!("headwater_ts_lost_total", "reason" => "no-time").increment(1);
        self.warn("ts-no-time", "frames without time stamps (PTS) were dropped".to_owned());
    }

    fn warn(&mut self, key: &'static str, text: String) {
        if self.warned.insert(key) {
            self.publisher.warn(key, text);
        }
    }
}

/// A video access unit, whatever its codec.
struct Unit {
    payload: Bytes,
    keyframe: bool,
    codec: Option<Codec>,
}

impl Unit {
    fn from<C>(unit: headwater_media::codec::AccessUnit<C>, codec: fn(C) -> Codec) -> Self {
        let codec = unit.config_changed.map(codec);
        Self { payload: unit.payload, keyframe: unit.keyframe, codec }
    }
}

/// What a PES of audio held.
#[derive(Default)]
struct AudioFound {
    codec: Option<Codec>,
    frames: Vec<(MediaTime, Bytes)>,
    /// Frames before the first time stamp.
    untimed: u64,
    damage: Option<CodecError>,
}

/// ADTS frames across PES, whose cuts need not be the frames'.
#[derive(Default)]
struct AdtsStream {
    carry: BytesMut,
    /// Where the next frame without a time stamp of its own stands.
    next: Option<MediaTime>,
    config: Option<AacConfig>,
}

impl AdtsStream {
    /// After a loss: what is carried has no end, and the next time stamp says where we are.
    fn reset(&mut self) {
        self.carry.clear();
        self.next = None;
    }

    fn push(&mut self, pes: &Pes) -> AudioFound {
        let mut found = AudioFound::default();
        // A PES's time is that of the first frame that begins in it (ISO/IEC 13818-1 §2.4.3.7).
        let mut own = pes.pts.map(|ticks| MediaTime::new(ticks, ClockRate::VIDEO));
        let begins = self.carry.len();
        self.carry.extend_from_slice(&pes.data);
        let data = self.carry.split().freeze();
        let mut frames = AdtsFrames::new(&data);
        while let Some(frame) = frames.next() {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    found.damage.get_or_insert(error);
                    continue;
                }
            };
            let end = data.len() - frames.remainder().len();
            if end >= begins + frame.header.frame_bytes
                && let Some(time) = own.take()
            {
                self.next = Some(time);
            }
            self.take(&frame, data.slice_ref(frame.data), &mut found);
        }
        if frames.skipped() > 0 {
            let value = frames.skipped() as u64;
            let what = "bytes between ADTS frames";
            found.damage.get_or_insert(CodecError::Invalid { what, value });
        }
        // A frame that goes on in the next PES.
        self.carry.extend_from_slice(frames.remainder());
        found
    }

    fn take(&mut self, frame: &AdtsFrame<'_>, payload: Bytes, found: &mut AudioFound) {
        let config = match AacConfig::from_adts(&frame.header) {
            Ok(config) => config,
            Err(error) => {
                found.damage.get_or_insert(error);
                return;
            }
        };
        let samples = i64::from(config.frame_samples);
        let rate = ClockRate::new(config.sample_rate);
        if self.config.as_ref() != Some(&config) {
            self.config = Some(config.clone());
            found.codec = Some(Codec::Aac(config));
        }
        match (self.next, rate) {
            (Some(time), Some(rate)) => {
                found.frames.push((time, payload));
                self.next = Some(time.plus(MediaDuration::new(samples, rate)));
            }
            _ => found.untimed += 1,
        }
    }
}

fn opus(pes: &Pes, channels: u8, configured: &mut bool) -> AudioFound {
    let mut found = AudioFound::default();
    if !std::mem::replace(configured, true) {
        let config = OpusConfig { channels, pre_skip: OPUS_PRE_SKIP, input_sample_rate: 48_000 };
        found.codec = Some(Codec::Opus(config));
    }
    let mut next = pes.pts.map(|ticks| MediaTime::new(ticks, ClockRate::VIDEO));
    for unit in OpusUnits::new(pes.data.clone()) {
        match (unit, next) {
            (Ok(packet), Some(time)) => {
                let samples = packet_duration_samples(&packet);
                match samples {
                    Ok(samples) => {
                        let length = MediaDuration::new(i64::from(samples), ClockRate::OPUS);
                        next = Some(time.plus(length));
                        found.frames.push((time, packet));
                    }
                    Err(error) => {
                        found.damage.get_or_insert(error);
                    }
                }
            }
            (Ok(_), None) => found.untimed += 1,
            (Err(_), _) => {
                found.damage.get_or_insert(CodecError::Truncated("an Opus access unit"));
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "ts_tests.rs"]
mod tests;
