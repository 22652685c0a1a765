//! The control stream: messages in and out.
//!
//! Driver. Not here: what they mean (`parent`, `child`).

use bytes::{Buf, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::HopError;
use crate::wire::{Message, WireError, decode_message, encode_message};

/// Messages that wait to be written; an end that leaves so many unread is closed.
const QUEUE_MAX: usize = 4_096;

/// Reads messages; cancel-safe.
pub(super) struct ControlReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl ControlReader {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(super) async fn next(&mut self) -> Result<Message, HopError> {
        loop {
            match decode_message(&self.buffer) {
                Ok((message, length)) => {
                    self.buffer.advance(length);
                    if let Some(message) = message {
                        return Ok(message);
                    }
                    continue;
                }
                Err(WireError::Truncated) => {}
                Err(error) => return Err(error.into()),
            }
            let chunk = self.stream.read_chunk(usize::MAX, true).await;
            match chunk.map_err(|_| HopError::Closed)? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None => return Err(HopError::Closed),
            }
        }
    }
}

/// Queues messages for the stream's writer.
#[derive(Clone)]
pub(super) struct ControlWriter {
    queue: mpsc::Sender<Message>,
}

impl ControlWriter {
    /// The writer, and its task, which ends when all writers are gone or the stream is.
    pub(super) fn new(mut stream: SendStream) -> (Self, impl Future<Output = HopError>) {
        let (queue, mut queued) = mpsc::channel::<Message>(QUEUE_MAX);
        let task = async move {
            // Before all media.
            let _ = stream.set_priority(i32::MAX);
            while let Some(message) = queued.recv().await {
                if stream.write_chunk(encode_message(&message)).await.is_err() {
                    return HopError::Closed;
                }
            }
            HopError::Closed
        };
        (Self { queue }, task)
    }

    pub(super) fn send(&self, message: Message) -> Result<(), HopError> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => HopError::Stuck,
            mpsc::error::TrySendError::Closed(_) => HopError::Closed,
        })
    }
}
