//! Viewers by WHEP, by the thousand: a few threads, each with a task and a socket a viewer.
//! Nothing is decoded; NACK, RTX, PLI and TWCC are the engine's own.
//!
//! Not here: LL-HLS, what frames are made of (`frames`), one viewer (`viewer`).
#![allow(clippy::disallowed_methods, reason = "driver: threads, waits")]

mod frames;
mod viewer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::{Crowd, Target};
use crate::histogram::Histogram;
use crate::http::{self, Http};
use crate::live::{Side, add};
use crate::rtc::Engine;

/// How often a thread hands on what it counted.
const FLUSH: Duration = Duration::from_millis(200);
/// Handshakes of one thread at once: more would time each other out.
const JOINING_MAX: usize = 64;

/// How viewers behave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Behaviour {
    /// Share of received RTP packets that are dropped, 0 to 1.
    pub drop: f64,
    /// Once connected it reads nothing any more and says nothing.
    pub dead: bool,
}

/// A crowd of WHEP viewers.
pub struct WhepCrowd {
    side: Arc<Side>,
    threads: Vec<Thread>,
    joined: usize,
    left: usize,
}

struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    /// Views the stream at this URL.
    Join(String),
    /// The viewer of this thread that came first leaves.
    Leave,
}

/// What the viewers of a thread share.
pub(super) struct Shared {
    http: Http,
    engine: Engine,
    local: SocketAddr,
    behaviour: Behaviour,
    frame_interval_us: u64,
    tally: Tally,
    side: Arc<Side>,
    joining: tokio::sync::Semaphore,
}

/// Counts of a thread since it last handed them on.
#[derive(Default)]
pub(super) struct Tally {
    frames: Cell<u64>,
    packets: Cell<u64>,
    bytes: Cell<u64>,
    dropped: Cell<u64>,
    latency: RefCell<Histogram>,
}

impl Tally {
    fn flush(&self, side: &Side) {
        add(&side.frames, self.frames.take());
        add(&side.packets, self.packets.take());
        add(&side.bytes, self.bytes.take());
        add(&side.dropped, self.dropped.take());
        side.latencies(&self.latency.take());
    }
}

fn count(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

impl WhepCrowd {
    /// Nobody yet, on so many threads.
    ///
    /// # Errors
    /// The server has no address, or threads cannot be started.
    pub async fn start(
        target: &Target,
        behaviour: Behaviour,
        threads: usize,
        side: Arc<Side>,
    ) -> anyhow::Result<Self> {
        let url = target.urls.first().context("there is no stream to view")?;
        let local = http::local_address(url).await?;
        let engine = Engine::new()?;
        let mut started = Vec::new();
        for number in 0..threads.max(1) {
            let (commands, inbox) = mpsc::unbounded_channel();
            let (target, engine, side) = (target.clone(), engine.clone(), Arc::clone(&side));
            let work = move || {
                let shared = Shared {
                    http: Http::new(target.token.clone()),
                    engine,
                    local,
                    behaviour,
                    frame_interval_us: target.frame_interval_us,
                    tally: Tally::default(),
                    side,
                    joining: tokio::sync::Semaphore::new(JOINING_MAX),
                };
                serve(Rc::new(shared), inbox);
            };
            let thread = std::thread::Builder::new().name(format!("whep-{number}"));
            let thread = thread.spawn(work).context("no thread can be started")?;
            started.push(Thread { commands, thread: Some(thread) });
        }
        Ok(Self { side, threads: started, joined: 0, left: 0 })
    }

    /// Joins viewers of the stream at this URL.
    fn join_one(&mut self, url: &str) {
        let thread = self.threads.get(self.joined % self.threads.len().max(1));
        if let Some(thread) = thread {
            // A thread ends only after its channel.
            let _ = thread.commands.send(Command::Join(url.to_owned()));
        }
        self.joined += 1;
    }
}

/// A crowd with what it views.
pub struct Viewing {
    crowd: WhepCrowd,
    urls: Vec<String>,
}

impl Viewing {
    /// Viewers that spread over the target's streams.
    #[must_use]
    pub fn new(crowd: WhepCrowd, target: Target) -> Self {
        Self { crowd, urls: target.urls }
    }
}

impl Crowd for Viewing {
    fn side(&self) -> &Arc<Side> {
        &self.crowd.side
    }

    fn join(&mut self, count: usize) {
        for _ in 0..count {
            let at = self.crowd.joined % self.urls.len().max(1);
            if let Some(url) = self.urls.get(at) {
                self.crowd.join_one(&url.clone());
            }
        }
    }

    fn leave(&mut self, count: usize) {
        let crowd = &mut self.crowd;
        for _ in 0..count.min(crowd.joined - crowd.left) {
            if let Some(thread) = crowd.threads.get(crowd.left % crowd.threads.len().max(1)) {
                let _ = thread.commands.send(Command::Leave);
            }
            crowd.left += 1;
        }
    }

    fn stop(&mut self) {
        for mut thread in self.crowd.threads.drain(..) {
            drop(thread.commands);
            if let Some(handle) = thread.thread.take() {
                // A thread that panicked has said so.
                let _ = handle.join();
            }
        }
    }
}

/// A thread: joins and leaves viewers until its channel closes, then lets all leave.
fn serve(shared: Rc<Shared>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else {
        shared.side.fail("a thread has no event loop");
        return;
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let mut viewers: VecDeque<(watch::Sender<bool>, tokio::task::JoinHandle<()>)> =
            VecDeque::new();
        let mut flush = tokio::time::interval(FLUSH);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Join(url)) => {
                        let (leave, left) = watch::channel(false);
                        let viewer = viewer::run(Rc::clone(&shared), url, left);
                        viewers.push_back((leave, tokio::task::spawn_local(viewer)));
                    }
                    Some(Command::Leave) => {
                        if let Some((leave, _)) = viewers.pop_front() {
                            let _ = leave.send(true);
                        }
                    }
                    None => break,
                },
                _ = flush.tick() => {
                    shared.tally.flush(&shared.side);
                    viewers.retain(|(_, task)| !task.is_finished());
                }
            }
        }
        for (leave, _) in &viewers {
            let _ = leave.send(true);
        }
        for (_, task) in viewers {
            let _ = task.await;
        }
        shared.tally.flush(&shared.side);
    });
}
