//! Drives clients over HTTP/1.1: one thread, one epoll, thousands of connections. Driver.
//!
//! As a browser does, each client has up to six connections, opens one only when none is idle,
//! and takes the one last used first. Times of first bytes are those at which the system had them
//! ready, so that the queue inside this program does not count as the server's.
//! Not here: what clients ask for.
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use super::client::{Answer, Ask, Asks, ClientId, Clients, Failure, Response};
use super::connection::{Connection, Request, Step};
use super::target::Server;
use super::units::At;

/// Connections of a client, as browsers have for a host.
const CONNECTIONS_MAX: usize = 6;
/// Events taken at a time: few, so that the clock is read often.
const EVENTS: usize = 256;
/// Bytes read at a time.
const SCRATCH_BYTES: usize = 256 << 10;
/// How often requests without an answer are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Buffers for bodies that are kept for the next response.
const SPARE_MAX: usize = 64;
const WAKE: Token = Token(usize::MAX);

/// What another thread has a driver's clients do.
pub type Command<C> = Box<dyn FnOnce(&mut C, At, &mut Asks<<C as Clients>::Tag>) + Send>;

/// A client's connections.
#[derive(Debug)]
struct Pool<T> {
    /// The last is the one last used.
    idle: Vec<usize>,
    open: usize,
    queue: VecDeque<Request<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: Vec::new(), open: 0, queue: VecDeque::new() }
    }
}

/// See the module.
pub struct Driver<C: Clients> {
    clients: C,
    server: Server,
    /// How long a request may go without a byte of its answer.
    patience: Duration,
    began: Instant,
    poll: Poll,
    pools: Vec<Pool<C::Tag>>,
    connections: Vec<Option<Connection<C::Tag>>>,
    free: Vec<usize>,
    asks: Asks<C::Tag>,
    scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

impl<C: Clients> Driver<C> {
    /// A driver of `clients`, whose moments count from `began`.
    ///
    /// # Errors
    /// There is no epoll to be had.
    pub fn new(
        clients: C,
        server: Server,
        patience: Duration,
        began: Instant,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let driver = Self {
            clients,
            server,
            patience,
            began,
            poll,
            pools: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            asks: Asks::default(),
            scratch: vec![0; SCRATCH_BYTES],
            spare: Vec::new(),
        };
        Ok((driver, waker))
    }

    /// Runs until nobody can send commands any more; gives the clients back.
    ///
    /// # Errors
    /// The system fails.
    pub fn run(mut self, commands: &Receiver<Command<C>>) -> io::Result<C> {
        let mut events = Events::with_capacity(EVENTS);
        let mut swept = self.now();
        loop {
            let now = self.now();
            let due = self.clients.wake_at().map_or(SWEEP_INTERVAL, |at| at.since(now));
            // A millisecond at least: epoll counts in these, and rounds down.
            let pause = due.clamp(Duration::from_millis(1), SWEEP_INTERVAL);
            match self.poll.poll(&mut events, Some(pause)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let seen = self.now();
            for event in &events {
                if event.token() != WAKE {
                    self.ready(event, seen);
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => {
                        let now = self.now();
                        command(&mut self.clients, now, &mut self.asks);
                        self.dispatch();
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        let now = self.now();
                        self.clients.finish(now);
                        return Ok(self.clients);
                    }
                }
            }
            let now = self.now();
            self.clients.wake(now, &mut self.asks);
            self.dispatch();
            if now.since(swept) >= SWEEP_INTERVAL {
                swept = now;
                self.sweep(now);
            }
            let took = self.now().since(seen);
            self.clients.took(took);
        }
    }

    fn now(&self) -> At {
        At::after(self.began.elapsed())
    }

    fn ready(&mut self, event: &Event, seen: At) {
        let Token(index) = event.token();
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if event.is_writable()
            && let Err(failure) = connection.writable()
        {
            self.broken(index, failure);
            return;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, seen, event.is_read_closed() || event.is_error());
        }
    }

    /// Reads what there is; with `to_end`, until the system says that nothing is left.
    fn read(&mut self, index: usize, seen: At, to_end: bool) {
        while let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            if connection.body.capacity() == 0
                && let Some(spare) = self.spare.pop()
            {
                connection.body = spare;
            }
            match connection.read(&mut self.scratch, seen) {
                Step::Blocked => return,
                Step::Short if !to_end => return,
                Step::Short | Step::More => {}
                Step::Whole => {
                    self.whole(index);
                    if !to_end {
                        return;
                    }
                }
                Step::Broken(failure) => {
                    self.broken(index, failure);
                    return;
                }
            }
        }
    }

    /// The response on a connection is whole.
    fn whole(&mut self, index: usize) {
        let whole = self.now();
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(job) = connection.job.take() else { return };
        let head = connection.reader.head().unwrap_or_default();
        let mut body = std::mem::take(&mut connection.body);
        let client = connection.client;
        connection.used = true;
        if head.keep_alive {
            if let Some(pool) = self.pools.get_mut(client.index()) {
                pool.idle.push(index);
            }
        } else {
            self.close(index);
        }
        let request = job.request;
        let answer = Answer {
            result: Ok(Response {
                status: head.status,
                gzip: head.gzip,
                body: &body,
                bytes: job.bytes,
            }),
            sent: request.asked,
            first_byte: job.first_byte.unwrap_or(whole),
            whole,
        };
        self.clients.answered(client, request.tag, &answer, &mut self.asks);
        self.feed_queue(client);
        self.dispatch();
        body.clear();
        if self.spare.len() < SPARE_MAX && body.capacity() > 0 {
            self.spare.push(body);
        }
    }

    /// A connection is of no more use.
    fn broken(&mut self, index: usize, failure: Failure) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let client = connection.client;
        let job = connection.job.take();
        let fresh = connection.reader.is_fresh();
        let used = connection.used;
        self.close(index);
        let Some(job) = job else { return };
        // The server closed a connection that it took for idle: browsers ask again.
        if used && fresh && failure == Failure::Lost && !job.request.again {
            self.submit(client, Request { again: true, ..job.request });
            self.dispatch();
            return;
        }
        self.fail(client, job.request, job.first_byte, failure);
        self.feed_queue(client);
        self.dispatch();
    }

    fn fail(
        &mut self,
        client: ClientId,
        request: Request<C::Tag>,
        first_byte: Option<At>,
        failure: Failure,
    ) {
        let now = self.now();
        let answer = Answer {
            result: Err(failure),
            sent: request.asked,
            first_byte: first_byte.unwrap_or(now),
            whole: now,
        };
        self.clients.answered(client, request.tag, &answer, &mut self.asks);
    }

    /// Does what the clients want, until they want nothing more.
    fn dispatch(&mut self) {
        while !self.asks.is_empty() {
            let mut asks = std::mem::take(&mut self.asks);
            let asked = self.now();
            for ask in asks.drain() {
                match ask {
                    Ask::Get { client, tag, path, body } => {
                        let request = Request { tag, path, body, asked, again: false };
                        self.submit(client, request);
                    }
                    Ask::Leave(client) => self.leave(client),
                }
            }
            // Its room is used again, unless the clients have wanted more meanwhile.
            if self.asks.is_empty() {
                self.asks = asks;
            }
        }
    }

    /// Takes the request to an idle connection, to a new one, or to the queue.
    fn submit(&mut self, client: ClientId, request: Request<C::Tag>) {
        if self.pools.len() <= client.index() {
            self.pools.resize_with(client.index() + 1, Pool::default);
        }
        let Some(pool) = self.pools.get_mut(client.index()) else { return };
        if let Some(index) = pool.idle.pop() {
            self.send(index, request);
            return;
        }
        if pool.open >= CONNECTIONS_MAX {
            pool.queue.push_back(request);
            return;
        }
        match self.open(client) {
            Ok(index) => self.send(index, request),
            Err(error) => {
                tracing::debug!(%error, "cannot open a connection");
                self.fail(client, request, None, Failure::Connect);
            }
        }
    }

    fn feed_queue(&mut self, client: ClientId) {
        let Some(pool) = self.pools.get_mut(client.index()) else { return };
        let has_room = !pool.idle.is_empty() || pool.open < CONNECTIONS_MAX;
        if has_room && let Some(request) = pool.queue.pop_front() {
            self.submit(client, request);
        }
    }

    fn send(&mut self, index: usize, request: Request<C::Tag>) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if connection.send(&self.server, request).is_err() {
            // As if it had been closed while it was idle; told later, not from inside.
            self.broken(index, Failure::Lost);
        }
    }

    fn open(&mut self, client: ClientId) -> io::Result<usize> {
        let mut connection = Connection::open(&self.server, client)?;
        let index = self.free.pop().unwrap_or(self.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(connection.stream(), Token(index), interest)?;
        if index == self.connections.len() {
            self.connections.push(Some(connection));
        } else if let Some(place) = self.connections.get_mut(index) {
            *place = Some(connection);
        }
        if let Some(pool) = self.pools.get_mut(client.index()) {
            pool.open += 1;
        }
        Ok(index)
    }

    fn close(&mut self, index: usize) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        // Closing the socket takes it out of the epoll as well; this is for the library.
        let _ = self.poll.registry().deregister(connection.stream());
        self.free.push(index);
        if let Some(pool) = self.pools.get_mut(connection.client.index()) {
            pool.idle.retain(|idle| *idle != index);
            pool.open = pool.open.saturating_sub(1);
        }
    }

    fn leave(&mut self, client: ClientId) {
        if let Some(pool) = self.pools.get_mut(client.index()) {
            *pool = Pool::default();
        }
        let of_client = |connection: &Option<Connection<C::Tag>>| {
            connection.as_ref().is_some_and(|connection| connection.client == client)
        };
        let indices: Vec<usize> = (0..self.connections.len())
            .zip(&self.connections)
            .filter(|(_, connection)| of_client(connection))
            .map(|(index, _)| index)
            .collect();
        for index in indices {
            self.close(index);
        }
    }

    /// Gives up requests that have gone without a byte for too long.
    fn sweep(&mut self, now: At) {
        let patience = self.patience;
        let late = |connection: &Option<Connection<C::Tag>>| {
            let job = connection.as_ref().and_then(|connection| connection.job.as_ref());
            job.is_some_and(|job| {
                job.first_byte.is_none() && now.since(job.request.asked) > patience
            })
        };
        let indices: Vec<usize> = (0..self.connections.len())
            .zip(&self.connections)
            .filter(|(_, connection)| late(connection))
            .map(|(index, _)| index)
            .collect();
        for index in indices {
            self.broken(index, Failure::TimedOut);
        }
    }
}
