//! From a WHIP session's frames to the publisher's interface (driver: called on the SFU's
//! threads, reads the node's clock).
//!
//! Frames carry capture times that line up across tracks; these are the publisher's timeline.
//! Not here: RTP and the timeline itself (`headwater-sfu`), HTTP (`http::webrtc`), final times
//! (`ingest::core`).

mod decoder;
mod lines;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use headwater_media::{ClockRate, MediaKind, MediaTime};
use headwater_sfu::{
    CloseReason, IncomingCodec, IncomingFrame, PublisherSink, SinkClosed, TrackSlot,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::decoder::{Decoder, is_whole_keyframe};
use self::lines::{Line, accepted_lines};
use super::{Publisher, PushError, RawFrame, TrackId};
use crate::clock::Clock;
use crate::sessions::SessionHandle;

/// Takes a session's frames. Clones are one: the SFU has one, who answers the offer another.
#[derive(Clone)]
pub struct WhipSink {
    clock: Clock,
    state: Arc<Mutex<State>>,
    came: Arc<Notify>,
}

/// Frames kept while a claim is on its way, which the cluster answers within 100 ms or so: four
/// seconds of video at 30 frames a second with its sound.
const HELD_FRAMES_MAX: usize = 384;
/// Their bytes: two seconds of the greatest bit rate that publishers have by default.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Where the session is.
enum State {
    /// No stream has been taken: the offer is being answered, or the stream is another's until
    /// media comes. What comes meanwhile begins with a keyframe and is kept.
    Answering(Held),
    Live(Box<Live>),
    Closed,
}

struct Live {
    publisher: Publisher,
    session: SessionHandle,
    tracks: Vec<Track>,
    /// A keyframe came without its beginning: another is wanted, which the RTP side does not know.
    torn: bool,
}

/// Frames that came before their stream was taken.
#[derive(Default)]
struct Held {
    frames: Vec<IncomingFrame>,
    bytes: usize,
    /// There were too many: those that follow wait for a keyframe in vain, and are dropped too.
    full: bool,
}

impl Held {
    fn keep(&mut self, frame: IncomingFrame) {
        let bytes = self.bytes.saturating_add(frame.data.len());
        self.full |= self.frames.len() >= HELD_FRAMES_MAX || bytes > HELD_BYTES_MAX;
        if self.full {
            let dropped = 1 + std::mem::take(&mut self.frames).len() as u64;
            metrics::counter!("headwater_ingest_dropped_total", "reason" => "before_claim")
                .increment(dropped);
        } else {
            self.bytes = bytes;
            self.frames.push(frame);
        }
    }
}

/// One encoded stream of the session.
struct Track {
    line: Line,
    /// What feeds it, once its first frame has come.
    slot: Option<TrackSlot>,
    id: TrackId,
    decoder: Option<(IncomingCodec, Decoder)>,
    /// A frame is missing: what follows cannot be decoded before the next keyframe.
    broken: bool,
}

impl WhipSink {
    /// A sink for a session whose offer is about to be answered.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = Arc::new(Mutex::new(State::Answering(Held::default())));
        Self { clock, state, came: Arc::default() }
    }

    /// The session has taken its stream; `answer` is the SDP answer, which says what will come.
    /// What has come while the stream was asked for goes first.
    pub fn begin(&self, mut publisher: Publisher, session: SessionHandle, answer: &str) {
        publisher.set_keyframes_on_request();
        let mut tracks = Vec::new();
        for line in accepted_lines(answer) {
            match publisher.add_track(line.kind) {
                Ok(id) => tracks.push(Track { line, slot: None, id, decoder: None, broken: false }),
                Err(error) => tracing::warn!(session = %session.id(), %error, "no track"),
            }
        }
        let mut state = self.state.lock();
        if let State::Answering(held) = &mut *state {
            let held = std::mem::take(held);
            let mut live = Box::new(Live { publisher, session, tracks, torn: false });
            let taken = held.frames.into_iter().try_for_each(|frame| live.frame(self.clock, frame));
            // The session ends with the next frame.
            *state = taken.map_or(State::Closed, |()| State::Live(live));
        }
    }

    /// Waits until a frame has come, while the session has not taken its stream.
    pub async fn first_frame(&self) {
        self.came.notified().await;
    }

    /// Closes; what the session held is dropped outside the lock.
    fn close(&self) -> Option<Box<Live>> {
        match std::mem::replace(&mut *self.state.lock(), State::Closed) {
            State::Live(live) => Some(live),
            State::Answering(_) | State::Closed => None,
        }
    }
}

impl PublisherSink for WhipSink {
    fn frame(&mut self, frame: IncomingFrame) -> Result<(), SinkClosed> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Live(live) => live.frame(self.clock, frame),
            State::Answering(held) => {
                held.keep(frame);
                self.came.notify_one();
                Ok(())
            }
            State::Closed => Err(SinkClosed),
        }
    }

    fn wants_keyframe(&mut self, now: Instant) -> bool {
        match &mut *self.state.lock() {
            State::Live(live) => {
                let torn = std::mem::take(&mut live.torn);
                live.publisher.wants_keyframe(self.clock.at(now)) || torn
            }
            State::Answering(_) | State::Closed => false,
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        if let Some(live) = self.close() {
            tracing::info!(stream = %live.publisher.broadcast().name(),
                session = %live.session.id(), reason = reason.label(), "WHIP session closed");
        }
    }
}

impl Live {
    fn frame(&mut self, clock: Clock, frame: IncomingFrame) -> Result<(), SinkClosed> {
        let counters = Arc::clone(self.session.counters());
        counters.frames_in.fetch_add(1, Ordering::Relaxed);
        let bytes = u64::try_from(frame.data.len()).unwrap_or(u64::MAX);
        counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.take(clock, frame);
        if !matches!(taken, Ok(true)) {
            counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
        }
        match taken {
            Err(error) if error.is_fatal() => {
                let session = self.session.id();
                tracing::warn!(stream = %self.publisher.broadcast().name(), %session, %error,
                    "WHIP session ended");
                Err(SinkClosed)
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the frame was pushed; it is dropped where it cannot be decoded.
    fn take(&mut self, clock: Clock, frame: IncomingFrame) -> Result<bool, PushError> {
        let at = self.track(&frame.track)?;
        let Some(track) = self.tracks.get_mut(at) else { return Err(PushError::NoTrack) };
        if !matches!(&track.decoder, Some((codec, _)) if *codec == frame.codec) {
            track.decoder = Some((frame.codec, Decoder::new(frame.codec)));
        }
        let Some((_, decoder)) = &mut track.decoder else { return Err(PushError::NoTrack) };
        let video = track.line.kind == MediaKind::Video;
        let unit = match decoder.take(&frame.data) {
            Ok(unit) => unit,
            Err(error) => {
                tracing::debug!(session = %self.session.id(), %error, "an unusable frame");
                metrics::counter!("headwater_whip_frames_unusable_total").increment(1);
                track.broken |= video;
                return Ok(false);
            }
        };
        if unit.payload.is_empty() {
            return Ok(false);
        }
        let torn = !frame.contiguous && unit.keyframe && !is_whole_keyframe(frame.codec, &unit);
        let hole = !unit.keyframe && (track.broken || !frame.contiguous);
        track.broken = video && (torn || hole);
        self.torn |= video && torn;
        if track.broken {
            metrics::counter!("headwater_whip_frames_undecodable_total").increment(1);
            return Ok(false);
        }
        if let Some(codec) = unit.config {
            self.publisher.configure(track.id, codec)?;
        }
        let time = MediaTime::new(frame.capture.micros(), ClockRate::MICROS);
        let raw = RawFrame {
            pts: time,
            dts: time,
            keyframe: unit.keyframe,
            capture: Some(frame.capture),
            payload: unit.payload,
        };
        self.publisher.push(track.id, raw, clock.at(frame.received))?;
        Ok(true)
    }

    /// The track that this encoded stream feeds: its own, else the one announced for its m-line,
    /// else a further one (a simulcast layer).
    fn track(&mut self, slot: &TrackSlot) -> Result<usize, PushError> {
        if let Some(at) = self.tracks.iter().position(|track| track.slot.as_ref() == Some(slot)) {
            return Ok(at);
        }
        let announced = |track: &Track| {
            track.slot.is_none() && track.line.takes(slot.line, slot.rid.as_deref())
        };
        if let Some(at) = self.tracks.iter().position(announced) {
            if let Some(track) = self.tracks.get_mut(at) {
                track.slot = Some(slot.clone());
            }
            return Ok(at);
        }
        let id = self.publisher.add_track(slot.kind)?;
        let line = Line { kind: slot.kind, index: slot.line, first_layer: None };
        let slot = Some(slot.clone());
        self.tracks.push(Track { line, slot, id, decoder: None, broken: false });
        Ok(self.tracks.len() - 1)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests read the clock")]
mod tests {
    use bytes::Bytes;
    use headwater_media::StreamName;
    use headwater_sfu::CloseReason;

    use super::*;
    use crate::ownership::alone::{Alone, pulls};
    use crate::sessions::{Role, SessionInfo, Sessions};
    use crate::streams::{Streams, StreamsOptions};

    fn sound(clock: Clock, n: i64, size: usize) -> IncomingFrame {
        let mut data = vec![0; size];
        data[0] = 0xfc;
        IncomingFrame {
            track: TrackSlot { kind: MediaKind::Audio, line: 0, rid: None },
            codec: IncomingCodec::Opus { channels: 2 },
            time: MediaTime::new(n * 960, ClockRate::OPUS),
            capture: clock.now().plus_micros(n * 20_000),
            synced: true,
            keyframe: true,
            contiguous: true,
            data: Bytes::from(data),
            received: Instant::now(),
        }
    }

    /// Frames that the stream has got, of those that came before it was taken.
    async fn taken_of(frames: i64, size: usize) -> u64 {
        let (clock, sessions) = (Clock::start(), Sessions::new(Clock::start(), 10));
        let streams = Streams::new(clock, StreamsOptions::default(), Alone::new(), pulls());
        let stream = StreamName::parse("cam").unwrap();
        let (role, peer) = (Role::Publisher, "127.0.0.1:9".parse().unwrap());
        let info = SessionInfo { role, protocol: "whip", stream: stream.clone(), peer };
        let session = sessions.open(info).unwrap();
        let counters = Arc::clone(session.counters());
        let mut sink = WhipSink::new(clock);
        for n in 0..frames {
            sink.frame(sound(clock, n, size)).unwrap();
        }
        sink.first_frame().await;
        let publisher = streams.publish(&stream, &session).await.unwrap();
        sink.begin(publisher, session, "m=audio 9 x 111\r\na=recvonly\r\n");
        sink.closed(CloseReason::Requested);
        counters.frames_in.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_comes_while_the_stream_is_asked_for_goes_first_unless_it_is_too_much() {
        assert_eq!(taken_of(50, 100).await, 50);
        assert_eq!(taken_of(1 + HELD_FRAMES_MAX as i64, 100).await, 0, "too many frames");
        assert_eq!(taken_of(40, HELD_BYTES_MAX / 32).await, 0, "too many bytes");
    }
}
