//! The RTMP listener: accepts connections up to the limit and runs each in a task of its own.
//!
//! Not here: the protocol (`session`), one connection's life (`connection`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::options::RtmpOptions;
use crate::auth::Access;
use crate::clock::Clock;
use crate::sessions::Sessions;
use crate::streams::Streams;

/// Wait after a failed `accept`: the usual cause, too many open files, does not pass at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The node's parts that the listener works with.
#[derive(Clone)]
pub struct RtmpDeps {
    /// Who may publish.
    pub access: Arc<Access>,
    /// The node's sessions.
    pub sessions: Sessions,
    /// The node's streams.
    pub streams: Streams,
    /// The node's clock.
    pub clock: Clock,
}

/// A bound listener.
pub struct RtmpServer {
    listener: TcpListener,
    options: Arc<RtmpOptions>,
    deps: RtmpDeps,
}

impl RtmpServer {
    /// Binds the listener.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(options: RtmpOptions, deps: RtmpDeps) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        Ok(Self { listener, options: Arc::new(options), deps })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes publishers until `shutdown`, then ends their sessions with a status and returns when
    /// all are closed.
    pub async fn run(self, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.options.connections));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
                Some(over) = tasks.join_next() => {
                    note_panic(over);
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => self.start(stream, peer, &slots, &mut tasks, &shutdown),
                Err(error) => {
                    tracing::warn!(%error, "an RTMP connection could not be accepted");
                    metrics::counter!("headwater_rtmp_accept_errors_total").increment(1);
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self.listener);
        while let Some(over) = tasks.join_next().await {
            note_panic(over);
        }
    }

    fn start(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        slots: &Arc<Semaphore>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            metrics::counter!("headwater_rtmp_connections_refused_total", "reason" => "limit")
                .increment(1);
            tracing::debug!(%peer, limit = self.options.connections, "RTMP connection refused");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        metrics::counter!("headwater_rtmp_connections_total").increment(1);
        let connection = Connection::new(
            stream,
            peer,
            Arc::clone(&self.options),
            self.deps.clone(),
            shutdown.clone(),
        );
        tasks.spawn(async move {
            metrics::gauge!("headwater_rtmp_connections").increment(1.0);
            connection.run().await;
            metrics::gauge!("headwater_rtmp_connections").decrement(1.0);
            drop(slot);
        });
    }
}

/// A panic is a defect of ours; it ends its own connection alone.
fn note_panic(over: Result<(), tokio::task::JoinError>) {
    if let Err(error) = over {
        tracing::error!(%error, "an RTMP connection's task failed");
        metrics::counter!("headwater_rtmp_task_failures_total").increment(1);
    }
}

#[cfg(test)]
mod tests;
