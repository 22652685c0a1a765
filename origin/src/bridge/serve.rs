//! What this node has for its children: the streams that it owns, and those that it takes from
//! elsewhere, begun when the first child asks.
//!
//! Driver: awaits. Not here: how it is sent (`headwater-relay`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_media::{Broadcast, BroadcastState, Epoch, StreamName};
use headwater_relay::hop::{Found, Source};
use headwater_relay::parent::Refusal;
use headwater_relay::pulls::{Pull, Pulls};
use headwater_relay::route::{Route, Standing};
use headwater_relay::wire::{RefusalCode, StartAt};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Bridge;
use crate::streams::Streams;
use crate::transcode::audio::{AudioBridges, AudioTarget};

/// How often it is looked whether a stream that a child takes has another owner, and sound that
/// other nodes' viewers need made.
const HOLD_INTERVAL: Duration = Duration::from_millis(250);

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a stream for a child, whoever owns it.
struct Holding {
    streams: Streams,
    pulls: Pulls,
    bridges: AudioBridges,
    broadcast: Broadcast,
    standing: watch::Sender<Standing>,
    pull: Option<Pull>,
}

impl Holding {
    /// While this node owns the stream, its sound is made in every codec that viewers may need: the
    /// owner alone transcodes, so that all nodes serve the same bytes. While another node does, it
    /// is taken from there.
    async fn run(mut self) {
        loop {
            let mut changes = None;
            let mut sound = Vec::new();
            if let Some(epoch) = self.owned() {
                self.pull = None;
                let made = AudioTarget::ALL.map(|to| self.bridges.listen(&self.broadcast, to));
                sound.extend(made.into_iter().flatten());
                self.tell(Standing { epoch, route: Route::owner() });
            } else if let Some(pull) = self.pull() {
                let mut standing = pull.standing();
                let now = standing.borrow_and_update().clone();
                changes = Some(standing);
                self.tell(now);
            }
            tokio::select! {
                () = tokio::time::sleep(HOLD_INTERVAL) => {}
                () = changed(&mut changes) => {}
            }
            drop(sound);
        }
    }

    fn owned(&self) -> Option<Epoch> {
        let (broadcast, epoch) = self.streams.owned(self.broadcast.name())?;
        broadcast.is(&self.broadcast).then_some(epoch)
    }

    /// The pull by which the child's very broadcast is kept.
    fn pull(&mut self) -> Option<&Pull> {
        if self.pull.as_ref().is_none_or(|pull| !pull.is_held()) {
            let name = self.broadcast.name();
            let here = self.pulls.get(name).filter(|(here, _)| here.is(&self.broadcast));
            self.pull = here.and_then(|_| self.pulls.pull(name).ok());
        }
        self.pull.as_ref()
    }

    fn tell(&self, now: Standing) {
        self.standing.send_if_modified(|standing| {
            let changed = *standing != now;
            *standing = now;
            changed
        });
    }
}

/// Pending where there is nothing to change.
async fn changed(standing: &mut Option<watch::Receiver<Standing>>) {
    let changed = match standing {
        Some(standing) => standing.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

impl Bridge {
    fn hold(&self, broadcast: Broadcast, standing: Standing, pull: Option<Pull>) -> Found {
        let (sender, standing) = watch::channel(standing);
        let holding = Holding {
            streams: self.streams.clone(),
            pulls: self.pulls.clone(),
            bridges: self.bridges.clone(),
            broadcast: broadcast.clone(),
            standing: sender,
            pull,
        };
        let task = tokio::spawn(holding.run());
        Found { broadcast, standing, hold: Some(Arc::new(AbortOnDrop(task.abort_handle()))) }
    }
}

impl Source for Bridge {
    fn find(&self, stream: &StreamName) -> Result<Found, Refusal> {
        let here = self.streams.owned(stream).or_else(|| self.pulls.get(stream));
        let (broadcast, epoch) = here.ok_or_else(|| Refusal::new(RefusalCode::NotFound))?;
        Ok(Found::owned(broadcast, epoch))
    }

    fn take(&self, stream: &StreamName, from: (Epoch, &StartAt)) -> Result<Found, Refusal> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(Refusal::new(RefusalCode::GoingAway));
        }
        if let Some((broadcast, epoch)) = self.streams.owned(stream) {
            return Ok(self.hold(broadcast, Standing { epoch, route: Route::owner() }, None));
        }
        let owner = self.owner(stream);
        let known = self
            .pulls
            .get(stream)
            .filter(|(broadcast, _)| broadcast.state() != BroadcastState::Ended || owner.is_some());
        let epoch = match (owner, known) {
            (Some((_, epoch)), _) | (None, Some((_, epoch))) => epoch,
            (None, None) => return Err(Refusal::new(RefusalCode::NotFound)),
        };
        let pull = self.pulls.pull_from(stream, (epoch, from.1)).map_err(|error| {
            tracing::warn!(%stream, %error, "not taken for a child");
            Refusal { epoch, ..Refusal::new(RefusalCode::Limit) }
        })?;
        let (broadcast, standing) = (pull.broadcast(), pull.standing().borrow().clone());
        Ok(self.hold(broadcast, standing, Some(pull)))
    }
}
