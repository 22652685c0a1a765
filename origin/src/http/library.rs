//! One connection behind the direct path, served by the HTTP library. Driver: awaits, reads the
//! clock.
//!
//! Not here: accepting (`server`), what a request gets (the `Service`), finding answers that are
//! not taken (`stall`) and connections without a request (`idle`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::direct::{Closing, Why};
use super::idle::Requests;
use super::refusal::Worded;
use super::server::{HEADER_BYTES_MAX, HttpOptions, Peer, Service};
use super::stall::Bodies;

/// What all connections have in common.
pub(super) struct Terms<'a, S> {
    /// The library, with its settings.
    pub(super) builder: &'a auto::Builder<TokioExecutor>,
    /// Answers.
    pub(super) service: &'a Arc<S>,
    /// The limits.
    pub(super) options: HttpOptions,
    /// When to close.
    pub(super) closing: &'a Closing,
}

/// What the connection's timer is for.
enum Due {
    /// The first request. The library's own time-out begins once it knows the protocol.
    First,
    /// A look whether there has been no request for too long.
    Idle,
    /// The client's consent to the end that it was told.
    End,
}

/// Serves a connection to its end; `unread` was read from it already.
pub(super) async fn serve<S: Service>(
    stream: TcpStream,
    unread: Bytes,
    peer: SocketAddr,
    terms: Terms<'_, S>,
) -> Why {
    let options = terms.options;
    let asked = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(Requests::default());
    let bodies = Bodies::new();
    let handler = {
        let (service, bodies) = (Arc::clone(terms.service), Arc::clone(&bodies));
        let (asked, requests) = (Arc::clone(&asked), Arc::clone(&requests));
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let underway = (request.version() == Version::HTTP_2).then(|| requests.begin());
            request.extensions_mut().insert(Peer(peer));
            let (service, bodies) = (Arc::clone(&service), Arc::clone(&bodies));
            async move {
                let answer = service.call(request).await.map(|body| bodies.watch(body));
                Ok::<_, Infallible>(match underway {
                    Some(underway) => answer.map(|body| underway.until_sent(body)),
                    None => answer,
                })
            }
        })
    };
    let socket = Worded::new(TokioIo::new(stream), unread, HEADER_BYTES_MAX);
    let connection = terms.builder.serve_connection(socket, handler).into_owned();
    let mut connection = std::pin::pin!(connection);
    let mut closing = std::pin::pin!(terms.closing.begun());
    let mut told = false;
    let mut look = tokio::time::interval(options.write_timeout);
    look.tick().await;
    let mut due = Due::First;
    let timer = tokio::time::sleep(options.header_timeout);
    let mut timer = std::pin::pin!(timer);
    loop {
        let wait = tokio::select! {
            // What has been read comes before the end: the library closes what it has not looked
            // at yet.
            biased;
            ended = &mut connection => return match ended {
                Ok(()) if matches!(due, Due::End) => Why::Idle,
                Ok(()) => Why::Wanted,
                Err(error) => Why::Failed(io::Error::other(error)),
            },
            () = &mut closing, if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            _ = look.tick() => {
                if bodies.stalled(options.write_timeout) {
                    return Why::Stalled;
                }
                continue;
            }
            () = &mut timer => match (&due, requests.idle_for(std::time::Instant::now())) {
                (Due::First, _) if !asked.load(Ordering::Relaxed) => {
                    return Why::Silent { first: true };
                }
                (Due::First, _) => {
                    due = Due::Idle;
                    options.idle_timeout
                }
                (Due::Idle, Some(idle)) if idle >= options.idle_timeout => {
                    due = Due::End;
                    connection.as_mut().graceful_shutdown();
                    options.header_timeout
                }
                (Due::Idle, idle) => options.idle_timeout - idle.unwrap_or_default(),
                // A request crossed the goodbye.
                (Due::End, None) => options.header_timeout,
                (Due::End, Some(_)) => return Why::Idle,
            },
        };
        timer.as_mut().reset(Instant::now() + wait);
    }
}
