//! Drives clients over HTTP/2 in clear text with prior knowledge: one connection a client, as a
//! browser has, by hyper. Driver.
//!
//! It costs several times what `h1` does and is for thousands of requests a second, not for tens
//! of thousands. Not here: what clients ask for.
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, USER_AGENT};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::client::{Answer, Ask, Asks, Body, ClientId, Clients, Failure, Response};
use super::h1::Command;
use super::target::{AGENT, Server};
use super::units::At;

/// Answers that wait to be handled; tasks wait where there are more.
const EVENTS_MAX: usize = 1_024;
/// How often the clients are woken at least.
const WAKE_INTERVAL: Duration = Duration::from_millis(100);

type Sender = SendRequest<Empty<Bytes>>;

/// A client's connection.
enum Slot<T> {
    /// Requests that wait for it.
    Connecting(Vec<Request<T>>),
    Open(Sender, AbortHandle),
}

struct Request<T> {
    tag: T,
    path: Arc<str>,
    body: Body,
    asked: At,
}

/// What a task has to tell.
enum Event<T> {
    Connected(ClientId, Option<(Sender, AbortHandle)>),
    Done(ClientId, T, Outcome),
}

struct Outcome {
    result: Result<Got, Failure>,
    sent: At,
    first_byte: At,
    whole: At,
}

struct Got {
    status: u16,
    gzip: bool,
    body: Vec<u8>,
    bytes: u64,
}

/// See the module.
pub struct Driver<C: Clients> {
    clients: C,
    server: Arc<Server>,
    patience: Duration,
    began: Instant,
    slots: HashMap<ClientId, Slot<C::Tag>>,
    asks: Asks<C::Tag>,
    events: mpsc::Sender<Event<C::Tag>>,
}

/// Runs `clients` until nobody can send commands any more; gives them back.
pub async fn run<C: Clients>(
    clients: C,
    server: Server,
    patience: Duration,
    began: Instant,
    mut commands: mpsc::Receiver<Command<C>>,
) -> C {
    let (events, mut inbox) = mpsc::channel(EVENTS_MAX);
    let mut driver = Driver {
        clients,
        server: Arc::new(server),
        patience,
        began,
        slots: HashMap::new(),
        asks: Asks::default(),
        events,
    };
    loop {
        let now = now(began);
        let due = driver.clients.wake_at().map_or(WAKE_INTERVAL, |at| at.since(now));
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => command(&mut driver.clients, now, &mut driver.asks),
                None => {
                    driver.clients.finish(now);
                    return driver.clients;
                }
            },
            // The driver holds a sender: there is always one.
            Some(event) = inbox.recv() => driver.take(event),
            () = tokio::time::sleep(due.min(WAKE_INTERVAL)) => {}
        }
        driver.clients.wake(self::now(began), &mut driver.asks);
        driver.dispatch();
    }
}

fn now(began: Instant) -> At {
    At::after(began.elapsed())
}

impl<C: Clients> Driver<C> {
    fn take(&mut self, event: Event<C::Tag>) {
        match event {
            Event::Connected(client, connected) => {
                let Some(Slot::Connecting(waiting)) = self.slots.remove(&client) else { return };
                match connected {
                    Some((sender, connection)) => {
                        self.slots.insert(client, Slot::Open(sender, connection));
                        for request in waiting {
                            self.submit(client, request);
                        }
                    }
                    None => {
                        for request in waiting {
                            self.fail(client, &request);
                        }
                    }
                }
            }
            Event::Done(client, tag, outcome) if self.slots.contains_key(&client) => {
                let result = match &outcome.result {
                    Ok(got) => Ok(Response {
                        status: got.status,
                        gzip: got.gzip,
                        body: &got.body,
                        bytes: got.bytes,
                    }),
                    Err(failure) => Err(*failure),
                };
                let Outcome { sent, first_byte, whole, .. } = outcome;
                let answer = Answer { result, sent, first_byte, whole };
                self.clients.answered(client, tag, &answer, &mut self.asks);
            }
            Event::Done(..) => {}
        }
    }

    fn fail(&mut self, client: ClientId, request: &Request<C::Tag>) {
        let now = now(self.began);
        let result = Err(Failure::Connect);
        let answer = Answer { result, sent: request.asked, first_byte: now, whole: now };
        self.clients.answered(client, request.tag, &answer, &mut self.asks);
    }

    fn dispatch(&mut self) {
        loop {
            let asks: Vec<_> = self.asks.drain().collect();
            if asks.is_empty() {
                return;
            }
            let asked = now(self.began);
            for ask in asks {
                match ask {
                    Ask::Get { client, tag, path, body } => {
                        self.submit(client, Request { tag, path, body, asked });
                    }
                    Ask::Leave(client) => {
                        if let Some(Slot::Open(_, connection)) = self.slots.remove(&client) {
                            connection.abort();
                        }
                    }
                }
            }
        }
    }

    fn submit(&mut self, client: ClientId, request: Request<C::Tag>) {
        match self.slots.get_mut(&client) {
            Some(Slot::Connecting(waiting)) => waiting.push(request),
            Some(Slot::Open(sender, _)) if !sender.is_closed() => {
                let (sender, server) = (sender.clone(), Arc::clone(&self.server));
                let (events, patience, began) = (self.events.clone(), self.patience, self.began);
                tokio::spawn(async move {
                    let tag = request.tag;
                    let outcome = fetch(sender, &server, request, patience, began).await;
                    // The driver may have ended.
                    let _ = events.send(Event::Done(client, tag, outcome)).await;
                });
            }
            Some(Slot::Open(..)) | None => {
                self.slots.insert(client, Slot::Connecting(vec![request]));
                let (server, events) = (Arc::clone(&self.server), self.events.clone());
                tokio::spawn(async move {
                    let connected = connect(&server, client).await;
                    // The driver may have ended.
                    let _ = events.send(Event::Connected(client, connected)).await;
                });
            }
        }
    }
}

async fn connect(server: &Server, client: ClientId) -> Option<(Sender, AbortHandle)> {
    let socket = if server.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.ok()?;
    if let Some(source) = server.source(client) {
        socket.bind(source).ok()?;
    }
    let stream = socket.connect(server.address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "HTTP/2 connection ended");
        }
    });
    Some((sender, connection.abort_handle()))
}

async fn fetch<T>(
    mut sender: Sender,
    server: &Server,
    request: Request<T>,
    patience: Duration,
    began: Instant,
) -> Outcome {
    let sent = request.asked;
    let mut first_byte = None;
    let result = async {
        let uri = format!("http://{}{}", server.authority, request.path);
        let mut wanted = http::Request::get(uri).header(USER_AGENT, AGENT);
        if server.gzip {
            wanted = wanted.header(ACCEPT_ENCODING, "gzip");
        }
        if let Some(token) = &server.token {
            wanted = wanted.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let wanted = wanted.body(Empty::new()).map_err(|_| Failure::Protocol)?;
        let response = timeout(patience, sender.send_request(wanted));
        let response = response.await.map_err(|_| Failure::TimedOut)?;
        let response = response.map_err(|_| Failure::Lost)?;
        first_byte = Some(now(began));
        let encoding = response.headers().get(CONTENT_ENCODING);
        let gzip = encoding.is_some_and(|value| value == "gzip");
        let mut got = Got { status: response.status().as_u16(), gzip, body: Vec::new(), bytes: 0 };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Failure::Lost)?;
            let Ok(data) = frame.into_data() else { continue };
            got.bytes += data.len() as u64;
            if request.body == Body::Keep {
                got.body.extend_from_slice(&data);
            }
        }
        Ok(got)
    };
    let result = result.await;
    let whole = now(began);
    Outcome { result, sent, first_byte: first_byte.unwrap_or(whole), whole }
}
