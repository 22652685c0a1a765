//! What a process used so far: CPU time, memory, descriptors, from `/proc`.
//!
//! Not here: whose process it is, what the figures mean (`report`).
#![allow(clippy::disallowed_methods, reason = "driver: reads /proc")]

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// What a process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU time in user mode, in seconds.
    pub user_s: f64,
    /// CPU time in the kernel, in seconds.
    pub system_s: f64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Open descriptors; 0 where they may not be read.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// What the process used since it began; none when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut usage = Self::parse(
            &stat,
            rustix::param::clock_ticks_per_second(),
            rustix::param::page_size() as u64,
        )?;
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        usage.descriptors = entries.map_or(0, |entries| entries.count() as u64);
        Some(usage)
    }

    /// Of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }

    /// The fields of `/proc/PID/stat` (proc(5)), counted from behind the command's name, which
    /// may itself hold blanks and parentheses.
    fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second.max(1) as f64;
        Some(Self {
            user_s: seconds(number(11)?),
            system_s: seconds(number(12)?),
            threads: number(17)?,
            rss_bytes: number(21)? * page_bytes,
            descriptors: 0,
        })
    }

    /// CPU time in user mode and in the kernel, in seconds.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// The CPU time used since `earlier`, with what is held now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            ..*self
        }
    }
}

/// Lets this process open as many files as the system grants it: a viewer has a socket or more.
pub fn open_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is refused shows when sockets run out.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let stat = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 100 \
                    1000000 256 18446744073709551615 1 1 0 0 0 0 0 0 0";
        let usage = Usage::parse(stat, 100, 4_096).unwrap();
        assert_eq!((usage.user_s, usage.system_s, usage.threads), (2.5, 0.5, 7));
        assert_eq!(usage.rss_bytes, 256 * 4_096);
        assert_eq!(usage.cpu_s(), 3.0);
    }

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let usage = Usage::own();
        assert!(usage.rss_bytes > 100_000 && usage.threads >= 1 && usage.descriptors > 2);
        assert_eq!(usage.since(&usage).cpu_s(), 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_usage() {
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
