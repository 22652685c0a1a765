//! Drives a hop over one QUIC connection, on which each end may be the other's parent and child.
//!
//! Driver: it awaits and reads clocks. It takes an established connection and opens no endpoint.
//! Not here: decisions (`parent`, `child`, `feed`, `intake`), which hop a stream is taken by
//! (`pulls`), certificates and who may connect (the node).
#![allow(clippy::disallowed_methods, reason = "a driver reads the clocks")]

mod control;
mod read;
mod send;
mod serve;
mod take;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, Epoch, Frame, GroupHeader, GroupSeq, StreamName, TrackName, WallTime,
};
use quinn::{Connection, VarInt};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::parent::{ProtocolError, Refusal, Terms};
use crate::route::{Route, Standing};
use crate::wire::{Announced, Load, StartAt, WireError, close_code};

pub(crate) use self::take::{Command, TakenStream};

/// Commands to a hop that it has not taken yet.
const COMMANDS_MAX: usize = 1_024;

/// What a node has for its children.
pub trait Source: Send + Sync + 'static {
    /// The stream of that name as it is here: for who wants a group of it.
    ///
    /// # Errors
    /// It is not here; the answer says where it may be.
    fn find(&self, stream: &StreamName) -> Result<Found, Refusal>;

    /// The stream for a child that subscribes to it, who knows of that epoch and goes on from
    /// there. A relay takes it from elsewhere from now on, if it does not yet. Must not block.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn take(&self, stream: &StreamName, from: (Epoch, &StartAt)) -> Result<Found, Refusal> {
        let _ = from;
        self.find(stream)
    }

    /// The streams that are announced to children which want to know; none by default.
    fn announced(&self) -> Option<watch::Receiver<Arc<Vec<Announced>>>> {
        None
    }

    /// How busy this node is.
    fn load(&self) -> Load {
        Load::default()
    }
}

/// A stream for a child.
#[derive(Clone, Debug)]
pub struct Found {
    /// The stream.
    pub broadcast: Broadcast,
    /// The epoch that this node follows, and how the stream comes to it; may change.
    pub standing: watch::Receiver<Standing>,
    /// Kept for as long as the child is sent the stream: a relay's own [`crate::pulls::Pull`] of
    /// it, for example.
    pub hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl Found {
    /// A stream that this node owns.
    #[must_use]
    pub fn owned(broadcast: Broadcast, epoch: Epoch) -> Self {
        let standing = Standing { epoch, route: Route::owner() };
        Self { broadcast, standing: watch::channel(standing).1, hold: None }
    }
}

/// A source without streams: for a node that only takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl Source for NoSource {
    fn find(&self, _: &StreamName) -> Result<Found, Refusal> {
        Err(Refusal::new(crate::wire::RefusalCode::NotFound))
    }
}

/// A hop's names, timings and limits.
#[derive(Clone, Debug)]
pub struct HopOptions {
    /// This node's id or name, told to the other end.
    pub node: String,
    /// This node's number in the ways that streams take; without it, rings go unnoticed.
    pub id: Option<u64>,
    /// This program's version, told to the other end.
    pub version: String,
    /// How often the parent is asked for the time (100 ms); each question and answer has about 60
    /// bytes on the wire.
    pub ping_interval: Duration,
    /// A parent that has sent nothing for so long counts as silent (300 ms: two lost questions).
    pub silent_after: Duration,
    /// How a stream is asked for: priority 128; groups may lag 2 s behind the newest.
    pub terms: Terms,
    /// Subscriptions that one child may have (4096).
    pub subscriptions_max: usize,
    /// Streams of groups that the other end may have open at once (4096). Two a track are usual.
    pub group_streams_max: u32,
    /// What a track may keep: frames above its limit are refused.
    pub limits: BusLimits,
    /// Whether the parent is to announce its streams.
    pub announcements: bool,
}

impl HopOptions {
    /// The defaults for a node of that name.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            id: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ping_interval: Duration::from_millis(100),
            silent_after: Duration::from_millis(300),
            terms: Terms { priority: 128, max_age: Duration::from_secs(2) },
            subscriptions_max: 4_096,
            group_streams_max: 4_096,
            limits: BusLimits::default(),
            announcements: false,
        }
    }
}

/// Why a hop ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HopError {
    /// The connection is gone.
    #[error("the connection is gone: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The other end sent what cannot be read.
    #[error("the other end sent what cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The other end broke the protocol.
    #[error("the other end broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The other end does not read what it is told.
    #[error("the other end does not read its control stream")]
    Stuck,
    /// The control stream ended.
    #[error("the other end closed its control stream")]
    Closed,
}

/// What is known of the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopStatus {
    /// Its id or name, once it has said it.
    pub node: Option<String>,
    /// As a parent it has sent nothing for `silent_after`.
    pub silent: bool,
    /// Its clock less ours, in microseconds.
    pub clock_offset_micros: Option<i64>,
    /// The shortest round trip of late.
    pub round_trip: Option<Duration>,
    /// Its load.
    pub load: Load,
    /// Since when it has answered without a silence.
    pub steady_since: Option<Instant>,
    /// Subscriptions that it has as a child.
    pub subscriptions: usize,
    /// It shuts down: go elsewhere.
    pub goaway: Option<String>,
    /// The hop is over.
    pub closed: bool,
}

/// A group of the parent's window.
#[derive(Clone, Debug)]
pub struct FetchedGroup {
    /// The group's header.
    pub header: GroupHeader,
    /// The place of the first frame here.
    pub first_frame: u32,
    /// The frames.
    pub frames: Vec<Frame>,
    /// How many frames the group has in all; none while it was still open at the parent.
    pub final_len: Option<u32>,
}

/// Why a group could not be fetched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The parent has it not.
    #[error("the parent refused: {}", .0.code.as_str())]
    Refused(Refusal),
    /// The hop ended or was too busy, or the stream broke off.
    #[error("the hop broke off")]
    Broken,
}

/// What the node tells its children on a hop.
#[derive(Debug)]
pub(crate) enum ServeCommand {
    Revoke(StreamName, Refusal),
    Goaway(String),
}

/// A hop. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Hop {
    shared: Arc<HopShared>,
}

struct HopShared {
    connection: Connection,
    commands: mpsc::Sender<Command>,
    serve: mpsc::Sender<ServeCommand>,
    status: watch::Sender<HopStatus>,
}

impl Hop {
    /// A hop over an established connection whose ALPN is [`crate::wire::ALPN`]. Nothing happens
    /// until `driver` is polled; it ends with the connection.
    pub fn new(
        connection: Connection,
        options: HopOptions,
        source: Arc<dyn Source>,
    ) -> (Self, impl Future<Output = HopError> + Send + 'static) {
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (serve, serve_queue) = mpsc::channel(COMMANDS_MAX);
        let opened = HopStatus { steady_since: Some(now()), ..HopStatus::default() };
        let status = watch::channel(opened).0;
        let shared = HopShared { connection: connection.clone(), commands, serve, status };
        let hop = Self { shared: Arc::new(shared) };
        let status = hop.shared.status.clone();
        let context = Context { connection, options: Arc::new(options), source };
        (hop, drive(context, command_queue, serve_queue, status))
    }

    /// What is known of the other end; changes are watched.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<HopStatus> {
        self.shared.status.subscribe()
    }

    /// The connection, for its address and statistics.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// Whether a stream can be taken by this hop now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let status = self.shared.status.borrow();
        !status.closed && !status.silent && status.goaway.is_none()
    }

    /// Sees to it that the other end's silence is noticed, also while nothing is taken from it.
    pub fn watch(&self) -> bool {
        self.command(Command::Watch)
    }

    /// Whether both are one hop.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Fetches one group of the parent's window, from the frame `from` on; of a group that is
    /// still open, the frames that there are.
    ///
    /// # Errors
    /// The parent has it not, or the hop broke off.
    pub async fn fetch(
        &self,
        stream: StreamName,
        track: TrackName,
        group: GroupSeq,
        from: u32,
    ) -> Result<FetchedGroup, FetchError> {
        let (reply, answer) = oneshot::channel();
        let fetch = Command::Fetch { stream, track, group, from, reply };
        self.shared.commands.send(fetch).await.map_err(|_| FetchError::Broken)?;
        answer.await.map_err(|_| FetchError::Broken)?
    }

    /// Ends the child's subscriptions to a stream that this node gives up, with the reason and who
    /// may have it. False when the hop is too busy: close it then.
    pub fn revoke(&self, stream: StreamName, refusal: Refusal) -> bool {
        self.shared.serve.try_send(ServeCommand::Revoke(stream, refusal)).is_ok()
    }

    /// Tells the child that this node shuts down; the hop goes on until it is closed.
    pub fn goaway(&self, reason: &str) -> bool {
        self.shared.serve.try_send(ServeCommand::Goaway(reason.to_owned())).is_ok()
    }

    /// Closes the connection.
    pub fn close(&self, reason: &str) {
        self.shared.connection.close(VarInt::from_u32(close_code::DONE), reason.as_bytes());
    }

    /// False when the hop is over or too busy.
    pub(crate) fn command(&self, command: Command) -> bool {
        let sent = self.shared.commands.try_send(command).is_ok();
        if !sent {
            metrics::counter!("headwater_relay_commands_refused_total").increment(1);
        }
        sent
    }
}

impl std::fmt::Debug for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hop")
            .field("peer", &self.shared.connection.remote_address())
            .field("status", &*self.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

/// What all of a hop's tasks know.
#[derive(Clone)]
struct Context {
    connection: Connection,
    options: Arc<HopOptions>,
    source: Arc<dyn Source>,
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

async fn drive(
    context: Context,
    commands: mpsc::Receiver<Command>,
    serve_commands: mpsc::Receiver<ServeCommand>,
    status: watch::Sender<HopStatus>,
) -> HopError {
    let connection = context.connection.clone();
    let _closing = Closing(status.clone());
    connection.set_max_concurrent_uni_streams(context.options.group_streams_max.into());
    let bounds = context.clone();
    let _open = Counted::new("headwater_relay_hops");
    let error = tokio::select! {
        error = take::run(context.clone(), commands, status.clone()) => error,
        error = serve::run(context, serve_commands, status.clone()) => error,
        () = bound_buffers(&bounds.connection) => HopError::Closed,
    };
    let code = match &error {
        HopError::Wire(_) | HopError::Protocol(_) | HopError::Stuck => {
            metrics::counter!("headwater_relay_protocol_errors_total").increment(1);
            tracing::warn!(peer = %connection.remote_address(), %error, "a hop is closed");
            close_code::PROTOCOL
        }
        HopError::Connection(_) | HopError::Closed => close_code::DONE,
    };
    connection.close(VarInt::from_u32(code), error.to_string().as_bytes());
    error
}

/// Least and most bytes that are handed to QUIC and not yet acknowledged. Less than a quarter of a
/// second of 4 Mb/s would idle a link with a long way; more than 16 MiB is no live stream.
const SEND_WINDOW_MIN: u64 = 128 << 10;
const SEND_WINDOW_MAX: u64 = 16 << 20;

/// Keeps what waits in QUIC's send buffer to about what the link carries in two round trips, so
/// that a slow link is noticed here, where whole groups can be left out.
async fn bound_buffers(connection: &Connection) {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut set = 0;
    loop {
        tick.tick().await;
        let stats = connection.stats();
        let window = stats.path.cwnd.saturating_mul(2).clamp(SEND_WINDOW_MIN, SEND_WINDOW_MAX);
        if window != set {
            connection.set_send_window(window);
            set = window;
        }
    }
}

/// One of what a gauge counts, while it lives.
struct Counted(metrics::Gauge);

impl Counted {
    fn new(name: &'static str) -> Self {
        let gauge = metrics::gauge!(name);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// When the last bytes of a group came; cheap to mark.
struct Heard {
    start: Instant,
    micros: AtomicU64,
}

impl Heard {
    fn new(start: Instant) -> Self {
        Self { start, micros: AtomicU64::new(0) }
    }

    fn mark(&self) {
        let micros = u64::try_from(now().saturating_duration_since(self.start).as_micros());
        self.micros.store(micros.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

/// Says that the hop is over, however its driver ends.
struct Closing(watch::Sender<HopStatus>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.closed = true);
    }
}

/// The present, for cores.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
