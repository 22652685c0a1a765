//! `POST /whip/{stream}`: a publisher's offer becomes a session (RFC 9725).
//!
//! Not here: what the sessions of both protocols share (`super`), frames (`ingest::whip`).

use std::sync::{Arc, Weak};

use axum::response::Response;
use headwater_media::{SessionId, StreamName};
use headwater_sfu::{CloseReason, Sfu};
use http::StatusCode;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Request, problem_of};
use crate::http::{App, Problem};
use crate::ingest::whip::WhipSink;
use crate::ownership::ClaimError;
use crate::sessions::{OpenError, Role, SessionHandle, SessionInfo};
use crate::streams::{PublishError, Standing};

/// Answers a publisher's offer.
pub(super) async fn publish(
    request: &Request,
    stream: &StreamName,
    offer: &str,
) -> Result<Response, Problem> {
    let app = &request.app;
    let sfu = request.sfu()?;
    // Asked before the SFU makes a session of the offer; asked again when the stream is taken.
    let standing = app.streams.may_publish(stream).map_err(refused)?;
    let info = SessionInfo {
        role: Role::Publisher,
        protocol: "whip",
        stream: stream.clone(),
        peer: request.peer,
    };
    let session = app.sessions.open(info).map_err(full)?;
    let id = session.id();
    let sink = WhipSink::new(app.clock);
    // Only an offer that can be answered takes the stream: under the policy "replace" a broken
    // one must not end the publisher that is there.
    let answer =
        sfu.publish(offer, id, stream, Box::new(sink.clone())).await.map_err(problem_of)?;
    for warning in &answer.warnings {
        tracing::warn!(%stream, session = %id, "{warning}");
    }
    let guard =
        Guard { app: Arc::clone(app), sfu: Arc::downgrade(&sfu), id, closed: answer.closed };
    let taking = Taking { stream: stream.clone(), session, sink, sdp: answer.sdp.clone() };
    match standing {
        Standing::Free => match taking.take(app).await {
            Ok(ended) => {
                app.webrtc.insert(id, stream.clone(), "whip");
                tokio::spawn(guard.run(ended));
            }
            Err(error) => {
                sfu.close(id, CloseReason::Requested).await;
                return Err(refused(error));
            }
        },
        Standing::GivesWay => {
            app.webrtc.insert(id, stream.clone(), "whip");
            tokio::spawn(guard.take_with_first_frame(taking));
        }
    }
    request.created(stream, id, answer.sdp, &answer.etag)
}

/// A session that is to take its stream.
struct Taking {
    stream: StreamName,
    session: SessionHandle,
    sink: WhipSink,
    sdp: String,
}

impl Taking {
    /// Takes the stream; gives what says that it must let go again.
    async fn take(self, app: &App) -> Result<CancellationToken, PublishError> {
        let publisher = app.streams.publish(&self.stream, &self.session).await?;
        let ended = publisher.ended();
        self.sink.begin(publisher, self.session, &self.sdp);
        Ok(ended)
    }
}

/// Follows a session to its end. It must not keep the SFU from shutting down.
struct Guard {
    app: Arc<App>,
    sfu: Weak<Sfu>,
    id: SessionId,
    closed: oneshot::Receiver<CloseReason>,
}

impl Guard {
    /// Somebody publishes the stream and gives way: but only to one whose media has come.
    async fn take_with_first_frame(mut self, taking: Taking) {
        let kicked = taking.session.kicked();
        let stream = taking.stream.clone();
        let taken = tokio::select! {
            () = taking.sink.first_frame() => taking.take(&self.app).await,
            () = kicked.cancelled() => Err(PublishError::Busy(stream.clone())),
            _ = &mut self.closed => {
                self.app.webrtc.remove(self.id);
                return;
            }
        };
        let ended = taken.unwrap_or_else(|error| {
            tracing::warn!(%stream, session = %self.id, %error, "the stream was not given up");
            let over = CancellationToken::new();
            over.cancel();
            over
        });
        self.run(ended).await;
    }

    /// Ends the session when its publisher must go, and forgets it when it is over.
    async fn run(mut self, ended: CancellationToken) {
        tokio::select! {
            () = ended.cancelled() => {
                if let Some(sfu) = self.sfu.upgrade() {
                    sfu.close(self.id, CloseReason::Requested).await;
                }
            }
            _ = &mut self.closed => {}
        }
        self.app.webrtc.remove(self.id);
    }
}

/// What a client is told when the node has as many sessions as it may.
pub(super) fn full(error: OpenError) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "limit-reached", "Limit reached", error.to_string()).retry_after(2)
}

fn refused(error: PublishError) -> Problem {
    let detail = error.to_string();
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        PublishError::Busy(_) | PublishError::Claim(ClaimError::Busy { .. }) => {
            Problem::new(StatusCode::CONFLICT, "stream-busy", "Stream has a publisher", detail)
        }
        PublishError::Claim(ClaimError::Relay(_)) => {
            let title = "Relays take no publishers";
            Problem::new(StatusCode::FORBIDDEN, "relay-takes-no-publishers", title, detail)
        }
        PublishError::Claim(ClaimError::NoQuorum) => {
            Problem::new(unavailable, "no-quorum", "No quorum", detail).retry_after(1)
        }
        PublishError::Draining | PublishError::Claim(ClaimError::NotHere(_)) => {
            Problem::new(unavailable, "draining", "Not taking publishers", detail).retry_after(2)
        }
        PublishError::TooManyStreams(_) | PublishError::Claim(ClaimError::TooManyStreams(_)) => {
            Problem::new(unavailable, "limit-reached", "Limit reached", detail).retry_after(2)
        }
    }
}
