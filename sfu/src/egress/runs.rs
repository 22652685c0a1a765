//! What waits to leave: datagrams gathered into runs of equal size to one destination, each of
//! which goes to the kernel in one call (UDP GSO).
//!
//! The call is what costs: a datagram sent alone takes ten times one in a batch of sixteen. So
//! packets are written into a run's own buffer from the start; nothing is copied into it later.
//! Not here: the sockets (`batch`, `tcp`), which packets are written (`stream`, the engine).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// A kernel's limits for one call: `UDP_MAX_SEGMENTS`, and an IP packet's length.
const SEGMENTS_MAX: usize = 64;
const RUN_BYTES_MAX: usize = 65_000;
/// Buffers kept for the next runs, 4 MB at most.
const SPARE_MAX: usize = 64;

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Over the peer's TCP connection; a datagram is a frame there.
    pub(crate) tcp: bool,
    pub(crate) destination: SocketAddr,
    /// The address of ours that the peer knows.
    pub(crate) from: Option<IpAddr>,
}

/// Equal datagrams (the last may be shorter: UDP GSO's rule) on one way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) path: Path,
    /// Bytes of a datagram.
    pub(crate) segment: usize,
    pub(crate) count: usize,
    bytes: Vec<u8>,
    /// Bytes of whole datagrams; what lies beyond was never finished.
    filled: usize,
    /// A shorter datagram closed it.
    closed: bool,
}

impl Run {
    /// The datagrams, one after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// The datagrams, each alone.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.segment.max(1))
    }

    fn takes(&self, path: &Path, size: usize, segments_max: usize) -> bool {
        !self.closed
            && self.path == *path
            && size <= self.segment
            && self.count < segments_max
            && self.filled + size <= RUN_BYTES_MAX
    }
}

/// Runs in the order in which they are to leave.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) udp: VecDeque<Run>,
    pub(crate) tcp: VecDeque<Run>,
    /// Bytes in `udp`.
    waiting_bytes: usize,
    spare: Vec<Vec<u8>>,
    segments_max: usize,
}

impl Default for Runs {
    /// No runs; one datagram a run until more are allowed.
    fn default() -> Self {
        let (udp, tcp) = Default::default();
        Self { udp, tcp, waiting_bytes: 0, spare: Vec::new(), segments_max: 1 }
    }
}

impl Runs {
    /// Sets how many datagrams the kernel takes in one call.
    pub(crate) fn set_segments_max(&mut self, segments_max: usize) {
        self.segments_max = segments_max.clamp(1, SEGMENTS_MAX);
    }

    /// Appends a datagram of `size` bytes, which `fill` writes: it is given the datagram's bytes,
    /// all zero.
    pub(crate) fn append(&mut self, path: Path, size: usize, fill: impl FnOnce(&mut [u8])) {
        let queue = if path.tcp { &mut self.tcp } else { &mut self.udp };
        if queue.back().is_none_or(|run| !run.takes(&path, size, self.segments_max)) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            let (filled, closed) = (0, false);
            queue.push_back(Run { path, segment: size, count: 0, bytes, filled, closed });
        }
        let Some(run) = queue.back_mut() else { return };
        // What a writer that panicked left behind is overwritten.
        run.bytes.truncate(run.filled);
        run.bytes.resize(run.filled + size, 0);
        fill(run.bytes.get_mut(run.filled..).unwrap_or_default());
        run.filled += size;
        run.count += 1;
        run.closed = size < run.segment;
        if !path.tcp {
            self.waiting_bytes += size;
        }
    }

    /// Takes the oldest run that is to leave by UDP.
    pub(crate) fn pop_udp(&mut self) -> Option<Run> {
        let run = self.udp.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(run.filled);
        Some(run)
    }

    /// Bytes that wait to leave by UDP.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Appends a finished datagram.
    pub(crate) fn push(&mut self, path: Path, contents: &[u8]) {
        self.append(path, contents.len(), |bytes| bytes.copy_from_slice(contents));
    }

    /// Takes back the buffer of a run that has left.
    pub(crate) fn recycle(&mut self, run: Run) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(run.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path { tcp: false, destination: SocketAddr::from(([127, 0, 0, 1], port)), from: None }
    }

    fn limited(segments_max: usize) -> Runs {
        let mut runs = Runs::default();
        runs.set_segments_max(segments_max);
        runs
    }

    fn shape(runs: &Runs) -> Vec<(u16, usize, usize)> {
        let shape = |run: &Run| (run.path.destination.port(), run.count, run.bytes().len());
        runs.udp.iter().map(shape).collect()
    }

    #[test]
    fn equal_datagrams_to_one_destination_share_a_run_that_a_shorter_one_ends() {
        let mut runs = limited(64);
        for (port, size) in [(1, 100), (1, 100), (1, 40), (1, 40), (2, 100), (2, 120), (1, 100)] {
            runs.push(path(port), &vec![7; size]);
        }
        assert_eq!(shape(&runs), [(1, 3, 240), (1, 1, 40), (2, 1, 100), (2, 1, 120), (1, 1, 100)]);
    }

    #[test]
    fn runs_keep_the_kernels_limits() {
        let mut runs = limited(3);
        (0..4).for_each(|_| runs.push(path(1), &[1; 10]));
        assert_eq!(shape(&runs), [(1, 3, 30), (1, 1, 10)]);
        let mut runs = limited(1_000);
        (0..65).for_each(|_| runs.push(path(1), &[1; 10]));
        (0..66).for_each(|_| runs.push(path(2), &[1; 1_300]));
        assert_eq!(shape(&runs), [(1, 64, 640), (1, 1, 10), (2, 50, 65_000), (2, 16, 20_800)]);
    }

    #[test]
    fn a_datagram_whose_writer_panics_is_not_sent() {
        let mut runs = limited(64);
        runs.push(path(1), &[1; 10]);
        let panics =
            std::panic::AssertUnwindSafe(|| runs.append(path(1), 10, |_| panic!("planted")));
        assert!(std::panic::catch_unwind(panics).is_err());
        runs.push(path(1), &[2; 10]);
        assert_eq!(runs.udp[0].bytes(), [[1; 10], [2; 10]].concat());
    }

    #[test]
    fn what_waits_is_counted_in_bytes() {
        let mut runs = limited(2);
        (0..3).for_each(|_| runs.push(path(1), &[1; 10]));
        runs.push(Path { tcp: true, ..path(2) }, &[1; 10]);
        assert_eq!(runs.waiting_bytes(), 30);
        assert_eq!(runs.pop_udp().map(|run| run.count), Some(2));
        assert_eq!(runs.waiting_bytes(), 10);
        runs.pop_udp();
        assert_eq!((runs.pop_udp().is_none(), runs.waiting_bytes()), (true, 0));
    }

    #[test]
    fn buffers_are_used_again() {
        let mut runs = limited(64);
        runs.push(path(1), &[1; 1_000]);
        let run = runs.udp.pop_front().unwrap();
        let buffer = run.bytes.as_ptr();
        runs.recycle(run);
        runs.push(path(2), &[2; 10]);
        assert_eq!(runs.udp[0].bytes().as_ptr(), buffer);
        assert_eq!(runs.udp[0].bytes(), [2; 10]);
    }
}
