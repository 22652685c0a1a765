//! The HTTP listener: connections in, requests to the service, bounded in number and in time.
//! A driver file.
//!
//! Not here: what a request gets (`routes`), how requests for media are read (`direct`), the other
//! requests' connections (`library`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::direct::{self, Closing, Ended, Seat, Terms, Why};
use super::hls::Reply;
use super::{library, refusal};

/// Streams of one HTTP/2 connection at a time. A player uses about ten; a shared proxy opens
/// further connections.
const H2_STREAMS_MAX: u32 = 256;
/// Bytes of a request's header. Enough for long tokens and cookies of other services on the host.
pub(super) const HEADER_BYTES_MAX: u32 = 32 << 10;
/// How often an idle HTTP/2 connection is pinged, and how long an answer may take.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Pause after a failed accept: descriptors come back as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Failures in a row that make one line of the log.
const ACCEPT_FAILURES_A_LINE: u64 = 200;

/// Options of the listener.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// TCP address and port (`[http] listen`).
    pub listen: SocketAddr,
    /// Open connections (`[limits] http_connections`); further ones get 503 and are closed.
    pub connections: usize,
    /// How long a request's header may take, from the connection's start or the last request's
    /// end (`[limits] http_header_timeout`).
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer (`[limits] http_write_timeout`).
    pub write_timeout: Duration,
    /// How long an HTTP/2 connection may be without a request (`[limits] http_idle_timeout`).
    pub idle_timeout: Duration,
}

/// The client's address, as an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Answers requests. Shared by all connections.
pub trait Service: Send + Sync + 'static {
    /// Whether `answer` is to be asked, where a request is plain enough for the direct path.
    fn takes(&self, path: &str) -> bool;

    /// Answers a request of the direct path. Dropping the future gives up waiting.
    fn answer(&self, request: &Request<()>, peer: SocketAddr)
    -> impl Future<Output = Reply> + Send;

    /// Lets the request wait in `seat` with others who wait for the same, so long at most; none
    /// where [`Self::answer`] is to be asked.
    fn park(&self, request: &Request<()>, peer: SocketAddr, seat: &Arc<Seat>) -> Option<Duration> {
        let _ = (request, peer, seat);
        None
    }

    /// The answer to a request that has waited in vain for so long.
    fn late(&self) -> Reply;

    /// Answers one request, which bears [`Peer`] as an extension.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// A bound listener.
pub struct HttpServer {
    listener: TcpListener,
    options: HttpOptions,
}

impl HttpServer {
    /// Binds.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(options: HttpOptions) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(options.listen);
        let socket = Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if options.listen.is_ipv6() {
            // `[::]` is both families, whatever the system's default.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&options.listen.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())?, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `drain`; then takes no connection, lets requests under way finish, and closes
    /// what is left when `force` comes.
    pub async fn run<S: Service>(
        self,
        service: Arc<S>,
        drain: CancellationToken,
        force: CancellationToken,
    ) {
        let permits = Arc::new(Semaphore::new(self.options.connections));
        let closing = Arc::new(Closing::default());
        let mut tasks = JoinSet::new();
        let builder = Arc::new(self.builder());
        let mut failures = 0_u64;
        loop {
            let accepted = tokio::select! {
                () = drain.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if failures.is_multiple_of(ACCEPT_FAILURES_A_LINE) {
                        tracing::warn!(%error, failures, "cannot accept an HTTP connection");
                    }
                    failures += 1;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failures = 0;
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                refuse(&stream);
                continue;
            };
            let connection = Connection {
                builder: Arc::clone(&builder),
                service: Arc::clone(&service),
                closing: Arc::clone(&closing),
                peer,
                options: self.options,
                _permit: permit,
            };
            tasks.spawn(connection.serve(stream));
        }
        drop(self.listener);
        closing.begin();
        let ended = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = force.cancelled() => {}
        }
        // Whatever has not ended is dropped where it stands.
        tasks.shutdown().await;
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.header_timeout)
            .max_buf_size(HEADER_BYTES_MAX as usize)
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        builder
    }
}

/// Answers 503 with one write, without waiting, and leaves the connection to be closed.
fn refuse(stream: &TcpStream) {
    metrics::counter!("headwater_http_connections_refused_total").increment(1);
    if let Err(error) = SockRef::from(stream).send(&refusal::full()) {
        tracing::debug!(%error, "the refused HTTP client is gone already");
    }
}

struct Connection<S> {
    builder: Arc<auto::Builder<TokioExecutor>>,
    service: Arc<S>,
    closing: Arc<Closing>,
    peer: SocketAddr,
    options: HttpOptions,
    _permit: OwnedSemaphorePermit,
}

impl<S: Service> Connection<S> {
    /// Serves a connection to its end: by the direct path until something comes that is not
    /// plain, and by the library from there on.
    async fn serve(self, stream: TcpStream) {
        let (peer, options) = (self.peer, self.options);
        let unread = SockRef::from(&stream).set_tcp_user_timeout(Some(options.write_timeout));
        if let Err(error) = stream.set_nodelay(true).and(unread) {
            tracing::debug!(%error, "cannot set TCP_NODELAY or TCP_USER_TIMEOUT");
        }
        let open = metrics::gauge!("headwater_http_connections");
        open.increment(1.0);
        let _count = CountDown(open);
        let terms = Terms {
            service: &*self.service,
            header_timeout: options.header_timeout,
            write_timeout: options.write_timeout,
            closing: &self.closing,
        };
        let ended = direct::serve(stream, peer, terms).await;
        let why = match ended {
            // The library's state is some KiB, which most connections do without.
            Ended::Library(stream, unread) => {
                let terms = library::Terms {
                    builder: &self.builder,
                    service: &self.service,
                    options,
                    closing: &self.closing,
                };
                Box::pin(library::serve(stream, unread, peer, terms)).await
            }
            Ended::Closed(why) => why,
        };
        match why {
            Why::Wanted => {}
            Why::Silent { first } => {
                if first {
                    metrics::counter!("headwater_http_header_timeouts_total").increment(1);
                }
                tracing::debug!(%peer, "no request within the time for its header");
            }
            Why::Stalled => {
                metrics::counter!("headwater_http_write_timeouts_total").increment(1);
                tracing::debug!(%peer, "an answer was not taken in time");
            }
            Why::Idle => {
                metrics::counter!("headwater_http_idle_timeouts_total").increment(1);
                tracing::debug!(%peer, "no request for too long");
            }
            Why::Failed(error) => tracing::debug!(%peer, %error, "HTTP connection failed"),
        }
    }
}

struct CountDown(metrics::Gauge);

impl Drop for CountDown {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
