//! A connection's seat among those who wait for the same thing: whoever has the answer sends it
//! from there, to one seat after the other, and wakes no connection for it.
//!
//! A burst to thousands is a send each that way, and nothing in between. The connection's own task
//! notices with its next request that it has been answered. It is woken where there is something
//! left for it to do: an answer that the socket did not take whole, a request that was sent ahead,
//! or an answer that is not the usual one.
//! Not here: who waits for what (`hls::crowd`), reading (`connection`).

use std::io;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// A connection's writing end, with what it waits for.
pub struct Seat {
    write: OwnedWriteHalf,
    state: Mutex<State>,
}

/// Something that is held for as long as somebody waits.
pub(in crate::http) type Hold = Box<dyn Send>;

struct State {
    standing: Standing,
    /// Counts the waits: an answer to an earlier one is nobody's.
    ticket: u64,
    /// Wakes the connection's task.
    waker: Option<Waker>,
}

enum Standing {
    Free,
    Waits {
        /// A request was sent ahead: its turn comes with the answer.
        ahead: bool,
        _hold: Hold,
    },
    Told(Told),
}

/// What has become of a wait.
#[derive(Debug)]
pub(in crate::http) enum Told {
    /// The whole answer was sent, at this moment.
    Answered(Instant),
    /// So many of its bytes were.
    Begun(Bytes, usize),
    /// Nothing was: the request is to be answered in the ordinary way.
    Ordinary,
}

impl Seat {
    /// The seat of a connection.
    pub(in crate::http) fn new(write: OwnedWriteHalf) -> Self {
        let state = State { standing: Standing::Free, ticket: 0, waker: None };
        Self { write, state: Mutex::new(state) }
    }

    /// The connection.
    pub(super) fn stream(&self) -> &TcpStream {
        self.write.as_ref()
    }

    /// The writing end again.
    pub(super) fn into_write(self) -> OwnedWriteHalf {
        self.write
    }

    /// Says who is to be woken.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut state = self.state.lock();
        if state.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    /// Begins to wait, with `hold` held meanwhile; gives the ticket by which to answer.
    pub(in crate::http) fn take(&self, hold: Hold) -> u64 {
        let mut state = self.state.lock();
        state.ticket += 1;
        state.standing = Standing::Waits { ahead: false, _hold: hold };
        state.ticket
    }

    /// Whether a ticket's wait is still on.
    pub(in crate::http) fn waits(&self, ticket: u64) -> bool {
        let state = self.state.lock();
        state.ticket == ticket && matches!(state.standing, Standing::Waits { .. })
    }

    /// Sends the answer to whoever waits with this ticket; false where nobody does any more.
    pub(in crate::http) fn give(&self, ticket: u64, answer: &Bytes, now: Instant) -> bool {
        // Held while it is sent: the connection may give up, but not in the midst of it.
        let mut state = self.state.lock();
        let Standing::Waits { ahead, .. } = state.standing else { return false };
        if state.ticket != ticket {
            return false;
        }
        // A socket that has failed fails again, for the connection to see.
        let sent = self.write.try_write(answer).unwrap_or_default();
        let whole = sent == answer.len();
        let told = if whole { Told::Answered(now) } else { Told::Begun(answer.clone(), sent) };
        state.standing = Standing::Told(told);
        if ahead || !whole {
            wake(&state);
        }
        true
    }

    /// Has the connection answer in the ordinary way.
    pub(in crate::http) fn release(&self, ticket: u64) {
        let mut state = self.state.lock();
        if state.ticket == ticket && matches!(state.standing, Standing::Waits { .. }) {
            state.standing = Standing::Told(Told::Ordinary);
            wake(&state);
        }
    }

    /// What has become of the wait; none while it goes on.
    pub(in crate::http) fn look(&self) -> Option<Told> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.standing, Standing::Free) {
            Standing::Told(told) => Some(told),
            Standing::Free => Some(Told::Ordinary),
            waits @ Standing::Waits { .. } => {
                state.standing = waits;
                None
            }
        }
    }

    /// A request was sent ahead; false where the wait is over.
    pub(super) fn is_ahead(&self) -> bool {
        match &mut self.state.lock().standing {
            Standing::Waits { ahead, .. } => {
                *ahead = true;
                true
            }
            Standing::Free | Standing::Told(_) => false,
        }
    }

    /// Gives up waiting, unless the wait is over.
    pub(super) fn leave(&self) -> Option<Told> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.standing, Standing::Free) {
            Standing::Told(told) => Some(told),
            Standing::Free | Standing::Waits { .. } => None,
        }
    }

    /// Sends what the socket takes now.
    pub(super) fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [one] => self.write.try_write(one),
            many => self.write.try_write_vectored(many),
        }
    }
}

fn wake(state: &State) {
    if let Some(waker) = &state.waker {
        waker.wake_by_ref();
    }
}
