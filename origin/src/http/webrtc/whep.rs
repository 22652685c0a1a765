//! `POST /whep/{stream}`: a player's offer becomes a session (draft-ietf-wish-whep-04, of whose two
//! ways the one in which the server accepts the player's offer; it makes none itself).
//!
//! Not here: what the sessions of both protocols share (`super`), packets (`headwater-sfu`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::response::Response;
use futures_util::future::{join_all, select_all};
use headwater_media::{Broadcast, BroadcastState, Codec, MediaKind, StreamName, Track};
use headwater_sfu::{CloseReason, PlayTracks, SessionStats, Sfu};
use http::StatusCode;
use tokio::sync::oneshot;

use super::{Request, problem_of, whip};
use crate::clock::Clock;
use crate::http::{App, Problem, names};
use crate::sessions::{Role, SessionHandle, SessionInfo};
use crate::transcode::audio::{AudioTarget, Listening};

/// Longest `?wait=`; longer is taken as this.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a stream that has just begun may take until its tracks can be offered, and how much
/// later than its first track the others may begin to be waited for.
const TRACKS_WAIT: Duration = Duration::from_secs(3);
/// How often a session's counters are brought up to date.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether a session has connected, from when on it counts as a viewer.
/// `[limits] webrtc_half_open` of them, 1,000, ask 4,000 times a second.
const CONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// Answers a player's offer.
pub(super) async fn play(
    request: &Request,
    stream: &StreamName,
    offer: &str,
) -> Result<Response, Problem> {
    let app = &request.app;
    let sfu = request.sfu()?;
    let wait = wait_of(request)?;
    let broadcast =
        app.streams.wait(stream, wait).await.ok_or_else(|| names::no_such_stream(stream))?;
    settle(&broadcast, app.clock, wait.max(TRACKS_WAIT)).await;
    let info = SessionInfo {
        role: Role::Viewer,
        protocol: "whep",
        stream: stream.clone(),
        peer: request.peer,
    };
    let session = app.sessions.open_half(info).map_err(whip::full)?;
    let id = session.id();
    let audio = sound(app, &broadcast).await;
    let tracks = PlayTracks {
        video: choose(&broadcast, MediaKind::Video),
        audio: audio.as_ref().map(|(track, _)| track.clone()),
    };
    let answer = sfu.play(offer, id, stream, tracks).await.map_err(problem_of)?;
    for warning in &answer.warnings {
        tracing::warn!(%stream, session = %id, "{warning}");
    }
    app.webrtc.insert(id, stream.clone(), "whep");
    tokio::spawn(guard(Arc::clone(app), Arc::downgrade(&sfu), session, audio, answer.closed));
    request.created(stream, id, answer.sdp, &answer.etag)
}

/// `?wait=` in whole seconds; nothing without it.
fn wait_of(request: &Request) -> Result<Duration, Problem> {
    let Some(text) = names::query(&request.parts, "wait") else { return Ok(Duration::ZERO) };
    let seconds: u32 = text.parse().map_err(|_| {
        let detail = "wait must be a whole number of seconds";
        Problem::new(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query", detail)
    })?;
    Ok(Duration::from_secs(seconds.into()).min(WAIT_MAX))
}

/// Waits until each of the broadcast's tracks has begun, so that it is known which of them a
/// player can be sent; gives up after `timeout`. A track that was announced and stays silent
/// holds up players for [`TRACKS_WAIT`] after the first track began, not each of them for as long.
async fn settle(broadcast: &Broadcast, clock: Clock, timeout: Duration) {
    let mut changes = broadcast.watch();
    let settled = async {
        loop {
            let tracks = broadcast.tracks();
            let all = join_all(tracks.iter().map(Track::ready));
            let late = async {
                let _ = select_all(tracks.iter().map(|track| Box::pin(track.ready()))).await;
                tokio::time::sleep(TRACKS_WAIT.saturating_sub(age(&tracks, clock))).await;
            };
            if !tracks.is_empty() {
                tokio::select! {
                    _ = all => {}
                    () = late => return,
                }
            }
            if !tracks.is_empty() || broadcast.state() == BroadcastState::Ended {
                return;
            }
            if !changes.changed().await {
                return;
            }
        }
    };
    // What has not begun by now is left out of the answer.
    let _ = tokio::time::timeout(timeout, settled).await;
}

/// How long ago the oldest frame of these tracks was captured that can still be read; nothing
/// where none has begun.
fn age(tracks: &[Track], clock: Clock) -> Duration {
    let first = |track: &Track| track.window().first().map(|group| group.header().wall);
    let oldest = tracks.iter().filter_map(first).min();
    let micros = oldest.map_or(0, |wall| clock.now().micros_since(wall));
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The track of this kind to send: of those that WebRTC can carry the one with most pixels (the
/// highest layer of a publisher's simulcast, in whatever order it lists them), the first of equals;
/// else the first of all, for which the answer says what is wrong with it.
fn choose(broadcast: &Broadcast, kind: MediaKind) -> Option<Track> {
    let tracks = broadcast.tracks();
    let fits = |track: &&Track| {
        track.kind() == kind && track.config().is_some_and(|config| carried(&config.codec))
    };
    let pixels = |track: &&Track| {
        let resolution = track.config().and_then(|config| config.codec.resolution());
        resolution.map_or(0, |it| u64::from(it.width) * u64::from(it.height))
    };
    let found = tracks.iter().filter(fits).rev().max_by_key(pixels);
    found.or_else(|| tracks.iter().find(|track| track.kind() == kind)).cloned()
}

/// A track of sound, and what keeps it being made while the session lives.
type Sound = (Track, Option<Listening>);

/// The broadcast's sound as Opus, made of AAC where need be; else its own as it is, for which the
/// answer says what is wrong with it.
async fn sound(app: &App, broadcast: &Broadcast) -> Option<Sound> {
    match app.bridges.track(broadcast, AudioTarget::Opus, TRACKS_WAIT).await {
        Some(sound) => Some(sound),
        None => choose(broadcast, MediaKind::Audio).map(|track| (track, None)),
    }
}

/// Whether browsers take this over WebRTC as it is.
fn carried(codec: &Codec) -> bool {
    match codec {
        Codec::H264(config) => config.reorder_frames == 0,
        Codec::Vp8(_) | Codec::Vp9(_) | Codec::Av1(_) | Codec::Opus(_) => true,
        Codec::H265(_) | Codec::Aac(_) => false,
    }
}

/// Keeps the session listed and counted until it is over; ends it when it is kicked. It must not
/// keep the SFU from shutting down.
async fn guard(
    app: Arc<App>,
    sfu: Weak<Sfu>,
    session: SessionHandle,
    _audio: Option<Sound>,
    mut closed: oneshot::Receiver<CloseReason>,
) {
    let id = session.id();
    let kicked = session.kicked();
    let mut ticks = tokio::time::interval(CONNECT_INTERVAL);
    let mut connected = false;
    let reason = loop {
        tokio::select! {
            () = kicked.cancelled() => {
                if let Some(sfu) = sfu.upgrade() {
                    sfu.close(id, CloseReason::Requested).await;
                }
                break Some(CloseReason::Requested);
            }
            reason = &mut closed => break reason.ok(),
            _ = ticks.tick() => {
                let stats = sfu.upgrade().and_then(|sfu| sfu.session(id));
                if let Some(stats) = stats {
                    count(&stats, &session);
                    if stats.connected && !std::mem::replace(&mut connected, true) {
                        session.connected();
                        ticks = tokio::time::interval(COUNT_INTERVAL);
                    }
                }
            }
        }
    };
    app.webrtc.remove(id);
    let reason = reason.as_ref().map_or("shutdown", CloseReason::label);
    tracing::info!(stream = %session.info().stream, session = %id, reason, "WHEP session closed");
}

fn count(stats: &SessionStats, session: &SessionHandle) {
    let counters = session.counters();
    counters.bytes_in.store(stats.bytes_in, Ordering::Relaxed);
    counters.bytes_out.store(stats.bytes_out, Ordering::Relaxed);
    counters.frames_out.store(stats.frames, Ordering::Relaxed);
    let dropped = stats.drops.iter().sum();
    counters.frames_dropped.store(dropped, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use headwater_media::codec::Resolution;
    use headwater_media::codec::opus::OpusConfig;
    use headwater_media::codec::vp8::Vp8Config;
    use headwater_media::frame::GroupHeader;
    use headwater_media::limits::BusLimits;
    use headwater_media::{
        ClockRate, ConfigVersion, DiscontinuitySeq, Epoch, GroupSeq, MediaTime, PartPlan,
        TrackConfig, TrackName, WallTime,
    };

    use super::*;

    fn header(codec: Codec, wall: WallTime) -> GroupHeader {
        let (rate, frame_ticks) = (ClockRate::OPUS, 960);
        let parts = PartPlan { target_ticks: 9_600, frame_ticks };
        GroupHeader {
            seq: GroupSeq(0),
            epoch: Epoch(1),
            discontinuity: DiscontinuitySeq(0),
            start: MediaTime::new(0, rate),
            wall,
            independent: true,
            expected_frames: None,
            target_duration_s: Some(2),
            config: Arc::new(TrackConfig { version: ConfigVersion(0), codec, rate, parts }),
        }
    }

    #[test]
    fn of_simulcast_layers_the_largest_is_sent_in_whatever_order_they_came() {
        let layers = [("video", 320), ("video-2", 1_280), ("video-3", 640), ("video-4", 1_280)];
        let broadcast = Broadcast::new(StreamName::parse("a").unwrap(), BusLimits::default());
        let mut writers = Vec::new();
        for (name, width) in layers {
            let name = TrackName::parse(name).unwrap();
            let mut writer = broadcast.add_track(name, MediaKind::Video).unwrap();
            let resolution = Resolution { width, height: width / 2 };
            writer.begin_group(header(Codec::Vp8(Vp8Config { resolution }), WallTime(0))).unwrap();
            writers.push(writer);
        }
        let chosen = choose(&broadcast, MediaKind::Video).unwrap();
        assert_eq!(chosen.name().as_str(), "video-2");
    }

    #[tokio::test]
    async fn a_track_that_stays_silent_does_not_hold_up_the_players_of_a_running_stream() {
        let clock = Clock::start();
        let broadcast = Broadcast::new(StreamName::parse("a").unwrap(), BusLimits::default());
        let mut audio = broadcast.add_track(TrackName::audio(), MediaKind::Audio).unwrap();
        let _silent = broadcast.add_track(TrackName::video(), MediaKind::Video).unwrap();
        let opus = Codec::Opus(OpusConfig { channels: 2, pre_skip: 0, input_sample_rate: 48_000 });
        let header = header(opus, clock.now().plus_micros(-10_000_000));
        audio.begin_group(header).unwrap();
        let settled = settle(&broadcast, clock, Duration::from_secs(60));
        tokio::time::timeout(TRACKS_WAIT, settled).await.unwrap();
    }
}
