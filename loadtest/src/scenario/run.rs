//! Runs a load: the one place that waits.
//!
//! Not here: what is counted (`account`), who comes when (`crowds`, `population`).
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "driver: reads clocks, waits; progress goes to stderr"
)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Options;
use super::account::Account;
use super::crowds::{self, Course};
use super::exposition::SendDelays;
use crate::clock::now_us;
use crate::http::Http;
use crate::live::{Side, get};
use crate::process::Usage;
use crate::publish::{Protocol, Publishers};
use crate::report::Report;

/// How often viewers are let come and go.
const STEP: Duration = Duration::from_millis(50);
/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long publishers may take until all send.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long publishers send before viewers come: servers settle on a stream's rhythm first.
const SETTLE: Duration = Duration::from_secs(3);
/// Between the ramp and the measured time.
const CALM: Duration = Duration::from_secs(1);

/// Runs a load until it is over, or `stop` resolves.
///
/// # Errors
/// The options contradict each other, the server is not there, or no publisher can publish.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> anyhow::Result<Report> {
    options.check()?;
    let began_us = now_us();
    if let Some(pid) = options.pid {
        Usage::of(pid).with_context(|| format!("there is no process {pid}"))?;
    }
    let http = Http::new(options.token.clone());
    http.probe(&options.server).await.context("the server is not there")?;
    let mut sides: BTreeMap<Protocol, (Arc<Side>, u64)> = BTreeMap::new();
    for of in &options.publish {
        let side = || (Arc::new(Side::new(of.protocol.name())), 0);
        sides.entry(of.protocol).or_insert_with(side).1 += of.count as u64;
    }
    let fallback = Arc::new(Side::new("none"));
    let side = |protocol| sides.get(&protocol).map_or(&fallback, |(side, _)| side).clone();
    let publishers = Publishers::start(options.to_publish()?, side)?;
    let mut stop = pin!(stop);
    let published = tokio::select! {
        published = all_send(&sides) => published,
        () = &mut stop => Err(anyhow::anyhow!("stopped before the publishers sent")),
    };
    if let Err(error) = published {
        publishers.stop().await;
        return Err(error);
    }
    let mut courses = crowds::gather(options).await?;
    let viewers = courses.iter().map(|course| Arc::clone(course.crowd.side())).collect();
    let mut account = Account::new(options.pid, sides.into_values().collect(), viewers);
    let late_ms_max = follow(options, &http, &mut courses, &mut account, stop).await;
    // Leaving takes a request each, on the crowds' own threads.
    let left = tokio::task::spawn_blocking(move || {
        let stop = |course: &mut Course| {
            course.crowd.stop();
            course.crowd.hls()
        };
        courses.iter_mut().map(stop).collect::<Vec<_>>()
    });
    let found = left.await.context("a crowd's thread failed")?;
    publishers.stop().await;
    let run = options.describe(began_us);
    let mut report = account.report(Report { run, ..Report::default() }, late_ms_max);
    for (viewers, found) in report.viewers.iter_mut().zip(found) {
        viewers.hls = found;
    }
    report.broken = options.limits.broken(&report);
    Ok(report)
}

/// Waits until all publishers send, and for a little longer.
async fn all_send(sides: &BTreeMap<Protocol, (Arc<Side>, u64)>) -> anyhow::Result<()> {
    if sides.is_empty() {
        return Ok(());
    }
    let until = Instant::now() + PUBLISH_TIMEOUT;
    loop {
        let sum = |count: fn(&Side) -> u64| sides.values().map(|(side, _)| count(side)).sum();
        let (active, failed): (u64, u64) =
            (sum(|side| get(&side.active)), sum(|side| get(&side.failed)));
        let wanted: u64 = sides.values().map(|(_, count)| count).sum();
        if failed >= wanted || (Instant::now() > until && active == 0) {
            let problems: Vec<_> = sides.values().flat_map(|(side, _)| side.problems()).collect();
            let first = problems.first().map_or("nothing was sent", |(text, _)| text.as_str());
            bail!("no publisher can publish: {first}");
        }
        if active + failed >= wanted || Instant::now() > until {
            eprintln!("{active} of {wanted} publishers send");
            tokio::time::sleep(SETTLE).await;
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// What the server says of the delays within it; nothing where it says nothing.
async fn delays(options: &Options, http: &Http) -> SendDelays {
    match options.pid {
        Some(_) => SendDelays::read(&http.metrics(&options.server).await.unwrap_or_default()),
        None => SendDelays::default(),
    }
}

/// Lets viewers come and go and counts, until the time is over or `stop` resolves. Gives how late
/// a timer of this process was at worst, in milliseconds, while it was measured.
async fn follow(
    options: &Options,
    http: &Http,
    courses: &mut [Course],
    account: &mut Account,
    mut stop: impl Future<Output = ()> + Unpin,
) -> f64 {
    let began = Instant::now();
    let (from, to) = (options.ramp + CALM, options.ramp + CALM + options.hold);
    let mut next_line = PROGRESS;
    let (mut next_step, mut measuring, mut late_max) = (Duration::ZERO, false, Duration::ZERO);
    loop {
        let now = began.elapsed();
        courses.iter_mut().for_each(|course| course.follow(now));
        if !measuring && now >= from {
            courses.iter_mut().for_each(|course| course.crowd.begin());
            account.begin(delays(options, http).await);
            measuring = true;
        }
        if now >= next_line {
            eprintln!("{}", account.second());
            next_line += PROGRESS;
        }
        if now >= to {
            break;
        }
        next_step = (next_step + STEP).max(now);
        tokio::select! {
            () = tokio::time::sleep_until((began + next_step).into()) => {
                let late = began.elapsed().saturating_sub(next_step);
                if measuring {
                    late_max = late_max.max(late);
                }
            }
            () = &mut stop => {
                eprintln!("stopped: what was measured so far follows");
                break;
            }
        }
    }
    account.end();
    account.delays(delays(options, http).await);
    late_max.as_secs_f64() * 1e3
}
