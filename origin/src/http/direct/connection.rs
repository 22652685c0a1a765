//! One connection of the direct path. Driver: awaits, reads the clock.
//!
//! Not here: what heads say (`head`), what requests get (the `Service`), other requests (`server`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::cell::{Cell, RefCell};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::alarm::Alarm;
use super::head::{self, HEAD_BYTES_MAX, Read};
use super::outgoing::Outgoing;
use super::seat::{Seat, Told};
use crate::http::hls::Reply;
use crate::http::server::Service;

/// Bytes that are read at a time: most heads have less than 1 KiB.
const READ_BYTES: usize = 4 << 10;

/// A body in one piece of at most so many bytes, a playlist, is copied behind its head: the system
/// takes one buffer by a shorter way than two, and that saves more than the copy costs.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// Tells connections between two requests to close. A connection asks for the wake-up once in its
/// life; afterwards a look at the flag does.
#[derive(Default)]
pub(in crate::http) struct Closing {
    now: AtomicBool,
    wake: CancellationToken,
}

impl Closing {
    /// From now on no connection waits for a further request.
    pub(in crate::http) fn begin(&self) {
        self.now.store(true, Ordering::Release);
        self.wake.cancel();
    }

    /// Waits for that.
    pub(in crate::http) fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.wake.cancelled()
    }

    fn is_now(&self) -> bool {
        self.now.load(Ordering::Acquire)
    }
}

/// What all connections have in common.
pub(in crate::http) struct Terms<'a, S> {
    /// Answers.
    pub(in crate::http) service: &'a S,
    /// How long a head may take, from the connection's start or the last answer's end.
    pub(in crate::http) header_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub(in crate::http) write_timeout: Duration,
    /// When to close.
    pub(in crate::http) closing: &'a Closing,
}

/// How the direct path ended.
#[derive(Debug)]
pub(in crate::http) enum Ended {
    /// The connection is to be closed.
    Closed(Why),
    /// The connection goes on in the library, which is to read these bytes first.
    Library(TcpStream, Bytes),
}

/// Why a connection ends.
#[derive(Debug)]
pub(in crate::http) enum Why {
    /// The client went, or asked for it, or the node drains.
    Wanted,
    /// No whole head came in time, after nothing at all or a part of one.
    Silent {
        /// Nothing was asked before.
        first: bool,
    },
    /// An answer was not taken in time.
    Stalled,
    /// It was open for too long without a request (HTTP/2).
    Idle,
    /// The socket failed.
    Failed(io::Error),
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Serves a connection for as long as its requests are plain.
pub(in crate::http) async fn serve<S: Service>(
    stream: TcpStream,
    peer: SocketAddr,
    terms: Terms<'_, S>,
) -> Ended {
    let mut wake = pin!(terms.closing.begun());
    std::future::poll_fn(|context| Poll::Ready(wake.as_mut().poll(context).is_ready())).await;
    let asked_by = Instant::now() + terms.header_timeout;
    let sleep = pin!(tokio::time::sleep_until(asked_by));
    let alarm = Alarm::new(sleep);
    let (read, write) = stream.into_split();
    let (seat, unread) = (Arc::new(Seat::new(write)), Vec::new());
    let mut connection = Connection { read, seat, unread, alarm, asked_by, terms, asked: false };
    let why = loop {
        match connection.round(peer).await {
            Ok(Round::Answered) => {}
            Ok(Round::Over) => break Why::Wanted,
            Ok(Round::Library(unread)) => return connection.into_library(unread).await,
            Err(why) => break why,
        }
    };
    if matches!(why, Why::Wanted) {
        // One that has gone already cannot be told.
        let _ = SockRef::from(connection.seat.stream()).shutdown(Shutdown::Write);
    }
    Ended::Closed(why)
}

/// What became of one request.
enum Round {
    Answered,
    Over,
    Library(Bytes),
}

/// How a request that waits with others ended.
enum Waited {
    /// It was answered.
    Answered,
    /// So much of its answer was sent.
    Begun(Bytes, usize),
    /// It is to be answered in the ordinary way.
    Ordinary,
    /// It has taken too long.
    Late,
    /// The client went.
    Gone,
}

struct Connection<'a, S> {
    read: OwnedReadHalf,
    seat: Arc<Seat>,
    /// Bytes that were read and are not yet used: a part of a head, or requests sent ahead.
    unread: Vec<u8>,
    alarm: Alarm<'a>,
    /// When the next head must be there.
    asked_by: Instant,
    terms: Terms<'a, S>,
    /// There was a request.
    asked: bool,
}

impl<S: Service> Connection<'_, S> {
    /// Reads a request and answers it.
    async fn round(&mut self, peer: SocketAddr) -> Result<Round, Why> {
        let (request, close) = loop {
            if !self.unread.is_empty() {
                let unread = Bytes::from(std::mem::take(&mut self.unread));
                match head::read(unread, |path| self.terms.service.takes(path)) {
                    Read::Plain { request, close, rest } => {
                        self.unread = rest.to_vec();
                        break (request, close);
                    }
                    Read::Other(unread) => return Ok(Round::Library(unread)),
                    Read::More(unread) => self.unread = unread.into(),
                }
            }
            if !std::future::poll_fn(|context| self.poll_head(context)).await? {
                return Ok(Round::Over);
            }
        };
        self.asked = true;
        let mut late = None;
        if !close {
            match self.wait_with_others(&request, peer, &mut late).await {
                Waited::Answered => return Ok(Round::Answered),
                Waited::Begun(answer, sent) => {
                    let rest = answer.get(sent..).unwrap_or_default();
                    self.send_all(Outgoing::new(rest, &[])).await?;
                    self.answered_at(Instant::now());
                    return Ok(Round::Answered);
                }
                Waited::Gone => return Ok(Round::Over),
                Waited::Ordinary | Waited::Late => {}
            }
        }
        let reply = match late {
            Some(late) => late,
            None => match self.answer(&request, peer).await {
                Some(reply) => reply,
                None => return Ok(Round::Over),
            },
        };
        drop(request);
        let close = close || (self.terms.closing.is_now() && !self.has_more()?);
        self.send(&reply, close).await?;
        if close {
            return Ok(Round::Over);
        }
        self.answered_at(Instant::now());
        Ok(Round::Answered)
    }

    fn answered_at(&mut self, at: Instant) {
        self.asked_by = at + self.terms.header_timeout;
    }

    /// Waits where others wait for the same, if that is what the request is for. Whoever has the
    /// answer for all sends it; this connection hears of it with its next request.
    async fn wait_with_others(
        &mut self,
        request: &Request<()>,
        peer: SocketAddr,
        late: &mut Option<Reply>,
    ) -> Waited {
        let mut until = None;
        std::future::poll_fn(|context| {
            let until = match until {
                Some(until) => until,
                None => {
                    self.seat.wakes(context.waker());
                    let parked = self.terms.service.park(request, peer, &self.seat);
                    let Some(patience) = parked else { return Poll::Ready(Waited::Ordinary) };
                    if !self.unread.is_empty() {
                        self.seat.is_ahead();
                    }
                    *until.insert(Instant::now() + patience)
                }
            };
            self.poll_told(context, until, late)
        })
        .await
    }

    fn poll_told(
        &mut self,
        context: &mut Context<'_>,
        until: Instant,
        late: &mut Option<Reply>,
    ) -> Poll<Waited> {
        loop {
            if let Some(told) = self.seat.look() {
                return Poll::Ready(self.heard(told));
            }
            // What is sent ahead is kept for later, so much and no more.
            if self.unread.len() >= HEAD_BYTES_MAX {
                break;
            }
            match self.poll_read(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => {
                    // It may have been answered, and gone after that.
                    self.seat.leave();
                    return Poll::Ready(Waited::Gone);
                }
                Poll::Ready(Ok(_)) => {
                    self.seat.is_ahead();
                }
            }
        }
        if self.terms.closing.is_now() {
            // Its answer is the last, and says so.
            let told = self.seat.leave().unwrap_or(Told::Ordinary);
            return Poll::Ready(self.heard(told));
        }
        ready!(self.alarm.poll(context, until));
        if let Some(told) = self.seat.leave() {
            return Poll::Ready(self.heard(told));
        }
        *late = Some(self.terms.service.late());
        Poll::Ready(Waited::Late)
    }

    fn heard(&mut self, told: Told) -> Waited {
        match told {
            Told::Answered(at) => {
                self.answered_at(Instant::from_std(at));
                Waited::Answered
            }
            Told::Begun(answer, sent) => Waited::Begun(answer, sent),
            Told::Ordinary => Waited::Ordinary,
        }
    }

    /// Gives the connection to the library.
    async fn into_library(self, unread: Bytes) -> Ended {
        let (read, mut seat) = (self.read, self.seat);
        // Somebody with an old ticket may be looking at it just now.
        let write = loop {
            match Arc::try_unwrap(seat) {
                Ok(seat) => break seat.into_write(),
                Err(shared) => seat = shared,
            }
            tokio::task::yield_now().await;
        };
        match read.reunite(write) {
            Ok(stream) => Ended::Library(stream, unread),
            // They are halves of one.
            Err(error) => Ended::Closed(Why::Failed(io::Error::other(error))),
        }
    }

    /// Reads more of a head; false when there is none to come. A request that came before it was
    /// time to close is still read.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Why>> {
        if let Poll::Ready(read) = self.poll_read(context) {
            return Poll::Ready(Ok(read? > 0));
        }
        if self.unread.is_empty() && self.terms.closing.is_now() {
            return Poll::Ready(Ok(self.has_more()?));
        }
        ready!(self.alarm.poll(context, self.asked_by));
        Poll::Ready(Err(Why::Silent { first: !self.asked }))
    }

    /// Reads what there is; 0 at the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.read).poll_read(context, &mut room))?;
        self.unread.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Whether something has come that is not yet answered. Asks the system itself: the runtime
    /// may not have heard of it yet.
    fn has_more(&mut self) -> io::Result<bool> {
        if self.unread.is_empty() {
            let mut room = [0; READ_BYTES];
            match (&*SockRef::from(self.seat.stream())).read(&mut room) {
                Ok(count) => self.unread.extend(room.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.unread.is_empty())
    }

    /// Waits for the answer; none when the client goes before it is there.
    async fn answer(&mut self, request: &Request<()>, peer: SocketAddr) -> Option<Reply> {
        let service = self.terms.service;
        let mut answer = pin!(service.answer(request, peer));
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            // What is sent ahead is kept for later, so much and no more.
            while self.unread.len() < HEAD_BYTES_MAX {
                match ready!(self.poll_read(context)) {
                    Ok(0) | Err(_) => return Poll::Ready(None),
                    Ok(_) => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn send(&mut self, reply: &Reply, close: bool) -> Result<(), Why> {
        let mut head = SCRATCH.take();
        head.clear();
        write_head(&mut head, reply, close);
        let mut body = reply.body().rope().pieces();
        if let [one] = body
            && one.len() <= COPIED_BYTES_MAX
        {
            head.extend_from_slice(one);
            body = &[];
        }
        let sent = self.send_all(Outgoing::new(&head, body)).await;
        SCRATCH.set(head);
        sent
    }

    async fn send_all(&mut self, mut out: Outgoing<'_>) -> Result<(), Why> {
        let mut until = None;
        std::future::poll_fn(|context| {
            while !out.is_done() {
                match out.with(|pieces| self.seat.try_write(pieces)) {
                    Ok(0) => {
                        return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                    }
                    Ok(bytes) => {
                        out.sent(bytes);
                        until = None;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if let Poll::Ready(ready) = self.seat.stream().poll_write_ready(context) {
                            ready?;
                            continue;
                        }
                        let timeout = self.terms.write_timeout;
                        let until = *until.get_or_insert_with(|| Instant::now() + timeout);
                        ready!(self.alarm.poll(context, until));
                        return Poll::Ready(Err(Why::Stalled));
                    }
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

thread_local! {
    /// Room for what is sent, which nearly always goes in one call, so that a thread needs it once.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// A second since 1970, and how `Date` writes it.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

fn write_head(out: &mut Vec<u8>, reply: &Reply, close: bool) {
    with_date(|date| head::write(out, reply.status(), reply.fields(), date, close));
}

/// An answer as it is sent to many, head and body in one piece. None of them is the last.
pub(in crate::http) fn whole(reply: &Reply) -> Bytes {
    let mut out = Vec::new();
    write_head(&mut out, reply, false);
    for piece in reply.body().rope().pieces() {
        out.extend_from_slice(piece);
    }
    out.into()
}

/// Shows `take` the time as `Date` writes it.
fn with_date<R>(take: impl FnOnce(&str) -> R) -> R {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(written, text)| {
        if *written != second || text.is_empty() {
            *written = second;
            *text = httpdate::fmt_http_date(now);
        }
        take(text)
    })
}
