//! ICE over TCP (RFC 6544, passive side): connections that carry RFC 4571 frames.
//!
//! A connection must prove at once that it belongs to a session: its first frame has to be a
//! STUN check that a session answers. Until then it counts against `tcp_half_open_max`.
//! Not here: what the frames mean (`shard`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::metrics;
use crate::stats::DropReason;
use crate::worker::{Context, unmapped};

/// A peer that does not take a frame within this time is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long what is queued may still be written once the connection is to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The connections of a worker by the peer's address.
#[derive(Default)]
pub(crate) struct Connections {
    writers: RefCell<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
    half_open: Cell<usize>,
}

impl Connections {
    /// Queues a frame; false when the peer's queue is full and the frame is lost.
    pub(crate) fn send(&self, to: SocketAddr, frame: &[u8]) -> bool {
        let Ok(size) = u16::try_from(frame.len()) else { return true };
        let writers = self.writers.borrow();
        let Some(writer) = writers.get(&to) else { return true };
        let framed: Vec<u8> = size.to_be_bytes().into_iter().chain(frame.iter().copied()).collect();
        let full = matches!(writer.try_send(framed.into()), Err(TrySendError::Full(_)));
        if full {
            metrics::dropped(DropReason::SocketFull, 1);
        }
        !full
    }

    /// Ends a connection once what is queued has been written.
    pub(crate) fn hang_up(&self, peer: SocketAddr) {
        self.writers.borrow_mut().remove(&peer);
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, context: Rc<Context>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: the next attempt must not come at once.
                tracing::warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connections = &context.connections;
        let limit = context.config.tcp_half_open_max;
        if connections.half_open.get() >= limit {
            metrics::refused("tcp_half_open");
            continue;
        }
        connections.half_open.set(connections.half_open.get() + 1);
        let context = Rc::clone(&context);
        tokio::task::spawn_local(async move { serve(stream, unmapped(peer), &context).await });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, context: &Rc<Context>) {
    let connections = &context.connections;
    let decided = || connections.half_open.set(connections.half_open.get().saturating_sub(1));
    let Some(local) = stream.local_addr().ok().filter(|_| stream.set_nodelay(true).is_ok()) else {
        decided();
        return;
    };
    let local = unmapped(local);
    let (mut reader, writer) = stream.into_split();
    let (sender, queue) = mpsc::channel(context.config.tcp_queue_frames.max(1));
    connections.writers.borrow_mut().insert(peer, sender);
    let mut writing = tokio::task::spawn_local(write_frames(writer, queue, WRITE_PATIENCE));

    let first = read_frame(&mut reader, context.config.tcp_frame_bytes_max);
    let first = tokio::time::timeout(context.config.handshake_timeout, first).await;
    let proved = matches!(&first, Ok(Ok(frame)) if context.tcp_frame(peer, local.ip(), frame));
    decided();
    if proved {
        let reading =
            tokio::task::spawn_local(read_frames(reader, peer, local, Rc::clone(context)));
        let stop_reading = reading.abort_handle();
        tokio::select! {
            // Either end may finish first; each takes the other along.
            _ = reading => {}
            _ = &mut writing => stop_reading.abort(),
        }
    } else {
        metrics::stray("tcp_without_session", 1);
    }
    connections.hang_up(peer);
    // A peer that does not read must not keep its socket.
    if !writing.is_finished() && tokio::time::timeout(LAST_WORDS, &mut writing).await.is_err() {
        writing.abort();
    }
}

async fn read_frames(
    mut reader: OwnedReadHalf,
    peer: SocketAddr,
    local: SocketAddr,
    context: Rc<Context>,
) {
    while let Ok(frame) = read_frame(&mut reader, context.config.tcp_frame_bytes_max).await {
        if !context.tcp_frame(peer, local.ip(), &frame) {
            break;
        }
    }
}

async fn read_frame(reader: &mut OwnedReadHalf, bytes_max: usize) -> io::Result<Vec<u8>> {
    let size = usize::from(reader.read_u16().await?);
    if size > bytes_max {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut frame = vec![0; size];
    reader.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frames(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Bytes>,
    patience: Duration,
) {
    let mut last_words = None;
    while let Some(frame) = queue.recv().await {
        let now = Instant::now();
        let until = if queue.is_closed() {
            *last_words.get_or_insert(now + LAST_WORDS)
        } else {
            now + patience
        };
        match tokio::time::timeout_at(until, writer.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    // The peer may be gone already; then there is nothing to shut down.
    let _ = writer.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (_reader, writer) = stream.into_split();
        let (sender, queue) = mpsc::channel(1);
        let writing = tokio::spawn(write_frames(writer, queue, Duration::from_millis(200)));
        let frame = Bytes::from(vec![0; 1 << 20]);
        // Until the peer's buffer and ours are full, and the frames have waited in vain.
        while sender.send(frame.clone()).await.is_ok() {}
        writing.await.unwrap();
        drop(peer);
    }
}
