//! One RTMP connection's life: reads, drives the session, hands frames to the publisher, closes.
//!
//! Not here: the protocol (`session`), tags and time stamps (`tracks`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use headwater_media::{MediaKind, StreamName, WallTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::error::RtmpError;
use super::options::RtmpOptions;
use super::server::RtmpDeps;
use super::session::{Event, PublishRequest, Refusal, Session};
use super::tracks::{TagError, TrackEvent, TrackFrame, Tracks};
use crate::auth::{Action, Caller};
use crate::ingest::{EndReason, Publisher, PushError, RawFrame, TrackId};
use crate::sessions::{Role, SessionHandle, SessionInfo};
use crate::streams::PublishError;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;
/// How long and how much is read and thrown away after the last word, so that a client that is
/// still sending gets to read it before the connection is reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 8 * 1024 * 1024;
/// Tags within a minute that cannot be read before the session is ended: a stray one now and then
/// is survived for days.
const BAD_TAGS_MAX: u32 = 64;
const BAD_TAGS_WINDOW_MICROS: i64 = 60_000_000;

/// Why a connection is over.
#[derive(Debug)]
enum End {
    /// The client closed it.
    Closed,
    /// Nothing came in time.
    Silent(&'static str),
    /// The client broke the protocol.
    Protocol(RtmpError),
    /// A status told the client why.
    Refused(String),
    /// The publisher's session was ended by this server.
    Ended(Option<Refusal>, String),
    /// The socket failed.
    Socket(io::Error),
}

impl From<RtmpError> for End {
    fn from(error: RtmpError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl End {
    /// A stable label for metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent(_) => "timeout",
            Self::Protocol(error) => error.label(),
            Self::Refused(_) => "refused",
            Self::Ended(..) => "ended",
            Self::Socket(_) => "socket",
        }
    }
}

/// A publish in progress.
struct Live {
    name: StreamName,
    publisher: Publisher,
    handle: SessionHandle,
    ended: CancellationToken,
    tracks: Tracks,
    video: Option<TrackId>,
    audio: Option<TrackId>,
    bad_tags: u32,
    /// When the first of them came.
    bad_since: WallTime,
}

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    options: Arc<RtmpOptions>,
    deps: RtmpDeps,
    shutdown: CancellationToken,
    session: Session,
    live: Option<Box<Live>>,
    received: metrics::Counter,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        options: Arc<RtmpOptions>,
        deps: RtmpDeps,
        shutdown: CancellationToken,
    ) -> Self {
        let seed = deps.clock.now().micros().unsigned_abs();
        let session = Session::new(options.session_limits(), seed);
        let received = metrics::counter!("headwater_rtmp_received_bytes_total");
        Self { stream, peer, options, deps, shutdown, session, live: None, received }
    }

    /// Runs the connection to its end.
    pub(super) async fn run(mut self) {
        let end = match self.drive().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        metrics::counter!("headwater_rtmp_connections_closed_total", "reason" => end.label())
            .increment(1);
        self.log(&end);
        match &end {
            End::Closed | End::Socket(_) => {}
            End::Ended(refusal, why) => self.session.end(*refusal, why),
            End::Silent(why) => self.session.end(Some(Refusal::Unavailable), why),
            End::Protocol(error) => {
                self.session.end(Some(Refusal::Unavailable), &error.to_string());
            }
            End::Refused(_) => {}
        }
        // The name is free before the client hears of the end.
        self.live = None;
        if !matches!(end, End::Closed | End::Socket(_)) {
            self.say_goodbye().await;
        }
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, End> {
        let mut input = BytesMut::new();
        let mut deadline = Instant::now() + self.options.handshake_timeout;
        loop {
            input.reserve(READ_BYTES);
            if self.live.is_some() {
                deadline = Instant::now() + self.options.idle_timeout;
            }
            let ended = self.live.as_ref().map(|live| &live.ended);
            let read = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    return Err(End::Ended(None, String::from("The server is shutting down.")));
                }
                () = cancelled(ended) => return Err(self.ended_by_server()),
                read = timeout_at(deadline, self.stream.read_buf(&mut input)) => read,
            };
            let count = match read {
                Ok(Ok(0)) => return Err(End::Closed),
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.live.is_some() => {
                    return Err(End::Silent("The publisher sent nothing for too long."));
                }
                Err(_) => return Err(End::Silent("No stream was published in time.")),
            };
            self.count_received(count);
            self.session.received(count);
            while let Some(event) = self.session.handle(&mut input)? {
                let was_live = self.live.is_some();
                self.event(event).await?;
                if was_live && self.live.is_none() {
                    deadline = Instant::now() + self.options.handshake_timeout;
                }
            }
            self.flush().await?;
        }
    }

    fn count_received(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.received.increment(count);
        if let Some(live) = &self.live {
            live.handle.counters().bytes_in.fetch_add(count, Ordering::Relaxed);
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let output = self.session.take_output();
        if output.is_empty() {
            return Ok(());
        }
        match timeout(self.options.idle_timeout, self.stream.write_all(&output)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(End::Silent("The client does not read.")),
        }
    }

    /// Sends what is left to say and closes so that the client can read it.
    async fn say_goodbye(&mut self) {
        let farewell = async {
            if self.flush().await.is_err() {
                return;
            }
            if self.stream.shutdown().await.is_err() {
                return;
            }
            let mut scrap = BytesMut::with_capacity(READ_BYTES);
            let mut left = LINGER_BYTES;
            while let Ok(count @ 1..) = self.stream.read_buf(&mut scrap).await {
                scrap.clear();
                left = left.saturating_sub(count);
                if left == 0 {
                    return;
                }
            }
        };
        // However it ends, there is nobody left to tell.
        if timeout(LINGER, farewell).await.is_err() {
            tracing::debug!(peer = %self.peer, "RTMP client kept sending after the end");
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Publish(request) => return self.publish(request).await,
            Event::Unpublished => {
                if let Some(live) = self.live.take() {
                    tracing::info!(
                        stream = %live.name, session = %live.handle.id(), peer = %self.peer,
                        "RTMP publisher ended its stream"
                    );
                }
            }
            Event::Close(why) => return Err(End::Refused(why)),
            Event::Metadata(metadata) => {
                if let Some(live) = &mut self.live {
                    live.tracks.metadata(&metadata);
                }
            }
            Event::Video(time, body) => {
                let parsed = self.live.as_mut().map(|live| live.tracks.video(time, body));
                self.note_bad_tag(parsed)?;
            }
            Event::Audio(time, body) => {
                let parsed = self.live.as_mut().map(|live| live.tracks.audio(time, body));
                self.note_bad_tag(parsed)?;
            }
        }
        self.deliver()
    }

    /// Answers a request to publish.
    async fn publish(&mut self, request: PublishRequest) -> Result<(), End> {
        let PublishRequest { name, token } = request;
        match self.open(&name, token.as_deref()).await {
            Ok(live) => {
                metrics::counter!("headwater_rtmp_publishes_total", "result" => "accepted")
                    .increment(1);
                tracing::info!(
                    stream = %name, session = %live.handle.id(), peer = %self.peer,
                    "RTMP publisher started"
                );
                self.live = Some(Box::new(live));
                self.session.accept();
                Ok(())
            }
            Err((refusal, why)) => {
                let result = match refusal {
                    Refusal::BadName => "bad_name",
                    Refusal::Denied => "denied",
                    Refusal::Unavailable => "unavailable",
                };
                metrics::counter!("headwater_rtmp_publishes_total", "result" => result)
                    .increment(1);
                self.session.refuse(refusal, &why);
                Err(End::Refused(format!("{name}: {why}")))
            }
        }
    }

    async fn open(
        &self,
        name: &StreamName,
        token: Option<&str>,
    ) -> Result<Live, (Refusal, String)> {
        let deps = &self.deps;
        deps.access
            .check(Caller::direct(self.peer.ip(), token), Action::Publish, Some(name))
            .map_err(|denied| (Refusal::Denied, denied.to_string()))?;
        let info = SessionInfo {
            role: Role::Publisher,
            protocol: "rtmp",
            stream: name.clone(),
            peer: self.peer,
        };
        let handle =
            deps.sessions.open(info).map_err(|full| (Refusal::Unavailable, full.to_string()))?;
        let publisher = deps
            .streams
            .publish(name, &handle)
            .await
            .map_err(|error| (refusal_of(&error), error.to_string()))?;
        let ended = publisher.ended();
        Ok(Live {
            name: name.clone(),
            publisher,
            handle,
            ended,
            tracks: Tracks::default(),
            video: None,
            audio: None,
            bad_tags: 0,
            bad_since: deps.clock.now(),
        })
    }

    /// Hands on what the last tag or metadata led to.
    fn deliver(&mut self) -> Result<(), End> {
        let Some(live) = self.live.as_deref_mut() else { return Ok(()) };
        let now = self.deps.clock.now();
        while let Some(event) = live.tracks.poll() {
            live.take(event, now)?;
        }
        Ok(())
    }

    /// A tag that cannot be read is dropped; too many of them end the session.
    fn note_bad_tag(&mut self, parsed: Option<Result<(), TagError>>) -> Result<(), End> {
        let (Some(live), Some(Err(error))) = (self.live.as_deref_mut(), parsed) else {
            return Ok(());
        };
        let now = self.deps.clock.now();
        if now.micros_since(live.bad_since) > BAD_TAGS_WINDOW_MICROS {
            (live.bad_tags, live.bad_since) = (0, now);
        }
        // Frames that are ahead of their header may be many; they are only of no use yet.
        let counts = error != TagError::NoHeader;
        live.bad_tags += u32::from(counts);
        live.handle.counters().frames_dropped.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("headwater_rtmp_tags_dropped_total").increment(1);
        if counts && live.bad_tags == 1 {
            tracing::warn!(
                stream = %live.name, session = %live.handle.id(), peer = %self.peer, %error,
                "an RTMP tag was dropped"
            );
        }
        if live.bad_tags > BAD_TAGS_MAX {
            let why = format!("more than {BAD_TAGS_MAX} tags could not be read; the last: {error}");
            return Err(End::Ended(Some(Refusal::Unavailable), why));
        }
        Ok(())
    }

    fn ended_by_server(&self) -> End {
        match self.live.as_ref().and_then(|live| live.publisher.reason()) {
            Some(reason) => end_of(reason),
            None => End::Ended(None, String::from("The server ended the session.")),
        }
    }

    fn log(&self, end: &End) {
        let peer = self.peer;
        let why = match end {
            End::Closed => String::from("the client closed the connection"),
            End::Silent(why) => (*why).to_owned(),
            End::Protocol(error) => error.to_string(),
            End::Refused(why) | End::Ended(_, why) => why.clone(),
            End::Socket(error) => error.to_string(),
        };
        match (&self.live, end) {
            (Some(live), _) => {
                let (stream, session) = (&live.name, live.handle.id());
                tracing::info!(%stream, %session, %peer, why, "RTMP publisher left");
            }
            (None, End::Refused(_)) => tracing::info!(%peer, why, "RTMP publisher refused"),
            (None, _) => tracing::debug!(%peer, why, "RTMP connection closed"),
        }
    }
}

impl Live {
    fn take(&mut self, event: TrackEvent, now: WallTime) -> Result<(), End> {
        match event {
            TrackEvent::Announce(kind) => match self.publisher.add_track(kind) {
                Ok(track) => *self.track(kind) = Some(track),
                Err(error) => return self.not_taken(error),
            },
            TrackEvent::Configure(codec) => {
                let Some(track) = *self.track(codec.kind()) else { return Ok(()) };
                if let Err(error) = self.publisher.configure(track, codec) {
                    return self.not_taken(error);
                }
            }
            TrackEvent::Frame(frame) => {
                let Some(track) = *self.track(frame.kind) else { return Ok(()) };
                self.handle.counters().frames_in.fetch_add(1, Ordering::Relaxed);
                let TrackFrame { pts, dts, keyframe, payload, .. } = frame;
                let raw = RawFrame { pts, dts, keyframe, capture: None, payload };
                if let Err(error) = self.publisher.push(track, raw, now) {
                    return self.not_taken(error);
                }
            }
            TrackEvent::Warn(key, text) => {
                metrics::counter!("headwater_rtmp_warnings_total", "warning" => key).increment(1);
                self.publisher.warn(key, text);
            }
        }
        Ok(())
    }

    fn track(&mut self, kind: MediaKind) -> &mut Option<TrackId> {
        match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        }
    }

    fn not_taken(&mut self, error: PushError) -> Result<(), End> {
        match error {
            PushError::Ended(reason) => Err(end_of(reason)),
            error if error.is_fatal() => {
                Err(End::Ended(Some(Refusal::Unavailable), error.to_string()))
            }
            error => {
                self.handle.counters().frames_dropped.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(stream = %self.name, %error, "a frame was dropped");
                Ok(())
            }
        }
    }
}

fn end_of(reason: EndReason) -> End {
    let refusal = match reason {
        EndReason::Replaced => Some(Refusal::BadName),
        EndReason::Draining => None,
        _ => Some(Refusal::Denied),
    };
    End::Ended(refusal, reason.to_string())
}

fn refusal_of(error: &PublishError) -> Refusal {
    match error {
        error if error.is_busy() => Refusal::BadName,
        error if error.is_of_relay() => Refusal::Denied,
        _ => Refusal::Unavailable,
    }
}

/// Completes when `token`, if there is one, is cancelled.
async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}
