//! One request at a time, on the calling thread: finds a stream's media playlist before a load
//! begins. Driver: a socket that waits.
//!
//! Not here: load.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::multivariant::{choose, is_multivariant, resolve};
use super::response::{Fed, Reader};
use super::target::Server;
use super::timeline::unpack;

/// How long an answer may take: servers hold requests for a stream that has just begun.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a body.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The status.
    pub status: u16,
    /// The body, unpacked.
    pub body: Vec<u8>,
}

/// Asks `server` for `path`.
///
/// # Errors
/// There is no answer.
pub fn get(server: &Server, path: &str) -> anyhow::Result<Probed> {
    let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE)
        .with_context(|| format!("cannot connect to {}", server.authority))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[b"GET ", path.as_bytes(), &server.tail].concat())?;
    let (mut reader, mut body, mut room) = (Reader::default(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = stream.read(&mut room).context("no answer")?;
        if count == 0 {
            reader.closed()?;
            break;
        }
        let read = room.get(..count).unwrap_or_default();
        if let Fed::Done(_) = reader.feed(read, |piece| body.extend_from_slice(piece))? {
            break;
        }
        if body.len() > BODY_BYTES_MAX {
            bail!("{path} is larger than {BODY_BYTES_MAX} bytes");
        }
    }
    let head = reader.head().unwrap_or_default();
    let body = if head.gzip { unpack(&body)? } else { body };
    Ok(Probed { status: head.status, body })
}

/// The first media playlist that the playlist at `path` leads to: its path, and its text.
///
/// # Errors
/// There is none.
pub fn media_playlist(server: &Server, path: &str) -> anyhow::Result<(Arc<str>, Vec<u8>)> {
    let mut path = path.to_owned();
    // One multivariant playlist, one media playlist.
    for _ in 0..2 {
        let probed = get(server, &path)?;
        if probed.status != 200 {
            bail!("{path} has status {}: is the stream live?", probed.status);
        }
        let text = String::from_utf8_lossy(&probed.body);
        if !is_multivariant(&text) {
            return Ok((Arc::from(path), probed.body));
        }
        let chosen = choose(&text).with_context(|| format!("{path} has no variant"))?;
        path = resolve(&path, &chosen.video);
    }
    bail!("{path} is a multivariant playlist again");
}
