//! The parent's end: answers one child, and runs what sends its streams.
//!
//! Driver. Not here: what is allowed (`parent`), writing groups (`send`).

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use headwater_media::{Broadcast, BroadcastState, Epoch, Group, Start, Track};
use parking_lot::Mutex;
use quinn::VarInt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control::{ControlReader, ControlWriter};
use super::send::TrackSender;
use super::{Context, Counted, HopError, HopStatus, ServeCommand, wall_now};
use crate::parent::{
    FetchRequest, Parent, ParentOptions, ParentOutput, Refusal, Subscription, Terms,
};
use crate::route::Standing;
use crate::wire::{
    FRAME_HEAD_BYTES_MAX, FrameCoder, GroupHead, Message, Position, RefusalCode, StartAt,
    StreamKind, TRACKS_MAX, TrackEntry, encode_group_end, encode_group_head,
};

/// The tracks of a subscription by their numbers.
type TrackTable = Arc<Mutex<HashMap<u64, Track>>>;

/// A subscription that is being sent.
struct Served {
    stream: headwater_media::StreamName,
    cancel: CancellationToken,
    terms: watch::Sender<Terms>,
    tracks: TrackTable,
}

/// What a task of a subscription came to.
enum Finished {
    Subscription(u64),
    Fetch(u64, Result<(), Refusal>),
}

/// Waits for the child's control stream, then answers it until the end. Pending while the other
/// end asks for nothing.
pub(super) async fn run(
    context: Context,
    commands: mpsc::Receiver<ServeCommand>,
    status: watch::Sender<HopStatus>,
) -> HopError {
    let (send, receive) = match context.connection.accept_bi().await {
        Ok(streams) => streams,
        Err(error) => return error.into(),
    };
    let (control, writer) = ControlWriter::new(send);
    let options = ParentOptions {
        node: context.options.node.clone(),
        version: context.options.version.clone(),
        subscriptions_max: context.options.subscriptions_max,
    };
    let server = Server {
        core: Parent::new(options),
        served: HashMap::new(),
        jobs: JoinSet::new(),
        all: CancellationToken::new(),
        announce: false,
        context,
        control,
        status,
    };
    let _open = Counted::new("headwater_relay_children");
    tokio::select! {
        error = writer => error,
        error = server.serve(ControlReader::new(receive), commands) => error,
    }
}

struct Server {
    context: Context,
    control: ControlWriter,
    status: watch::Sender<HopStatus>,
    core: Parent,
    served: HashMap<u64, Served>,
    jobs: JoinSet<Finished>,
    all: CancellationToken,
    /// The streams that there are may be news to the child.
    announce: bool,
}

impl Server {
    async fn serve(
        mut self,
        mut reader: ControlReader,
        mut commands: mpsc::Receiver<ServeCommand>,
    ) -> HopError {
        let _stop_all = self.all.clone().drop_guard();
        let mut announced = self.context.source.announced();
        loop {
            let step = tokio::select! {
                message = reader.next() => match message {
                    Ok(message) => {
                        let load = self.context.source.load();
                        self.core.handle(message, wall_now(), load).map_err(HopError::from)
                    }
                    Err(error) => Err(error),
                },
                Some(job) = self.jobs.join_next() => {
                    if let Ok(job) = job {
                        self.finished(job);
                    }
                    Ok(())
                }
                Some(command) = commands.recv() => {
                    self.command(command);
                    Ok(())
                }
                Some(()) = changed(&mut announced) => {
                    self.announce = true;
                    Ok(())
                }
                error = self.context.connection.closed() => Err(error.into()),
            };
            if let Err(error) = step.and_then(|()| self.drain()) {
                return error;
            }
            let subscriptions = self.served.len();
            self.status.send_if_modified(|status| {
                std::mem::replace(&mut status.subscriptions, subscriptions) != subscriptions
            });
            if std::mem::take(&mut self.announce)
                && let Some(streams) = &announced
            {
                self.core.announce(&streams.borrow());
                if let Err(error) = self.drain() {
                    return error;
                }
            }
        }
    }

    fn drain(&mut self) -> Result<(), HopError> {
        while let Some(output) = self.core.poll() {
            match output {
                ParentOutput::Send(message) => self.control.send(message)?,
                ParentOutput::Start(subscription) => self.start(subscription),
                ParentOutput::Update(id, terms) => {
                    if let Some(served) = self.served.get(&id) {
                        served.terms.send_replace(terms);
                    }
                }
                ParentOutput::Stop(id) => self.stop(id),
                ParentOutput::Wish(id, track) => {
                    let track =
                        self.served.get(&id).and_then(|s| s.tracks.lock().get(&track).cloned());
                    if let Some(track) = track {
                        track.request_keyframe();
                    }
                }
                ParentOutput::Fetch(request) => self.fetch(request),
                ParentOutput::Named(node) => {
                    let peer = self.context.connection.remote_address();
                    tracing::info!(node, %peer, "a child is served");
                    self.announce = true;
                }
                ParentOutput::Leaving(reason) => {
                    tracing::info!(reason, "a child is leaving");
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, wanted: Subscription) {
        let from = (wanted.epoch, &wanted.start);
        let found = match self.context.source.take(&wanted.stream, from) {
            Ok(found) => found,
            Err(refusal) => return self.core.refuse(wanted.id, &refusal),
        };
        let followed = found.standing.borrow().epoch;
        let epoch = epoch_of(&found.broadcast, followed);
        if epoch < wanted.epoch {
            let refusal = Refusal { epoch, ..Refusal::new(RefusalCode::EpochTooOld) };
            return self.core.refuse(wanted.id, &refusal);
        }
        let (terms, terms_seen) = watch::channel(wanted.terms);
        let served = Served {
            stream: wanted.stream.clone(),
            cancel: self.all.child_token(),
            terms,
            tracks: TrackTable::default(),
        };
        let sender = StreamSender {
            context: self.context.clone(),
            control: self.control.clone(),
            tracks: Arc::clone(&served.tracks),
            cancel: served.cancel.clone(),
            terms: terms_seen,
            broadcast: found.broadcast,
            standing: found.standing,
            wanted,
            _hold: found.hold,
        };
        let id = sender.wanted.id;
        tracing::debug!(stream = %served.stream, id, "a child subscribes");
        let open = Counted::new("headwater_relay_subscriptions");
        self.served.insert(id, served);
        self.jobs.spawn(async move {
            sender.run().await;
            drop(open);
            Finished::Subscription(id)
        });
    }

    fn stop(&mut self, id: u64) {
        if let Some(served) = self.served.remove(&id) {
            tracing::debug!(stream = %served.stream, id, "a child unsubscribes");
            served.cancel.cancel();
        }
    }

    fn finished(&mut self, job: Finished) {
        match job {
            Finished::Subscription(id) => {
                self.served.remove(&id);
                self.core.done(id);
            }
            Finished::Fetch(id, Ok(())) => self.core.done(id),
            Finished::Fetch(id, Err(refusal)) => self.core.refuse(id, &refusal),
        }
    }

    fn command(&mut self, command: ServeCommand) {
        match command {
            ServeCommand::Revoke(stream, refusal) => {
                let of_stream = |served: &Served| served.stream == stream;
                let ids: Vec<_> =
                    self.served.iter().filter(|(_, s)| of_stream(s)).map(|(id, _)| *id).collect();
                for id in ids {
                    self.core.refuse(id, &refusal);
                    self.stop(id);
                }
            }
            ServeCommand::Goaway(reason) => self.core.leave(&reason),
        }
    }

    fn fetch(&mut self, request: FetchRequest) {
        let found = self.context.source.find(&request.stream);
        let connection = self.context.connection.clone();
        let cancel = self.all.clone();
        self.jobs.spawn(async move {
            let id = request.id;
            let sent = async {
                let broadcast = found?.broadcast;
                send_group(&connection, &broadcast, &request).await
            };
            let result = tokio::select! {
                result = sent => result,
                () = cancel.cancelled() => Ok(()),
            };
            Finished::Fetch(id, result)
        });
    }
}

async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) -> Option<()> {
    match watched {
        Some(watched) => watched.changed().await.ok(),
        None => std::future::pending().await,
    }
}

/// The highest epoch that the node and its bus know of a stream.
fn epoch_of(broadcast: &Broadcast, followed: Epoch) -> Epoch {
    let newest = |track: &Track| track.newest().map(|group| group.header().epoch);
    broadcast.tracks().iter().filter_map(newest).fold(followed, Ord::max)
}

/// Sends all that there is of a group from a frame on.
async fn send_group(
    connection: &quinn::Connection,
    broadcast: &Broadcast,
    request: &FetchRequest,
) -> Result<(), Refusal> {
    let not_found = || Refusal::new(RefusalCode::NotFound);
    let track = broadcast.track(&request.track).ok_or_else(not_found)?;
    let group = track.group(request.group).filter(|group| !group.is_torn());
    let group = group.ok_or_else(not_found)?;
    let final_len = group.final_len();
    let len = final_len.unwrap_or_else(|| group.len());
    let header = group.header().clone();
    let mut coder = FrameCoder::new(&header);
    let kind = StreamKind::Fetch { id: request.id };
    let head = GroupHead { kind, header, first_frame: request.frame, skipped: 0 };
    let head = encode_group_head(&head).map_err(|_| not_found())?;
    let lost = |_| Refusal::new(RefusalCode::GoingAway);
    let mut stream = connection.open_uni().await.map_err(lost)?;
    // Behind all that is live.
    let _ = stream.set_priority(-1);
    let lost = |_| Refusal::new(RefusalCode::GoingAway);
    stream.write_chunk(head).await.map_err(lost)?;
    for frame in (request.frame..len).filter_map(|index| group.frame(index)) {
        let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES_MAX);
        coder.encode(frame, &mut head);
        let mut chunks = [head.freeze(), frame.payload.clone()];
        stream.write_all_chunks(&mut chunks).await.map_err(lost)?;
    }
    if final_len.is_some() {
        let mut end = BytesMut::new();
        encode_group_end(len, &mut end);
        stream.write_chunk(end.freeze()).await.map_err(lost)?;
    }
    let _ = stream.finish();
    Ok(())
}

/// A broadcast on its way to a child.
struct StreamSender {
    context: Context,
    control: ControlWriter,
    tracks: TrackTable,
    cancel: CancellationToken,
    terms: watch::Receiver<Terms>,
    broadcast: Broadcast,
    standing: watch::Receiver<Standing>,
    wanted: Subscription,
    /// Kept for as long as the stream is sent.
    _hold: Option<Arc<dyn Any + Send + Sync>>,
}

/// A track that the child was told of.
struct Listed {
    entry: TrackEntry,
    track: Track,
    cancel: CancellationToken,
}

impl StreamSender {
    /// Until the broadcast ends or the child has enough.
    async fn run(mut self) {
        let mut watch = self.broadcast.watch();
        let mut senders = JoinSet::new();
        let mut listed: Vec<Listed> = Vec::new();
        let mut next_id = 0u64;
        let mut told = None;
        let mut may_change = true;
        loop {
            // Before the tracks: when the stream is said to come, they are all there.
            let standing = self.standing.borrow_and_update().clone();
            self.list(&mut listed, &mut next_id, &mut senders);
            let state = self.broadcast.state();
            let done = listed.iter().all(|one| one.entry.finished.is_some());
            // The end is told once everything has been sent.
            let ended = state == BroadcastState::Ended && done;
            let state = match state {
                BroadcastState::Ended if !done => BroadcastState::Waiting,
                other => other,
            };
            let tracks: Vec<_> = listed.iter().map(|one| one.entry.clone()).collect();
            let message = self.message(state, tracks, standing);
            if told.as_ref() != Some(&message) {
                if self.control.send(message.clone()).is_err() {
                    // The hop's end is noticed by its reader; one that is stuck is ended here.
                    let code = VarInt::from_u32(crate::wire::close_code::PROTOCOL);
                    self.context.connection.close(code, b"control stream not read");
                    return;
                }
                told = Some(message);
            }
            if ended {
                return;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                // It holds the broadcast itself, so that changes never end.
                _ = watch.changed() => {}
                changed = self.standing.changed(), if may_change => may_change = changed.is_ok(),
                Some(sent) = senders.join_next() => {
                    if let Ok((id, orders)) = sent
                        && let Some(one) = listed.iter_mut().find(|one| one.entry.id == id)
                    {
                        one.entry.finished = Some(orders);
                    }
                }
            }
        }
        while senders.join_next().await.is_some() {}
    }

    fn message(
        &self,
        state: BroadcastState,
        tracks: Vec<TrackEntry>,
        standing: Standing,
    ) -> Message {
        let epoch = epoch_of(&self.broadcast, standing.epoch);
        let own = self.context.options.id;
        let route = own.map_or(standing.route.clone(), |own| standing.route.through(own));
        Message::Tracks { id: self.wanted.id, epoch, state, tracks, route }
    }

    /// Brings the list up to date and begins to send what is new.
    fn list(
        &mut self,
        listed: &mut Vec<Listed>,
        next_id: &mut u64,
        senders: &mut JoinSet<(u64, u64)>,
    ) {
        let tracks = self.broadcast.tracks();
        listed.retain(|one| {
            let stays = tracks.iter().any(|track| track.is(&one.track));
            if !stays && !one.track.is_finished() {
                one.cancel.cancel();
            }
            stays
        });
        for track in tracks.iter().take(TRACKS_MAX) {
            let wanted = self.wanted.track.as_ref().is_none_or(|name| name == track.name());
            if !wanted || listed.iter().any(|one| one.track.is(track)) {
                continue;
            }
            let id = *next_id;
            *next_id += 1;
            let (name, kind) = (track.name().clone(), track.kind());
            let start = start_of(&self.wanted.start, track);
            let entry = TrackEntry { id, name, kind, finished: None };
            let cancel = self.cancel.child_token();
            listed.push(Listed { entry, track: track.clone(), cancel: cancel.clone() });
            let sender = TrackSender {
                connection: self.context.connection.clone(),
                control: self.control.clone(),
                subscription: self.wanted.id,
                id,
                track: track.clone(),
                terms: self.terms.clone(),
                cancel,
                behind_since: None,
            };
            senders.spawn(async move { (id, sender.run(start).await) });
        }
        let table = listed.iter().map(|one| (one.entry.id, one.track.clone())).collect();
        *self.tracks.lock() = table;
    }
}

/// Where a track begins: at the child's position, else with the whole group before the newest one at
/// which a viewer would begin. Players of segments need a whole one; and those that come to the
/// child from another node know that group, and see by it where the newer ones belong.
fn start_of(start: &StartAt, track: &Track) -> Start {
    let at = match start {
        StartAt::Newest => None,
        StartAt::Positions(positions) => positions.iter().find(|at| at.track == *track.name()),
    };
    at.map_or_else(
        || before_newest(track),
        |Position { group, frame, .. }| Start::At(*group, *frame),
    )
}

fn before_newest(track: &Track) -> Start {
    let window = track.window();
    let independent = |group: &Arc<Group>| group.header().independent;
    let newest = window.iter().rposition(independent);
    let before = newest.and_then(|at| window.get(at.checked_sub(1)?));
    match before.filter(|group| independent(group) && !group.is_torn()) {
        Some(group) => Start::At(group.seq(), 0),
        None => Start::Newest,
    }
}
