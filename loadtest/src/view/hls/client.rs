//! What clients and their driver say to each other: clients are a value that is told of answers
//! and says what to ask next; a driver (`h1`, `h2`) has the connections and the clock.
//!
//! Not here: any client (`viewers`, `waiting`), any driver.

use std::sync::Arc;
use std::time::Duration;

use super::units::At;

/// A client's number among those of its driver, from 0, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What becomes of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The client gets it.
    Keep,
    /// It is thrown away as cheaply as may be; the client gets its length.
    Discard,
}

/// What a client wants of its driver.
#[derive(Clone, Debug)]
pub enum Ask<T> {
    /// A resource; the answer comes back with the tag.
    Get {
        /// Who asks.
        client: ClientId,
        /// What for.
        tag: T,
        /// Path and query.
        path: Arc<str>,
        /// What becomes of the body.
        body: Body,
    },
    /// Its connections are closed; answers that are under way never come.
    Leave(ClientId),
}

/// What clients want, in their order.
#[derive(Debug)]
pub struct Asks<T>(Vec<Ask<T>>);

impl<T> Default for Asks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Asks<T> {
    /// Asks for `path`.
    pub fn get(&mut self, client: ClientId, tag: T, path: Arc<str>, body: Body) {
        self.0.push(Ask::Get { client, tag, path, body });
    }

    /// Closes a client's connections.
    pub fn leave(&mut self, client: ClientId) {
        self.0.push(Ask::Leave(client));
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all of them; the driver does so after every call.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Ask<T>> {
        self.0.drain(..)
    }
}

/// A response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Its status.
    pub status: u16,
    /// The body is compressed with gzip.
    pub gzip: bool,
    /// The body, where it was to be kept.
    pub body: &'a [u8],
    /// Bytes of the body.
    pub bytes: u64,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection could be had.
    Connect,
    /// The connection was lost before the response was whole.
    Lost,
    /// It was not HTTP as it should be.
    Protocol,
    /// Nothing came for longer than hls.js waits.
    TimedOut,
}

impl Failure {
    /// In words, for the report.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Connect => "cannot connect",
            Self::Lost => "connection lost",
            Self::Protocol => "not HTTP",
            Self::TimedOut => "no answer in time",
        }
    }
}

/// How a request went.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What came.
    pub result: Result<Response<'a>, Failure>,
    /// When it was asked.
    pub sent: At,
    /// When the first byte of the response was there.
    pub first_byte: At,
    /// When it was whole, or given up.
    pub whole: At,
}

/// Clients of one kind. Pure: no clock, no sockets.
pub trait Clients {
    /// Tells a client's requests apart.
    type Tag: Copy + std::fmt::Debug + Send + 'static;

    /// An answer has come.
    fn answered(
        &mut self,
        client: ClientId,
        tag: Self::Tag,
        answer: &Answer<'_>,
        asks: &mut Asks<Self::Tag>,
    );

    /// Called now and then, and when [`Clients::wake_at`] has come.
    fn wake(&mut self, now: At, asks: &mut Asks<Self::Tag>);

    /// When it wants to be woken.
    fn wake_at(&self) -> Option<At>;

    /// The driver took so long over what the system had ready at a time.
    fn took(&mut self, _: Duration) {}

    /// The driver ends: nothing will come any more.
    fn finish(&mut self, now: At);
}

/// How long hls.js waits for the first byte of a playlist or a part.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
