//! Why an RTMP connection cannot go on. All of it is the client's fault.
//!
//! Not here: refusals that the client is told of by a status (`session::Refusal`), errors of the
//! socket (`server`).

use thiserror::Error;

/// Bytes that no correct RTMP client sends, or more of them than the limits allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtmpError {
    /// C0 names a version other than 3 (RTMP 1.0 §5.2.2).
    #[error("not plain RTMP: the handshake starts with {0:#04x} where version 3 is expected")]
    Version(u8),
    /// A chunk that continues or abbreviates a header that never came.
    #[error("chunk stream {0} starts without a full header")]
    NoHeader(u32),
    /// A new header while the chunk stream's message is incomplete.
    #[error("chunk stream {0} starts a message inside another")]
    HeaderInsideMessage(u32),
    /// More chunk streams than allowed.
    #[error("more than {0} chunk streams on one connection")]
    TooManyChunkStreams(usize),
    /// A message longer than allowed.
    #[error("a message of {length} bytes is longer than the {max} allowed here")]
    MessageTooLong {
        /// As its header says.
        length: usize,
        /// The limit at this point of the session.
        max: usize,
    },
    /// The incomplete messages of all chunk streams together are too large.
    #[error("incomplete messages hold more than {0} bytes")]
    TooMuchBuffered(usize),
    /// Set Chunk Size with 0 or with the top bit set (RTMP 1.0 §5.4.1).
    #[error("a chunk size of {0} is not allowed")]
    ChunkSize(u32),
    /// A message of a protocol type that is too short for it.
    #[error("a message of type {0} is cut short")]
    ShortMessage(u8),
    /// A command or data message that is not AMF0.
    #[error("AMF0: {0}")]
    Amf(#[from] super::amf0::AmfError),
    /// A command that needs another before it.
    #[error("{command} before {needs}")]
    WrongOrder {
        /// What came.
        command: &'static str,
        /// What must come first.
        needs: &'static str,
    },
    /// More streams created on one connection than any encoder needs.
    #[error("more than {0} createStream commands on one connection")]
    TooManyStreams(u32),
    /// More commands than any encoder needs.
    #[error("more than {0} commands on one connection")]
    TooManyCommands(u32),
}

impl RtmpError {
    /// A stable label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Version(_) => "handshake",
            Self::NoHeader(_) | Self::HeaderInsideMessage(_) => "chunk",
            Self::TooManyChunkStreams(_) => "chunk_streams",
            Self::MessageTooLong { .. } => "message_size",
            Self::TooMuchBuffered(_) => "buffered",
            Self::ChunkSize(_) => "chunk_size",
            Self::ShortMessage(_) => "control",
            Self::Amf(_) => "amf",
            Self::WrongOrder { .. } => "order",
            Self::TooManyStreams(_) | Self::TooManyCommands(_) => "commands",
        }
    }
}
