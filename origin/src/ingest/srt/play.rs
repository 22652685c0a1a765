//! A reader: the newest group onwards of a broadcast's video and audio, as MPEG-TS messages.
//!
//! Paced by arrival. A reader whose connection cannot keep up is made to skip to the next group
//! that it can start with, and this is counted; it never holds anybody else.
//! Not here: sending and retransmission (`sender`), the order of tracks (`merge`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::select_all;
use headwater_media::broadcast::BroadcastWatch;
use headwater_media::ts::{MuxError, Muxer};
use headwater_media::{
    Broadcast, BroadcastState, Cursor, Group, Item, MediaKind, Start, Track, TrackConfig,
};
use tokio::sync::mpsc;

use super::merge::{Merge, Waiting};
use super::metrics as meters;
use super::server::Command;
use super::transport::ConnId;
use crate::sessions::SessionCounters;

/// How long tracks that are announced are waited for at the start.
const TRACKS_WAIT: Duration = Duration::from_secs(1);
/// Bytes that are multiplexed at most before they are handed on.
const FLUSH_BYTES: usize = 64 << 10;
/// How often to look for a track that came later.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where a reader's messages go.
pub(super) struct Outlet {
    /// The connection.
    pub(super) id: ConnId,
    /// The driver.
    pub(super) commands: mpsc::Sender<Command>,
    /// Packets that wait in the connection; the driver keeps it.
    pub(super) backlog: Arc<AtomicUsize>,
    /// At this many the reader skips.
    pub(super) backlog_max: usize,
    /// Bytes of a message, whole TS packets.
    pub(super) payload_size: usize,
    /// The session's counts.
    pub(super) counters: Arc<SessionCounters>,
}

/// Reads `broadcast` until it ends; then asks the driver to close the connection.
pub(super) async fn run(broadcast: Broadcast, outlet: Outlet) {
    let why = match read(&broadcast, &outlet).await {
        Ok(()) => "the stream ended".to_owned(),
        Err(error) => error.to_string(),
    };
    // The driver is gone when it cannot be told, and the connection with it.
    let _ = outlet.commands.send(Command::Close(outlet.id, why)).await;
}

/// One track that is read.
struct Lane {
    track: Track,
    cursor: Cursor,
    config: Arc<TrackConfig>,
    /// The group the cursor is in.
    group: Option<Arc<Group>>,
    /// The next frame is the first of its group.
    first: bool,
    ended: bool,
}

/// The first video and the first audio track that MPEG-TS can carry: the source's own, before
/// other layers and transcodes.
fn choose(broadcast: &Broadcast) -> Vec<(Track, Arc<TrackConfig>)> {
    let tracks = broadcast.tracks();
    let first = |kind: MediaKind| {
        tracks.iter().filter(|track| track.kind() == kind).find_map(|track| {
            let config = track.config()?;
            Muxer::new([&*config]).is_ok().then(|| (track.clone(), config))
        })
    };
    [MediaKind::Video, MediaKind::Audio].into_iter().filter_map(first).collect()
}

/// Waits until there is something to read. False when the broadcast ends without.
async fn wait_for_tracks(broadcast: &Broadcast, watch: &mut BroadcastWatch) -> bool {
    let deadline = tokio::time::Instant::now() + TRACKS_WAIT;
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let track = broadcast.tracks().iter().find(|track| track.kind() == kind).cloned();
        if let Some(track) = track
            && tokio::time::timeout_at(deadline, track.ready()).await.is_err()
        {
            tracing::debug!(stream = %broadcast.name(), track = %track.name(), "not ready yet");
        }
    }
    while choose(broadcast).is_empty() {
        if broadcast.state() == BroadcastState::Ended {
            return false;
        }
        let tracks = broadcast.tracks();
        if !tracks.is_empty() && tracks.iter().all(|track| track.config().is_some()) {
            tracing::warn!(stream = %broadcast.name(),
                "an SRT reader is let go: MPEG-TS carries H.264, H.265, AAC and Opus, and the \
                 stream has none of them");
            return false;
        }
        tokio::select! {
            open = watch.changed() => if !open { return false },
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
    true
}

async fn read(broadcast: &Broadcast, outlet: &Outlet) -> Result<(), MuxError> {
    let mut watch = broadcast.watch();
    if !wait_for_tracks(broadcast, &mut watch).await {
        return Ok(());
    }
    let mut reader = Reader::new(choose(broadcast), outlet)?;
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let now = Instant::now();
        reader.pull(now);
        reader.give(now)?;
        if reader.is_over() || broadcast.state() == BroadcastState::Ended {
            return Ok(());
        }
        let due = reader.merge.due().unwrap_or(now + LOOK_INTERVAL);
        tokio::select! {
            () = reader.changed() => {}
            () = tokio::time::sleep_until(due.into()) => {}
            _ = look.tick() => reader.take_in(choose(broadcast))?,
            _ = watch.changed() => reader.take_in(choose(broadcast))?,
        }
    }
}

struct Reader<'a> {
    outlet: &'a Outlet,
    lanes: Vec<Lane>,
    merge: Merge,
    muxer: Muxer,
    /// Multiplexed, not yet sent.
    out: BytesMut,
    /// Frames are dropped until one that begins a group in the first track.
    skipping: bool,
}

impl<'a> Reader<'a> {
    fn new(chosen: Vec<(Track, Arc<TrackConfig>)>, outlet: &'a Outlet) -> Result<Self, MuxError> {
        let muxer = Muxer::new(chosen.iter().map(|(_, config)| &**config))?;
        let merge = Merge::new(0);
        let out = BytesMut::new();
        let mut reader = Self { outlet, lanes: vec![], merge, muxer, out, skipping: false };
        for (track, config) in chosen {
            reader.add(track, config);
        }
        Ok(reader)
    }

    fn add(&mut self, track: Track, config: Arc<TrackConfig>) {
        // All tracks begin at the same boundary: groups of a broadcast share their numbers.
        let lead = self.lanes.first().map(|lane| &lane.track);
        let lead = lead.and_then(|track| {
            let window = track.window();
            let independent = window.iter().rev().find(|group| group.header().independent);
            independent.or(window.last()).map(|group| group.seq())
        });
        let start = lead.map_or(Start::Newest, |seq| Start::At(seq, 0));
        let cursor = track.read(start);
        self.lanes.push(Lane { track, cursor, config, group: None, first: false, ended: false });
        self.merge.add();
    }

    /// Begins to read tracks that came after the start.
    fn take_in(&mut self, chosen: Vec<(Track, Arc<TrackConfig>)>) -> Result<(), MuxError> {
        let known = self.lanes.len();
        for (track, config) in chosen {
            let same_kind = |lane: &Lane| lane.track.kind() == track.kind();
            if !self.lanes.iter().any(same_kind) {
                self.add(track, config);
            }
        }
        if self.lanes.len() > known { self.new_program() } else { Ok(()) }
    }

    fn new_program(&mut self) -> Result<(), MuxError> {
        self.muxer = Muxer::new(self.lanes.iter().map(|lane| &*lane.config))?;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ended)
    }

    /// Waits until a track has something new.
    async fn changed(&mut self) {
        let open = self.lanes.iter_mut().filter(|lane| !lane.ended);
        let changes: Vec<_> = open.map(|lane| Box::pin(lane.cursor.changed())).collect();
        if changes.is_empty() {
            return std::future::pending().await;
        }
        select_all(changes).await;
    }

    /// Takes what the tracks have.
    fn pull(&mut self, now: Instant) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.ended {
                continue;
            }
            while let Some(item) = lane.cursor.try_next() {
                match item {
                    Item::Group { group, skipped } => {
                        if skipped > 0 {
                            meters::skipped();
                        }
                        lane.group = Some(group);
                        lane.first = true;
                    }
                    Item::Frame(place) => {
                        if let (Some(frame), Some(group)) = (place.frame(), &lane.group) {
                            let first = std::mem::take(&mut lane.first);
                            let group = Arc::clone(group);
                            let frame = frame.clone();
                            self.merge.push(now, index, Waiting { frame, group, first });
                        }
                    }
                    Item::GroupEnd(_) => {}
                    Item::End => {
                        lane.ended = true;
                        self.merge.end(index);
                        break;
                    }
                }
            }
        }
    }

    /// Sends the frames whose turn it is.
    fn give(&mut self, now: Instant) -> Result<(), MuxError> {
        while let Some((index, waiting)) = self.merge.pop(now) {
            if self.skip(index, &waiting) {
                self.outlet.counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.mux(index, &waiting)?;
            if self.out.len() >= FLUSH_BYTES {
                self.flush(false);
            }
        }
        self.flush(true);
        Ok(())
    }

    /// Whether a frame is left out because the connection cannot keep up.
    fn skip(&mut self, index: usize, waiting: &Waiting) -> bool {
        let backlog = self.outlet.backlog.load(Ordering::Relaxed);
        if backlog >= self.outlet.backlog_max && !self.skipping {
            self.skipping = true;
            meters::skipped();
        }
        let entry = index == 0 && waiting.first && waiting.group.header().independent;
        if self.skipping && entry && backlog < self.outlet.backlog_max / 2 {
            self.skipping = false;
        }
        self.skipping
    }

    fn mux(&mut self, index: usize, waiting: &Waiting) -> Result<(), MuxError> {
        let config = &waiting.group.header().config;
        let mut result = self.muxer.push(index, &waiting.frame, config, &mut self.out);
        if matches!(result, Err(MuxError::CodecChanged(_)))
            && let Some(lane) = self.lanes.get_mut(index)
        {
            lane.config = Arc::clone(config);
            self.new_program()?;
            result = self.muxer.push(index, &waiting.frame, config, &mut self.out);
        }
        let counters = &self.outlet.counters;
        match result {
            Ok(()) => {
                counters.frames_out.fetch_add(1, Ordering::Relaxed);
            }
            // A single frame that cannot be carried is that frame's loss.
            Err(MuxError::NalUnits | MuxError::FrameSize(_)) => {
                counters.frames_dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Hands whole messages to the driver, and the rest too when nothing follows at once.
    fn flush(&mut self, all: bool) {
        let size = self.outlet.payload_size;
        let mut messages: Vec<Bytes> = Vec::new();
        while self.out.len() >= size {
            messages.push(self.out.split_to(size).freeze());
        }
        if all && !self.out.is_empty() {
            messages.push(self.out.split().freeze());
        }
        if messages.is_empty() {
            return;
        }
        let added = messages.len();
        // Counted here too, so that a burst is seen before the driver comes round.
        self.outlet.backlog.fetch_add(added, Ordering::Relaxed);
        let command = Command::Send(self.outlet.id, messages);
        if self.outlet.commands.try_send(command).is_err() && !self.skipping {
            self.skipping = true;
            meters::skipped();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use headwater_media::bus::TrackWriter;
    use headwater_media::codec::Codec;
    use headwater_media::codec::opus::OpusConfig;
    use headwater_media::frame::GroupHeader;
    use headwater_media::limits::BusLimits;
    use headwater_media::track::PartPlan;
    use headwater_media::{
        ClockRate, ConfigVersion, DiscontinuitySeq, Epoch, Frame, GroupSeq, MediaDuration,
        MediaTime, StreamName, TrackName, WallTime,
    };

    fn config() -> Arc<TrackConfig> {
        let opus = OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 };
        let rate = ClockRate::OPUS;
        let parts = PartPlan::for_cadence(960, 1, rate, Duration::from_millis(200));
        Arc::new(TrackConfig { version: ConfigVersion(0), codec: Codec::Opus(opus), rate, parts })
    }

    fn header(seq: u64) -> GroupHeader {
        GroupHeader {
            seq: GroupSeq(seq),
            epoch: Epoch(1),
            discontinuity: DiscontinuitySeq(0),
            start: MediaTime::new(0, ClockRate::OPUS),
            wall: WallTime(0),
            independent: true,
            expected_frames: None,
            target_duration_s: Some(2),
            config: config(),
        }
    }

    fn writer(broadcast: &Broadcast) -> TrackWriter {
        broadcast.add_track(TrackName::audio(), MediaKind::Audio).unwrap()
    }

    fn broadcast() -> Broadcast {
        let broadcast = Broadcast::new(StreamName::parse("a").unwrap(), BusLimits::default());
        broadcast.set_state(BroadcastState::Live);
        broadcast
    }

    /// A group for tests that need one.
    pub(in crate::ingest::srt) fn group() -> Arc<Group> {
        let mut writer = writer(&broadcast());
        writer.begin_group(header(0)).unwrap();
        Arc::clone(writer.current().unwrap())
    }

    fn append(writer: &mut TrackWriter, number: i64) {
        let time = MediaTime::new(number * 960, ClockRate::OPUS);
        let frame = Frame {
            pts: time,
            dts: time,
            duration: MediaDuration::new(960, ClockRate::OPUS),
            keyframe: true,
            capture: WallTime(0),
            payload: Bytes::from(vec![0xfc; 400]),
        };
        writer.append(frame).unwrap();
    }

    fn outlet(commands: mpsc::Sender<Command>) -> Outlet {
        Outlet {
            id: ConnId(1),
            commands,
            backlog: Arc::default(),
            backlog_max: 100,
            payload_size: 1_316,
            counters: Arc::default(),
        }
    }

    #[tokio::test]
    async fn a_reader_gets_the_newest_group_onwards_then_the_end() {
        let broadcast = broadcast();
        let mut writer = writer(&broadcast);
        writer.begin_group(header(0)).unwrap();
        append(&mut writer, 0);
        writer.begin_group(header(1)).unwrap();
        append(&mut writer, 1);
        append(&mut writer, 2);
        let (commands, mut inbox) = mpsc::channel(100);
        let outlet = outlet(commands);
        let counters = Arc::clone(&outlet.counters);
        let task = tokio::spawn(run(broadcast.clone(), outlet));
        let mut bytes = 0;
        let Some(Command::Send(id, messages)) = inbox.recv().await else { panic!() };
        assert_eq!(id, ConnId(1));
        for message in &messages {
            assert!(message.len() <= 1_316 && message.len() % 188 == 0);
            assert_eq!(message[0], 0x47);
            bytes += message.len();
        }
        // Tables, then three packets for each frame of 400 bytes.
        assert_eq!(bytes, 188 * (2 + 3 + 3));
        append(&mut writer, 3);
        let Some(Command::Send(_, messages)) = inbox.recv().await else { panic!() };
        assert_eq!(messages.len(), 1);
        writer.finish();
        let Some(Command::Close(_, why)) = inbox.recv().await else { panic!() };
        assert_eq!(why, "the stream ended");
        task.await.unwrap();
        assert_eq!(counters.frames_out.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_reader_that_cannot_keep_up_skips_to_a_later_group() {
        let broadcast = broadcast();
        let mut writer = writer(&broadcast);
        let (commands, _inbox) = mpsc::channel(100);
        let outlet = outlet(commands);
        writer.begin_group(header(0)).unwrap();
        let mut reader = Reader::new(choose(&broadcast), &outlet).unwrap();
        let mut step = |reader: &mut Reader<'_>, backlog: usize, number: i64| {
            if number % 10 == 0 && number > 0 {
                writer.begin_group(header(number as u64)).unwrap();
            }
            append(&mut writer, number);
            outlet.backlog.store(backlog, Ordering::Relaxed);
            let now = Instant::now();
            reader.pull(now);
            reader.give(now).unwrap();
            outlet.counters.frames_out.load(Ordering::Relaxed)
        };
        for number in 0..5 {
            assert_eq!(step(&mut reader, 0, number), number as u64 + 1);
        }
        assert_eq!(step(&mut reader, 100, 5), 5);
        // Room again, but in the middle of a group.
        assert_eq!(step(&mut reader, 0, 6), 5);
        for number in 7..10 {
            assert_eq!(step(&mut reader, 90, number), 5);
        }
        // A group begins, with too little room; the next one has it.
        for number in 10..20 {
            assert_eq!(step(&mut reader, 90, number), 5);
        }
        assert_eq!(step(&mut reader, 10, 20), 6);
        assert_eq!(outlet.counters.frames_dropped.load(Ordering::Relaxed), 15);
    }
}
