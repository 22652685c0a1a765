//! Connections of the direct path, and of the library behind it, over loopback.
#![allow(clippy::disallowed_methods, reason = "tests: they measure how long something takes")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Seat, whole};
use crate::http::hls::Reply;
use crate::http::server::{HttpOptions, HttpServer, Service};

/// Long enough for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);
const BIG_BYTES: usize = 16 << 20;

/// Answers `/hls/wait` and `/wait` when told, `/hls/big` with much, and the rest under `/hls/` with its path.
struct Echo {
    open: watch::Sender<bool>,
    waiting: AtomicUsize,
    /// Those who wait with others.
    parked: Mutex<Vec<(Arc<Seat>, u64)>>,
    patience: Duration,
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Echo {
    async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _place = Place(&self.waiting);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

impl Service for Echo {
    fn takes(&self, path: &str) -> bool {
        path.starts_with("/hls/")
    }

    async fn answer(&self, request: &Request<()>, _: SocketAddr) -> Reply {
        let path = request.uri().path();
        let mut body = Bytes::copy_from_slice(path.as_bytes());
        if path == "/hls/wait" {
            self.wait().await;
        } else if path == "/hls/big" {
            body = vec![b'a'; BIG_BYTES].into();
        }
        Reply::saying(body)
    }

    fn park(&self, request: &Request<()>, _: SocketAddr, seat: &Arc<Seat>) -> Option<Duration> {
        request.uri().path().starts_with("/hls/parked").then(|| {
            let ticket = seat.take(Box::new(()));
            self.parked.lock().push((Arc::clone(seat), ticket));
            self.patience
        })
    }

    fn late(&self) -> Reply {
        Reply::saying("late")
    }

    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/wait" {
            self.wait().await;
        }
        Response::new(Body::from(format!("library {path}")))
    }
}

struct Running {
    echo: Arc<Echo>,
    address: SocketAddr,
    drain: CancellationToken,
    force: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(header_timeout: Duration, write_timeout: Duration) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let idle_timeout = header_timeout;
        let options =
            HttpOptions { listen, connections: 10, header_timeout, write_timeout, idle_timeout };
        let server = HttpServer::bind(options).unwrap();
        let address = server.address().unwrap();
        let echo = Arc::new(Echo {
            open: watch::channel(false).0,
            waiting: AtomicUsize::new(0),
            parked: Mutex::default(),
            patience: header_timeout,
        });
        let (drain, force) = (CancellationToken::new(), CancellationToken::new());
        let server = tokio::spawn(server.run(Arc::clone(&echo), drain.clone(), force.clone()));
        Self { echo, address, drain, force, server }
    }

    fn patient() -> Self {
        Self::start(PATIENCE * 2, PATIENCE * 2)
    }

    async fn client(&self, said: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream
    }

    async fn until_waiting(&self, count: usize) {
        let begun = Instant::now();
        while self.echo.waiting.load(Ordering::SeqCst) != count {
            assert!(begun.elapsed() < PATIENCE, "{count} wait");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Running {
    /// Waits until so many are parked, and takes them.
    async fn parked(&self, count: usize) -> Vec<(Arc<Seat>, u64)> {
        let begun = Instant::now();
        while self.echo.parked.lock().len() < count {
            assert!(begun.elapsed() < PATIENCE, "{count} are parked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::take(&mut *self.echo.parked.lock())
    }

    /// Gives all who are parked this.
    async fn give(&self, count: usize, text: &Bytes) -> usize {
        let given = |(seat, ticket): &(Arc<Seat>, u64)| seat.give(*ticket, text, Instant::now());
        self.parked(count).await.iter().filter(|parked| given(parked)).count()
    }
}

fn said(text: &'static str) -> Bytes {
    whole(&Reply::saying(text))
}

#[tokio::test]
async fn one_who_waits_with_others_is_answered_from_outside_each_time_it_asks() {
    let running = Running::patient();
    let mut client = running.client(&get("/hls/parked")).await;
    for text in ["one", "two", "three"] {
        assert_eq!(running.give(1, &said(text)).await, 1);
        read_to(&mut client, text).await;
        client.write_all(get("/hls/parked").as_bytes()).await.unwrap();
    }
    let (seat, ticket) = running.parked(1).await.remove(0);
    seat.release(ticket);
    read_to(&mut client, "/hls/parked").await;
    assert!(!seat.give(ticket, &said("stale"), Instant::now()), "it waits no more");
}

#[tokio::test]
async fn a_request_that_was_sent_ahead_has_its_turn_after_the_one_that_waited() {
    let running = Running::patient();
    let ahead = get("/hls/parked") + &get("/hls/next");
    let mut client = running.client(&ahead).await;
    assert_eq!(running.give(1, &said("first")).await, 1);
    read_to(&mut client, "/hls/next").await;
    // Likewise where it comes while the first one waits already.
    client.write_all(get("/hls/parked").as_bytes()).await.unwrap();
    let parked = running.parked(1).await;
    client.write_all(get("/hls/last").as_bytes()).await.unwrap();
    assert!(parked[0].0.give(parked[0].1, &said("second"), Instant::now()));
    read_to(&mut client, "/hls/last").await;
}

#[tokio::test]
async fn an_answer_that_the_socket_does_not_take_whole_is_finished_by_its_connection() {
    let running = Running::patient();
    let mut client = running.client(&get("/hls/parked")).await;
    let big = whole(&Reply::saying(vec![b'b'; BIG_BYTES]));
    assert_eq!(running.give(1, &big).await, 1);
    let mut got = vec![0; big.len()];
    client.read_exact(&mut got).await.unwrap();
    assert!(got == big);
}

#[tokio::test]
async fn one_who_has_waited_too_long_is_told_so_and_one_who_has_gone_is_not_answered() {
    let running = Running::start(Duration::from_millis(50), PATIENCE);
    let mut client = running.client(&get("/hls/parked")).await;
    read_to(&mut client, "late").await;
    let running = Running::patient();
    let client = running.client(&get("/hls/parked")).await;
    let parked = running.parked(1).await;
    drop(client);
    let begun = Instant::now();
    while parked[0].0.waits(parked[0].1) {
        assert!(begun.elapsed() < PATIENCE, "it has gone");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!parked[0].0.give(parked[0].1, &said("nobody"), Instant::now()));
}

#[tokio::test]
async fn one_who_waits_while_the_node_drains_is_answered_in_the_ordinary_way() {
    let running = Running::patient();
    let mut client = running.client(&get("/hls/parked")).await;
    drop(running.parked(1).await);
    running.drain.cancel();
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    assert!(got.contains("connection: close") && got.ends_with("/hls/parked"), "{got}");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Reads on until what was read ends with `end`.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !all.ends_with(end.as_bytes()) {
            assert!(stream.read_buf(&mut all).await.unwrap() > 0, "the end comes too early");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it comes");
    String::from_utf8(all).unwrap()
}

/// Reads on until the connection ends, however it does.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let reading = async { while stream.read_buf(&mut all).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(PATIENCE, reading).await.expect("it ends");
    all
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order_and_others_go_on_in_the_library() {
    let running = Running::patient();
    let said = get("/hls/1") + &get("/hls/2") + &get("/other") + &get("/hls/3");
    let mut stream = running.client(&said).await;
    let text = read_to(&mut stream, "library /hls/3").await;
    let places = ["\r\n\r\n/hls/1HTTP", "\r\n\r\n/hls/2HTTP", "\r\n\r\nlibrary /otherHTTP"];
    let places = places.map(|place| text.find(place));
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{text}");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read_and_what_was_read_reaches_the_library() {
    let running = Running::patient();
    for (path, answer) in [("/hls/1", "\r\n\r\n/hls/1"), ("/other", "library /other")] {
        let mut stream = running.client("").await;
        stream.set_nodelay(true).unwrap();
        for byte in get(path).bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        read_to(&mut stream, answer).await;
    }
}

#[tokio::test]
async fn an_answer_says_when_it_is_the_last() {
    let running = Running::patient();
    let said =
        "GET /hls/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned() + &get("/hls/2");
    let text = String::from_utf8(read_all(&mut running.client(&said).await).await).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\nconnection: close\r\n") && text.contains("\r\ndate: "), "{text}");
    assert!(text.ends_with("\r\n\r\n/hls/1"), "{text}");
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_longer_and_one_that_says_more_does() {
    let running = Running::patient();
    let gone = running.client(&get("/hls/wait")).await;
    let mut stays = running.client(&get("/hls/wait")).await;
    running.until_waiting(2).await;
    drop(gone);
    running.until_waiting(1).await;
    stays.write_all(get("/hls/2").as_bytes()).await.unwrap();
    running.echo.open.send_replace(true);
    let text = read_to(&mut stays, "\r\n\r\n/hls/2").await;
    assert!(text.contains("\r\n\r\n/hls/waitHTTP/1.1"), "{text}");
}

#[tokio::test]
async fn who_says_nothing_is_cut_off_in_time_and_who_waits_for_an_answer_is_not() {
    let limit = Duration::from_millis(200);
    let running = Running::start(limit, PATIENCE * 2);
    let mut waits = running.client(&get("/hls/wait")).await;
    running.until_waiting(1).await;
    for opening in ["", "GET /hls/1 HTTP/1.1\r\nHost:", &get("/hls/1")] {
        let begun = Instant::now();
        let mut stream = running.client(opening).await;
        read_all(&mut stream).await;
        assert!(begun.elapsed() >= limit / 2, "{opening:?} is cut off too early");
    }
    running.echo.open.send_replace(true);
    read_to(&mut waits, "\r\n\r\n/hls/wait").await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off_in_time_and_who_takes_it_slowly_is_not() {
    let patience = Duration::from_millis(300);
    let running = Running::start(PATIENCE * 2, patience);
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut stream = socket.connect(running.address).await.unwrap();
        stream.write_all(get("/hls/big").as_bytes()).await.unwrap();
        stream
    };
    let begun = Instant::now();
    let deaf = connect().await;
    let mut slow = connect().await;
    // One mebibyte each tenth of the patience: more than the patience in all. (Much less at a time
    // would not do: the system says that a socket has room once a third of its buffer is free.)
    let (mut all, mut piece) = (0, vec![0; 1 << 20]);
    let mut pace = tokio::time::interval(patience / 10);
    while all + piece.len() < BIG_BYTES {
        pace.tick().await;
        all += slow.read_exact(&mut piece).await.unwrap();
    }
    assert!(begun.elapsed() > patience, "{:?}", begun.elapsed());
    let mut rest = vec![0; BIG_BYTES - all];
    slow.read_exact(&mut rest).await.expect("all of it comes");
    let begun = Instant::now();
    let is_cut = || deaf.try_write(b"G").is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock);
    while !is_cut() {
        assert!(begun.elapsed() < PATIENCE, "it is cut off");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_drain_closes_who_is_idle_answers_who_waits_and_ends() {
    let running = Running::patient();
    let mut idle = running.client(&get("/hls/1")).await;
    read_to(&mut idle, "\r\n\r\n/hls/1").await;
    let mut waits = running.client(&get("/hls/wait")).await;
    running.until_waiting(1).await;
    running.drain.cancel();
    assert!(read_all(&mut idle).await.is_empty());
    running.echo.open.send_replace(true);
    let text = String::from_utf8(read_all(&mut waits).await).unwrap();
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    tokio::time::timeout(PATIENCE, running.server).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn requests_that_came_before_a_drain_are_answered_by_either_path() {
    for (said, end) in [
        (get("/hls/1"), "\r\n\r\n/hls/1"),
        (get("/other"), "library /other"),
        (get("/hls/1") + &get("/hls/2"), "\r\n\r\n/hls/2"),
        (get("/hls/1") + &get("/other"), "library /other"),
    ] {
        let running = Running::patient();
        let mut asked = running.client(&get("/hls/0")).await;
        read_to(&mut asked, "\r\n\r\n/hls/0").await;
        assert_eq!(asked.try_write(said.as_bytes()).unwrap(), said.len());
        running.drain.cancel();
        let text = String::from_utf8(read_all(&mut asked).await).unwrap();
        assert!(text.ends_with(end), "{said:?}: {text}");
        tokio::time::timeout(PATIENCE, running.server).await.expect("it ends").unwrap();
    }
}

/// An HTTP/2 connection, and what its end is.
async fn http2_client(
    running: &Running,
) -> (http2::SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (client, tokio::spawn(connection))
}

async fn ask(client: &mut http2::SendRequest<Empty<Bytes>>, path: &str) -> hyper::Result<Bytes> {
    let request = Request::get(format!("http://a{path}")).body(Empty::new()).unwrap();
    Ok(client.send_request(request).await?.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_ended_in_time_and_one_that_waits_is_not() {
    let limit = Duration::from_millis(200);
    let running = Running::start(limit, PATIENCE * 2);
    let (mut waits, waits_end) = http2_client(&running).await;
    let waiting = tokio::spawn(async move { ask(&mut waits, "/wait").await });
    running.until_waiting(1).await;
    let begun = Instant::now();
    let (mut idle, idle_end) = http2_client(&running).await;
    for _ in 0..2 {
        assert_eq!(ask(&mut idle, "/other").await.unwrap(), "library /other");
    }
    // A goodbye, not a break.
    tokio::time::timeout(PATIENCE, idle_end).await.expect("it is ended").unwrap().unwrap();
    assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
    assert!(!waits_end.is_finished());
    running.echo.open.send_replace(true);
    assert_eq!(waiting.await.unwrap().unwrap(), "library /wait");
    tokio::time::timeout(PATIENCE, waits_end).await.expect("it is ended").unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_answers_the_requests_of_an_http2_connection_and_ends_it() {
    let running = Running::patient();
    let (mut client, end) = http2_client(&running).await;
    let waiting = tokio::spawn(async move { ask(&mut client, "/wait").await });
    running.until_waiting(1).await;
    running.drain.cancel();
    running.echo.open.send_replace(true);
    assert_eq!(waiting.await.unwrap().unwrap(), "library /wait");
    tokio::time::timeout(PATIENCE, end).await.expect("it ends").unwrap().unwrap();
    tokio::time::timeout(PATIENCE, running.server).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_a_drain_is_dropped_by_force() {
    let running = Running::patient();
    let mut waits = running.client(&get("/hls/wait")).await;
    running.until_waiting(1).await;
    running.drain.cancel();
    running.force.cancel();
    assert!(read_all(&mut waits).await.is_empty());
    running.until_waiting(0).await;
    tokio::time::timeout(PATIENCE, running.server).await.expect("it ends").unwrap();
}
