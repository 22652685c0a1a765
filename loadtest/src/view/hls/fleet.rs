//! A thread of clients that ask for one playlist, and the crowd that holds requests open to show
//! what a waiting request costs a server. Driver: threads, the clock.
//!
//! Not here: when they ask (`askers`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::Waker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::askers::{Askers, Pace};
use super::h1::{Command, Driver};
use super::probe;
use super::target::Server;
use crate::live::Side;
use crate::view::{Crowd, Target};

/// Commands that wait for the thread; whoever sends more waits.
const COMMANDS_MAX: usize = 64;
/// A request may wait this long: longer than any server holds one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Descriptors that a process needs beside its connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// See the module. Dropping it ends the thread.
pub struct Fleet {
    side: Arc<Side>,
    sender: Option<SyncSender<Command<Askers>>>,
    waker: Waker,
    handle: Option<JoinHandle<Option<Askers>>>,
}

impl Fleet {
    /// A thread for clients of the playlist at `path`; nobody has joined yet.
    ///
    /// # Errors
    /// The system has no thread or no epoll left.
    pub fn start(
        server: Server,
        path: Arc<str>,
        pace: Pace,
        kind: &'static str,
    ) -> anyhow::Result<Self> {
        let side = Arc::new(Side::new(kind));
        let askers = Askers::new(path, pace, Arc::clone(&side));
        let (driver, waker) = Driver::new(askers, server, PATIENCE, Instant::now())?;
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let work = move || match driver.run(&receiver) {
            Ok(askers) => Some(askers),
            Err(error) => {
                tracing::error!(%error, "a thread of clients failed");
                None
            }
        };
        let handle = std::thread::Builder::new().name(kind.to_owned()).spawn(work)?;
        Ok(Self { side, sender: Some(sender), waker, handle: Some(handle) })
    }

    /// Has the thread do something with its clients.
    pub fn tell(&self, command: Command<Askers>) {
        // A thread that failed has said so in the log.
        let _ = self.sender.as_ref().map(|sender| sender.send(command));
        let _ = self.waker.wake();
    }

    /// Ends the thread; gives its clients back, where it did not fail before.
    pub fn end(&mut self) -> Option<Askers> {
        drop(self.sender.take());
        let _ = self.waker.wake();
        self.handle.take()?.join().ok()?
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

impl Crowd for Fleet {
    fn side(&self) -> &Arc<Side> {
        &self.side
    }

    fn join(&mut self, count: usize) {
        self.tell(Box::new(move |askers, now, asks| askers.join(now, count, asks)));
    }

    /// They all stay: what they hold is what is measured.
    fn leave(&mut self, _: usize) {}

    fn stop(&mut self) {
        self.end();
    }
}

/// A crowd each of which holds one request for the segment after the open one: every request
/// waits for a group at least.
///
/// # Errors
/// The stream is not there.
pub fn waiting(target: &Target) -> anyhow::Result<Fleet> {
    allow_connections(0)?;
    let url = target.urls.first().context("no stream to wait for")?;
    let (server, path) = Server::of(url, target.token.as_deref(), true)?;
    let (path, _) = probe::media_playlist(&server, &path)?;
    Fleet::start(server, path, Pace::Segment, "hls-waiting")
}

/// Lets this process have as many descriptors as the system allows it, and refuses what exceeds
/// them.
///
/// # Errors
/// `connections` do not fit.
pub fn allow_connections(connections: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let wanted = connections.saturating_add(DESCRIPTORS_BESIDE);
    match limit.maximum {
        Some(maximum) if maximum < wanted => bail!(
            "{connections} connections need {wanted} descriptors, and the system allows {maximum}: \
             raise the limit (ulimit -Hn), or share the load among processes"
        ),
        _ => Ok(()),
    }
}
