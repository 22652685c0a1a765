//! What the data folder records of the running node, so that commands find it.
//!
//! Not here: the node's state proper.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The record's name in the data folder.
const FILE: &str = "node.json";

/// The running node, as the data folder records it.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct Record {
    /// The API's URL as seen from this machine.
    pub api: String,
    /// The process.
    pub pid: u32,
}

/// A record that was written; [`Written::remove`] takes it away.
pub(super) struct Written {
    path: PathBuf,
    record: Record,
}

/// Writes the record, making the folder if need be.
pub(super) fn write(data: &Path, http: SocketAddr) -> anyhow::Result<Written> {
    let record = Record { api: api_url(http), pid: std::process::id() };
    std::fs::create_dir_all(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let path = data.join(FILE);
    // Written aside and renamed, so that no reader meets half a record.
    let aside = data.join(format!("{FILE}.{}", record.pid));
    std::fs::write(&aside, serde_json::to_vec_pretty(&record)?)
        .and_then(|()| std::fs::rename(&aside, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Written { path, record })
}

impl Written {
    /// Takes the record away, unless another node has written its own since.
    pub(super) fn remove(self) {
        let ours = read(&self.path).is_ok_and(|found| found == self.record);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the node's record");
        }
    }
}

/// The record in the folder `data`.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read_record(data: &Path) -> anyhow::Result<Record> {
    read(&data.join(FILE))
}

fn read(path: &Path) -> anyhow::Result<Record> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// The URL of an HTTP listener for programs on this machine.
pub(crate) fn api_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_becomes_a_loopback_url() {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
        ] {
            assert_eq!(api_url(listen.parse().unwrap()), url);
        }
    }
}
