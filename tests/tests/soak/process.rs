//! What a process uses, by `/proc`.
//!
//! Not here: what it does.

use std::time::Duration;

/// A process's memory and descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) resident_kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// User and system time in milliseconds.
    #[expect(dead_code, reason = "printed")]
    pub(crate) cpu_ms: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> std::io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may hold spaces; the 12th and 13th are user and system time.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        // Clock ticks are hundredths of a second on every Linux.
        Ok(Self { resident_kib: resident.unwrap_or(0), descriptors, cpu_ms: ticks * 10 })
    }
}

/// Usage once descriptors are back to what they were, or when they do not come back.
pub(crate) async fn settled(pid: u32, before: Usage) -> Usage {
    let settle = async {
        loop {
            let now = Usage::of(pid).expect("the node runs");
            if now.descriptors <= before.descriptors {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), settle).await {
        Ok(usage) => usage,
        Err(_) => Usage::of(pid).expect("the node runs"),
    }
}

/// What is wrong with memory after the first two minutes: it is flat if its last quarter's middle
/// is within 5 % of the first quarter's.
pub(crate) fn growth(usage: &[(Duration, Usage)]) -> Option<String> {
    let warm: Vec<u64> = usage
        .iter()
        .filter(|(at, _)| *at > Duration::from_secs(120))
        .map(|(_, usage)| usage.resident_kib)
        .collect();
    let quarter = warm.len() / 4;
    if quarter == 0 {
        return Some("too short to tell whether memory is flat".to_owned());
    }
    let middle = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let (first, last) = (middle(&warm[..quarter]), middle(&warm[warm.len() - quarter..]));
    let (least, most) = (warm.iter().min()?, warm.iter().max()?);
    println!("memory after two minutes: {first} KiB, at the end {last} KiB, {least} to {most}");
    (last * 100 > first * 105).then(|| format!("memory grew from {first} to {last} KiB"))
}
