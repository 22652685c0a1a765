//! Messages on a stream: four bytes of length, then postcard. Nothing longer than its limit is
//! read, and no memory is set aside for what was announced but did not come.
//!
//! A driver file: awaits.
//!
//! Not here: what the messages say.

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest first message of a connection, in bytes.
pub(crate) const HELLO_MAX: usize = 512;
/// Longest request or answer of Raft's, in bytes, snapshots aside: a mebibyte of entries (the store
/// sees to that), and one entry more.
pub(crate) const RAFT_MAX: usize = 4 * 1024 * 1024;
/// Longest control request or answer, in bytes: an extension of a thousand streams of the longest
/// names.
pub(crate) const CONTROL_MAX: usize = 1024 * 1024;
/// Requests that a member may have on their way on one connection.
pub(crate) const REQUESTS_MAX: u32 = 64;
/// Longest message of a joiner, in bytes; and of the answer to it.
pub(crate) const JOIN_MAX: usize = 16 * 1024;
/// Longest snapshot, in bytes: a million names of the longest, and twice over.
pub(crate) const SNAPSHOT_MAX: usize = 512 * 1024 * 1024;

/// What can go wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message of {length} bytes, where {max} are allowed")]
    TooLong { length: usize, max: usize },
    #[error("a message that cannot be read: {0}")]
    Malformed(&'static str),
    #[error("the stream ended early or was reset")]
    Cut,
    #[error("a message that cannot be written: {0}")]
    Write(&'static str),
}

impl WireError {
    /// Whether the peer, and not the network, is at fault.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, WireError::TooLong { .. } | WireError::Malformed(_))
    }
}

/// Writes one message.
pub(crate) async fn write<T: Serialize>(
    stream: &mut SendStream,
    message: &T,
    max: usize,
) -> Result<(), WireError> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(|_| WireError::Write("encoding"))?;
    let length = bytes.len().saturating_sub(4);
    if length > max {
        return Err(WireError::TooLong { length, max });
    }
    let prefix = u32::try_from(length).map_err(|_| WireError::TooLong { length, max })?;
    if let Some(first) = bytes.first_chunk_mut::<4>() {
        *first = prefix.to_be_bytes();
    }
    stream.write_chunk(Bytes::from(bytes)).await.map_err(|_| WireError::Write("stream closed"))
}

/// Reads one message.
pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut RecvStream,
    max: usize,
) -> Result<T, WireError> {
    decode(&read_frame(stream, max).await?)
}

async fn read_frame(stream: &mut RecvStream, max: usize) -> Result<Vec<u8>, WireError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(|_| WireError::Cut)?;
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > max {
        return Err(WireError::TooLong { length, max });
    }
    read_bytes(stream, length).await
}

/// Reads one message whose later versions may be longer: what follows it is not looked at.
pub(crate) async fn read_beginning<T: DeserializeOwned>(
    stream: &mut RecvStream,
    max: usize,
) -> Result<T, WireError> {
    let bytes = read_frame(stream, max).await?;
    let (message, _) = postcard::take_from_bytes(&bytes)
        .map_err(|_| WireError::Malformed("not of the kind expected"))?;
    Ok(message)
}

/// Reads so many bytes.
pub(crate) async fn read_bytes(
    stream: &mut RecvStream,
    length: usize,
) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(length.min(64 * 1024));
    while bytes.len() < length {
        let rest = length.saturating_sub(bytes.len());
        match stream.read_chunk(rest, true).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            _ => return Err(WireError::Cut),
        }
    }
    Ok(bytes)
}

/// Reads a message from all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(WireError::Malformed("bytes behind its end")),
        Err(_) => Err(WireError::Malformed("not of the kind expected")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, it is a message or an error.
        #[test]
        fn bytes_of_any_kind_make_errors_and_no_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            crate::control::read_as_everything(&bytes);
        }
    }
}
