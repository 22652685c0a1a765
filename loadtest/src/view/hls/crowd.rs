//! A crowd of LL-HLS viewers for a scenario: threads that drive them, over HTTP/1.1 or HTTP/2.
//! Driver: threads, the clock.
//!
//! Not here: what a viewer does (`viewers`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use mio::Waker;
use tokio::sync::mpsc as tokio_mpsc;

use super::client::ANSWER_TIME_MAX;
use super::findings::{Findings, Summary};
use super::fleet::allow_connections;
use super::h1::{Command, Driver};
use super::h2;
use super::target::Server;
use super::viewers::{ViewerOptions, Viewers};
use crate::clock;
use crate::live::Side;
use crate::units;
use crate::view::{Crowd, Target};

/// Commands that wait for a thread; whoever sends more waits.
const COMMANDS_MAX: usize = 256;

/// The version of HTTP that viewers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Http {
    /// HTTP/1.1, up to six connections a viewer.
    #[default]
    #[value(name = "1")]
    One,
    /// HTTP/2 in clear text, one connection a viewer.
    #[value(name = "2")]
    Two,
}

/// How LL-HLS viewers behave.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Viewers by LL-HLS")]
pub struct HlsOptions {
    /// Version of HTTP: 1 with up to six connections a viewer, or 2 in clear text with one
    #[arg(long, value_enum, default_value = "1")]
    pub http: Http,
    /// Leave sound alone
    #[arg(long)]
    pub video_only: bool,
    /// Never ask for delta updates (`_HLS_skip`)
    #[arg(long)]
    pub no_delta: bool,
    /// Ask for playlists as they are, not compressed with gzip
    #[arg(long)]
    pub no_gzip: bool,
    /// Share of the viewers that look into their parts for stamps
    #[arg(long, value_name = "1/N", default_value = "1/50", value_parser = sample)]
    pub sample: u32,
    /// Time after a part's birth from which it, or its playlist, counts as late
    #[arg(long, default_value = "20ms", value_parser = units::duration)]
    pub late_after: Duration,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self {
            http: Http::One,
            video_only: false,
            no_delta: false,
            no_gzip: false,
            sample: 50,
            late_after: Duration::from_millis(20),
        }
    }
}

fn sample(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").unwrap_or(text).parse().ok();
    number.filter(|number| *number > 0).ok_or_else(|| "give a number, or 1/NUMBER".to_owned())
}

/// LL-HLS viewers.
pub struct HlsCrowd {
    side: Arc<Side>,
    threads: Vec<Thread>,
    /// The threads that are next to gain and to lose a viewer.
    next_in: usize,
    next_out: usize,
    late_after: Duration,
    found: Arc<Mutex<Findings>>,
}

struct Thread {
    commands: Commands,
    handle: JoinHandle<()>,
}

enum Commands {
    H1(SyncSender<Command<Viewers>>, Waker),
    H2(tokio_mpsc::Sender<Command<Viewers>>),
}

impl HlsCrowd {
    /// Viewers of `target`; none has joined yet.
    ///
    /// # Errors
    /// A URL is wrong, or names another server than the first.
    pub fn start(target: &Target, options: &HlsOptions, threads: usize) -> anyhow::Result<Self> {
        allow_connections(0)?;
        let mut server = None;
        let mut paths = Vec::new();
        for url in &target.urls {
            let (of_url, path) = Server::of(url, target.token.as_deref(), !options.no_gzip)?;
            let first = server.get_or_insert(of_url.clone());
            if first.authority != of_url.authority {
                bail!("all streams must be on one server: {url:?} is on another");
            }
            paths.push(path);
        }
        let server = server.context("no stream to view")?;
        let side = Arc::new(Side::new("hls"));
        let (began, epoch_us) = (Instant::now(), clock::now_us());
        let late_after = options.late_after;
        let viewers = ViewerOptions {
            paths,
            video_only: options.video_only,
            delta: !options.no_delta,
            sample: options.sample,
            late_after,
            epoch_us,
        };
        let found = Arc::new(Mutex::default());
        let count = threads.max(1);
        let mut threads = Vec::new();
        for number in 0..count {
            let viewers = Viewers::new(viewers.clone(), Arc::clone(&side));
            let name = format!("hls-{number}");
            let found = Arc::clone(&found);
            threads.push(match options.http {
                Http::One => thread_h1(name, viewers, server.clone(), began, found)?,
                Http::Two => thread_h2(name, viewers, server.clone(), began, found)?,
            });
        }
        Ok(Self { side, threads, next_in: 0, next_out: 0, late_after, found })
    }
}

impl Thread {
    fn tell(&self, command: Command<Viewers>) {
        // A thread that failed has said so in the log.
        match &self.commands {
            Commands::H1(sender, waker) => {
                let _ = sender.send(command);
                let _ = waker.wake();
            }
            Commands::H2(sender) => {
                if let Err(error) = sender.try_send(command) {
                    tracing::error!(%error, "a thread of viewers takes no more commands");
                }
            }
        }
    }
}

fn keep(found: &Mutex<Findings>, viewers: &Viewers) {
    found.lock().unwrap_or_else(PoisonError::into_inner).merge(&viewers.findings());
}

fn thread_h1(
    name: String,
    viewers: Viewers,
    server: Server,
    began: Instant,
    found: Arc<Mutex<Findings>>,
) -> anyhow::Result<Thread> {
    let (sender, receiver): (_, Receiver<Command<Viewers>>) = sync_channel(COMMANDS_MAX);
    let (driver, waker) = Driver::new(viewers, server, ANSWER_TIME_MAX, began)?;
    let work = move || match driver.run(&receiver) {
        Ok(viewers) => keep(&found, &viewers),
        Err(error) => tracing::error!(%error, "a thread of viewers failed"),
    };
    let handle = std::thread::Builder::new().name(name).spawn(work)?;
    Ok(Thread { commands: Commands::H1(sender, waker), handle })
}

fn thread_h2(
    name: String,
    viewers: Viewers,
    server: Server,
    began: Instant,
    found: Arc<Mutex<Findings>>,
) -> anyhow::Result<Thread> {
    let (sender, receiver) = tokio_mpsc::channel(COMMANDS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        let run = h2::run(viewers, server, ANSWER_TIME_MAX, began, receiver);
        let viewers = runtime.block_on(run);
        keep(&found, &viewers);
    };
    let handle = std::thread::Builder::new().name(name).spawn(work)?;
    Ok(Thread { commands: Commands::H2(sender), handle })
}

impl Crowd for HlsCrowd {
    fn side(&self) -> &Arc<Side> {
        &self.side
    }

    fn begin(&mut self) {
        for thread in &self.threads {
            thread.tell(Box::new(|viewers, _, _| viewers.begin_measuring()));
        }
    }

    fn hls(&self) -> Option<Summary> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        Some(found.summary(self.late_after))
    }

    fn join(&mut self, count: usize) {
        for (thread, share) in
            self.threads.iter().zip(shares(count, self.threads.len(), self.next_in))
        {
            thread.tell(Box::new(move |viewers, now, asks| viewers.join(now, share, asks)));
        }
        self.next_in = self.next_in.wrapping_add(count);
    }

    fn leave(&mut self, count: usize) {
        for (thread, share) in
            self.threads.iter().zip(shares(count, self.threads.len(), self.next_out))
        {
            thread.tell(Box::new(move |viewers, now, asks| viewers.leave(now, share, asks)));
        }
        self.next_out = self.next_out.wrapping_add(count);
    }

    fn stop(&mut self) {
        for Thread { commands, handle } in self.threads.drain(..) {
            // A thread ends when nobody can tell it anything any more.
            match commands {
                Commands::H1(sender, waker) => {
                    drop(sender);
                    let _ = waker.wake();
                }
                Commands::H2(sender) => drop(sender),
            }
            if handle.join().is_err() {
                tracing::error!("a thread of viewers panicked");
            }
        }
    }
}

/// `count` spread over so many threads, the rest from thread `next` on.
fn shares(count: usize, threads: usize, next: usize) -> Vec<usize> {
    let threads = threads.max(1);
    let (each, rest) = (count / threads, count % threads);
    let extra = |thread: usize| (thread + threads - next % threads) % threads < rest;
    (0..threads).map(|thread| each + usize::from(extra(thread))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_spread_evenly_however_they_come() {
        assert_eq!(shares(7, 3, 0), [3, 2, 2]);
        let mut totals = [0; 3];
        let mut next = 0;
        for count in [1, 1, 1, 2, 4, 7, 5] {
            for (total, share) in totals.iter_mut().zip(shares(count, 3, next)) {
                *total += share;
            }
            next += count;
        }
        assert_eq!(totals, [7, 7, 7]);
    }

    #[test]
    fn a_sample_is_a_number_or_a_share() {
        assert_eq!((sample("50"), sample("1/50")), (Ok(50), Ok(50)));
        assert!(sample("0").is_err() && sample("2/50").is_err());
    }
}
