//! One HTTP/1.1 connection of a client, without waiting. Driver: a socket.
//!
//! Not here: which connection takes which request (`h1`), the form of responses (`response`).

use std::io::{self, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use mio::net::TcpStream;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::client::{Body, ClientId, Failure};
use super::response::{Fed, Reader};
use super::target::Server;
use super::units::At;

/// Read at first where the body is to be thrown away: a head, and little of what follows it.
const HEAD_BYTES: usize = 1 << 10;

/// A request that waits for a connection, or is under way on one.
#[derive(Clone, Debug)]
pub(super) struct Request<T> {
    pub(super) tag: T,
    pub(super) path: Arc<str>,
    pub(super) body: Body,
    /// When the client asked.
    pub(super) asked: At,
    /// It was lost with a connection that had been idle, and is made a second time.
    pub(super) again: bool,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) request: Request<T>,
    pub(super) first_byte: Option<At>,
    /// Bytes of the body so far.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Connection<T> {
    stream: TcpStream,
    pub(super) client: ClientId,
    pub(super) job: Option<Job<T>>,
    pub(super) reader: Reader,
    /// What was kept of the body.
    pub(super) body: Vec<u8>,
    /// What of the request could not be sent at once.
    unsent: Vec<u8>,
    connected: bool,
    /// It has had a response before.
    pub(super) used: bool,
}

/// What a read led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is there to read.
    Blocked,
    /// All there was has been read, unless the connection has ended.
    Short,
    /// There may be more to read.
    More,
    /// The response is whole.
    Whole,
    /// The connection is of no more use: the request under way has no response.
    Broken(Failure),
}

impl<T> Connection<T> {
    /// Begins to connect.
    pub(super) fn open(server: &Server, client: ClientId) -> io::Result<Self> {
        let domain = Domain::for_address(server.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = server.source(client) {
            socket.bind(&source.into())?;
        }
        match socket.connect(&server.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            client,
            job: None,
            reader: Reader::default(),
            body: Vec::new(),
            unsent: Vec::new(),
            connected: false,
            used: false,
        })
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request, or as much as goes now.
    pub(super) fn send(&mut self, server: &Server, request: Request<T>) -> io::Result<()> {
        let path = Arc::clone(&request.path);
        self.job = Some(Job { request, first_byte: None, bytes: 0 });
        self.reader.reset();
        let pieces: [&[u8]; 3] = [b"GET ", path.as_bytes(), &server.tail];
        let mut sent = 0;
        if self.connected {
            match self.stream.write_vectored(&pieces.map(IoSlice::new)) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        for piece in pieces {
            let taken = sent.min(piece.len());
            self.unsent.extend_from_slice(piece.get(taken..).unwrap_or_default());
            sent -= taken;
        }
        Ok(())
    }

    /// The socket can be written: it may be connected by now.
    pub(super) fn writable(&mut self) -> Result<(), Failure> {
        if !self.connected {
            let error = self.stream.take_error().unwrap_or_else(Some);
            if error.is_some() {
                return Err(Failure::Connect);
            }
            if self.stream.peer_addr().is_err() {
                return Ok(());
            }
            self.connected = true;
        }
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count.min(self.unsent.len()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Lost),
            }
        }
        Ok(())
    }

    /// Reads once into `scratch`; `seen` is when the system said that there is something.
    pub(super) fn read(&mut self, scratch: &mut [u8], seen: At) -> Step {
        let discard = self.job.as_ref().is_some_and(|job| job.request.body == Body::Discard);
        let remaining = self.reader.remaining().filter(|_| discard);
        let wanted = match remaining {
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
            None if discard && self.reader.head().is_none() => HEAD_BYTES,
            None => usize::MAX,
        };
        let wanted = wanted.min(scratch.len());
        let room = scratch.get_mut(..wanted).unwrap_or_default();
        let read = match remaining {
            // The kernel drops the bytes instead of copying them (tcp(7)).
            Some(_) => rustix::net::recv(&self.stream, room, RecvFlags::TRUNC)
                .map(|(_, count)| count)
                .map_err(io::Error::from),
            None => self.stream.read(room),
        };
        let count = match read {
            Ok(0) => return self.closed(),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Step::More,
            Err(_) if !self.connected => return Step::Broken(Failure::Connect),
            Err(_) => return Step::Broken(Failure::Lost),
        };
        let Some(job) = &mut self.job else { return Step::Broken(Failure::Protocol) };
        job.first_byte.get_or_insert(seen);
        let fed = if remaining.is_some() {
            job.bytes += count as u64;
            Ok(self.reader.skip(count as u64))
        } else {
            let (body, bytes) = (&mut self.body, &mut job.bytes);
            self.reader.feed(scratch.get(..count).unwrap_or_default(), |piece| {
                *bytes += piece.len() as u64;
                if !discard {
                    body.extend_from_slice(piece);
                }
            })
        };
        match fed {
            Ok(Fed::Done(0)) => Step::Whole,
            Ok(Fed::Done(_)) | Err(_) => Step::Broken(Failure::Protocol),
            // What comes after a short read is announced (epoll(7), edge-triggered).
            Ok(Fed::More) if count < wanted => Step::Short,
            Ok(Fed::More) => Step::More,
        }
    }

    fn closed(&mut self) -> Step {
        match self.job {
            Some(_) if self.reader.closed().is_ok() => Step::Whole,
            _ => Step::Broken(Failure::Lost),
        }
    }
}

/// `EINPROGRESS`.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
