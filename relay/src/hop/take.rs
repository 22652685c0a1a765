//! The child's end: asks one parent for streams, and runs what reads their groups.
//!
//! Driver. Not here: what is said (`child`), reading groups (`read`), which parent a stream is
//! taken from (`pulls`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headwater_media::{Broadcast, GroupSeq, StreamName, TrackName};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control::{ControlReader, ControlWriter};
use super::read::{self, ReadContext};
use super::{Context, FetchError, FetchedGroup, Heard, HopError, HopStatus, now, wall_now};
use crate::child::{Child, ChildEvent, ChildOptions, ChildOutput};
use crate::intake::{Intake, SourceId};
use crate::parent::{Refusal, Terms};
use crate::route::Route;
use crate::wire::{RefusalCode, TrackEntry};

/// A parent's clock that is off by less than this from what is known is no news: what it is
/// for, the delay that a viewer sees, is told in milliseconds.
const CLOCK_TOLERANCE_MICROS: u64 = 2_000;

/// Wishes for keyframes on their way to the parent.
const WISHES_MAX: usize = 256;

/// A stream's intake as tasks share it.
pub(crate) struct TakenStream {
    pub(crate) name: StreamName,
    pub(crate) intake: Mutex<Intake>,
    /// The last refusal of a subscription.
    pub(crate) refused: Mutex<Option<(SourceId, Refusal)>>,
    /// Wakes who chooses parents.
    pub(crate) changed: Arc<Notify>,
}

/// What a hop is asked by its node.
pub(crate) enum Command {
    Subscribe {
        taken: Arc<TakenStream>,
        source: SourceId,
        terms: Option<Terms>,
    },
    Unsubscribe {
        source: SourceId,
    },
    /// Nothing but to see whether the other end answers.
    Watch,
    Fetch {
        stream: StreamName,
        track: TrackName,
        group: GroupSeq,
        from: u32,
        reply: oneshot::Sender<Result<FetchedGroup, FetchError>>,
    },
}

/// A subscription's stream and number on this node.
#[derive(Clone)]
pub(super) struct Taking {
    pub(super) taken: Arc<TakenStream>,
    pub(super) source: SourceId,
    cancel: CancellationToken,
}

/// Who waits for a fetched group.
pub(super) type FetchReply = oneshot::Sender<Result<FetchedGroup, FetchError>>;

/// What the readers of groups look up.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) taking: HashMap<u64, Taking>,
    pub(super) fetches: HashMap<u64, FetchReply>,
}

/// Serves commands until the hop ends. The control stream is opened for the first one.
pub(super) async fn run(
    context: Context,
    mut commands: mpsc::Receiver<Command>,
    status: watch::Sender<HopStatus>,
) -> HopError {
    let Some(first) = commands.recv().await else {
        // No handle is left that could ask for anything: this end only serves.
        return context.connection.closed().await.into();
    };
    let (send, receive) = match context.connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => return error.into(),
    };
    let options = ChildOptions {
        node: context.options.node.clone(),
        version: context.options.version.clone(),
        announcements: context.options.announcements,
        ping_interval: context.options.ping_interval,
        silent_after: context.options.silent_after,
    };
    let (control, writer) = ControlWriter::new(send);
    let taker = Taker {
        core: Child::new(options, now(), wall_now()),
        tables: Arc::default(),
        ids: HashMap::new(),
        context,
        control,
        status,
        heard: Arc::new(Heard::new(now())),
        watched: HashSet::new(),
        routes: HashMap::new(),
        clock_told: None,
    };
    let _open = super::Counted::new("headwater_relay_parents");
    tokio::select! {
        error = writer => error,
        error = taker.take(ControlReader::new(receive), commands, first) => error,
    }
}

struct Taker {
    context: Context,
    control: ControlWriter,
    core: Child,
    status: watch::Sender<HopStatus>,
    tables: Arc<Mutex<Tables>>,
    ids: HashMap<SourceId, u64>,
    heard: Arc<Heard>,
    watched: HashSet<(u64, u64)>,
    /// What the parent said of the way of each subscription.
    routes: HashMap<u64, Route>,
    /// The clock's offset that the intakes know.
    clock_told: Option<i64>,
}

impl Taker {
    async fn take(
        mut self,
        mut reader: ControlReader,
        mut commands: mpsc::Receiver<Command>,
        first: Command,
    ) -> HopError {
        let mut groups = JoinSet::new();
        let mut watchers = JoinSet::new();
        let (wishes, mut wished) = mpsc::channel(WISHES_MAX);
        self.command(first);
        loop {
            if let Err(error) = self.drain(&mut watchers, &wishes) {
                return error;
            }
            let wake_at = tokio::time::Instant::from_std(self.core.wake_at());
            let step = tokio::select! {
                message = reader.next() => match message {
                    Ok(message) => {
                        self.core.handle(message, now(), wall_now()).map_err(HopError::from)
                    }
                    Err(error) => Err(error),
                },
                stream = self.context.connection.accept_uni() => match stream {
                    Ok(stream) => {
                        let context = ReadContext {
                            tables: Arc::clone(&self.tables),
                            frame_bytes: self.context.options.limits.frame_bytes,
                            group_bytes: self.context.options.limits.track_bytes,
                            heard: Arc::clone(&self.heard),
                        };
                        groups.spawn(read::group(stream, context));
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                },
                Some(read) = groups.join_next() => read.unwrap_or(Ok(())),
                Some(command) = commands.recv() => {
                    self.command(command);
                    Ok(())
                }
                Some((id, track)) = wished.recv() => {
                    self.core.wish(id, track, now());
                    Ok(())
                }
                Some(_) = watchers.join_next() => Ok(()),
                () = tokio::time::sleep_until(wake_at) => {
                    self.core.heard(self.heard.last());
                    self.core.tick(now(), wall_now(), self.context.source.load());
                    Ok(())
                }
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Subscribe { taken, source, terms } => {
                let from = taken.intake.lock().begin(source);
                let terms = terms.unwrap_or(self.context.options.terms);
                let id = self.core.subscribe(taken.name.clone(), None, from, terms);
                tracing::debug!(stream = %taken.name, id, "subscribing");
                self.ids.insert(source, id);
                let taking = Taking { taken, source, cancel: CancellationToken::new() };
                self.tables.lock().taking.insert(id, taking);
            }
            Command::Unsubscribe { source } => {
                if let Some(id) = self.ids.remove(&source) {
                    self.core.unsubscribe(id);
                    self.forget(id);
                }
            }
            Command::Fetch { stream, track, group, from, reply } => {
                let id = self.core.fetch(stream, track, group, from);
                self.tables.lock().fetches.insert(id, reply);
            }
            Command::Watch => {}
        }
    }

    fn forget(&mut self, id: u64) -> Option<Taking> {
        let taking = self.tables.lock().taking.remove(&id)?;
        self.ids.remove(&taking.source);
        self.watched.retain(|(of, _)| *of != id);
        self.routes.remove(&id);
        taking.cancel.cancel();
        taking.taken.intake.lock().stop(taking.source);
        Some(taking)
    }

    fn drain(
        &mut self,
        watchers: &mut JoinSet<()>,
        wishes: &mpsc::Sender<(u64, u64)>,
    ) -> Result<(), HopError> {
        while let Some(output) = self.core.poll() {
            match output {
                ChildOutput::Send(message) => self.control.send(message)?,
                ChildOutput::Event(event) => self.event(event, watchers, wishes),
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        event: ChildEvent,
        watchers: &mut JoinSet<()>,
        wishes: &mpsc::Sender<(u64, u64)>,
    ) {
        match event {
            ChildEvent::Tracks { id, epoch, state, tracks, route } => {
                let taking = self.tables.lock().taking.get(&id).cloned();
                let Some(taking) = taking else { return };
                if self.context.options.id.is_some_and(|own| route.is_ring_for(own)) {
                    self.leave_ring(id, &route);
                    return;
                }
                let mut intake = taking.taken.intake.lock();
                intake.route(taking.source, route.clone().behind(self.clock_told));
                self.routes.insert(id, route);
                intake.tracks(taking.source, epoch, state, &tracks);
                let broadcast = intake.broadcast().borrow().clone();
                drop(intake);
                self.watch_wishes(&taking, (id, &tracks), &broadcast, watchers, wishes);
                taking.taken.changed.notify_one();
            }
            ChildEvent::Refused(id, refusal) => {
                self.core.fetched(id);
                if let Some(reply) = self.tables.lock().fetches.remove(&id) {
                    let _ = reply.send(Err(FetchError::Refused(refusal)));
                    return;
                }
                self.refused(id, refusal);
            }
            ChildEvent::Dropped(id, track, order) => {
                let taking = self.tables.lock().taking.get(&id).cloned();
                if let Some(taking) = taking {
                    taking.taken.intake.lock().dropped(taking.source, track, order);
                }
            }
            ChildEvent::Named(node) => {
                let peer = self.context.connection.remote_address();
                tracing::info!(node, %peer, "a parent answers");
                self.status.send_modify(|status| status.node = Some(node));
            }
            ChildEvent::Goaway(reason) => {
                self.status.send_modify(|status| status.goaway = Some(reason));
                self.wake_all();
            }
            ChildEvent::Silent(silent) => {
                let steady = (!silent).then(now);
                self.status.send_modify(|status| {
                    status.silent = silent;
                    status.steady_since = steady.or(status.steady_since);
                });
                self.wake_all();
            }
            ChildEvent::Measured(load) => {
                let clock_offset_micros = self.core.clock().micros();
                let round_trip = self.core.clock().round_trip();
                self.status.send_if_modified(|status| {
                    let new = HopStatus { clock_offset_micros, round_trip, load, ..status.clone() };
                    let changed = *status != new;
                    *status = new;
                    changed
                });
                self.tell_clock(clock_offset_micros);
            }
            ChildEvent::Announced(announced) => {
                tracing::debug!(stream = %announced.stream, "a parent has a stream");
            }
            ChildEvent::Unannounced(stream) => {
                tracing::debug!(%stream, "a parent has a stream no more");
            }
        }
    }

    /// The subscription is over: who chooses parents is told why.
    fn refused(&mut self, id: u64, refusal: Refusal) {
        if let Some(taking) = self.forget(id) {
            let code = refusal.code.as_str();
            tracing::debug!(stream = %taking.taken.name, code, "a parent refuses");
            *taking.taken.refused.lock() = Some((taking.source, refusal));
            taking.taken.changed.notify_one();
        }
    }

    /// The parent takes the stream from this node, over others perhaps.
    fn leave_ring(&mut self, id: u64, route: &Route) {
        metrics::counter!("headwater_relay_rings_total").increment(1);
        tracing::debug!(id, nodes = ?route.nodes, "a parent's way to a stream leads back here");
        self.core.unsubscribe(id);
        self.refused(id, Refusal::new(RefusalCode::NotOwner));
    }

    /// Tells the intakes of the parent's clock, if it has moved by enough to matter.
    fn tell_clock(&mut self, offset_micros: Option<i64>) {
        let moved = self.clock_told.zip(offset_micros).map(|(told, now)| told.abs_diff(now));
        if moved.map_or(offset_micros.is_none(), |moved| moved < CLOCK_TOLERANCE_MICROS) {
            return;
        }
        self.clock_told = offset_micros;
        let tables = self.tables.lock();
        for (id, route) in &self.routes {
            if let Some(taking) = tables.taking.get(id) {
                let route = route.clone().behind(offset_micros);
                taking.taken.intake.lock().clock(taking.source, &route);
            }
        }
    }

    /// Passes on wishes for keyframes of the tracks that are listed for the first time.
    fn watch_wishes(
        &mut self,
        taking: &Taking,
        (id, tracks): (u64, &[TrackEntry]),
        broadcast: &Broadcast,
        watchers: &mut JoinSet<()>,
        wishes: &mpsc::Sender<(u64, u64)>,
    ) {
        self.watched.retain(|(of, track)| *of != id || tracks.iter().any(|e| e.id == *track));
        for entry in tracks {
            let Some(track) = broadcast.track(&entry.name) else { continue };
            if !self.watched.insert((id, entry.id)) {
                continue;
            }
            let (number, cancel, wishes) = (entry.id, taking.cancel.clone(), wishes.clone());
            let mut wished = track.keyframe_wishes();
            watchers.spawn(async move {
                loop {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        changed = wished.changed() => {
                            if changed.is_err() || wishes.send((id, number)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    }

    fn wake_all(&self) {
        for taking in self.tables.lock().taking.values() {
            taking.taken.changed.notify_one();
        }
    }

    /// The hop is over: groups in flight stay open for another parent.
    fn end(&mut self) {
        self.status.send_modify(|status| status.closed = true);
        let ids: Vec<_> = self.tables.lock().taking.keys().copied().collect();
        for id in ids {
            if let Some(taking) = self.forget(id) {
                taking.taken.changed.notify_one();
            }
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.end();
    }
}
