//! `POST /whip/{stream}`: a publisher's offer becomes a session (RFC 9725).
//!
//! Not here: what the sessions of both protocols share (`super`), frames (`ingest::whip`).

use std::sync::Arc;

use axum::response::Response;
use headwater_media::{SessionId, StreamName};
use headwater_sfu::{CloseReason, Sfu};
use http::StatusCode;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Request, problem_of};
use crate::http::{App, Problem};
use crate::ingest::whip::WhipSink;
use crate::sessions::{OpenError, Role, SessionInfo};
use crate::streams::PublishError;

/// Answers a publisher's offer.
pub(super) async fn publish(
    request: &Request,
    stream: &StreamName,
    offer: &str,
) -> Result<Response, Problem> {
    let app = &request.app;
    let sfu = request.sfu()?;
    // Asked before the SFU makes a session of the offer; asked again when the stream is taken.
    app.streams.may_publish(stream).map_err(refused)?;
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
    let answer = sfu.publish(offer, id, Box::new(sink.clone())).await.map_err(problem_of)?;
    let publisher = match app.streams.publish(stream, &session) {
        Ok(publisher) => publisher,
        Err(error) => {
            sfu.close(id, CloseReason::Requested).await;
            return Err(refused(error));
        }
    };
    for warning in &answer.warnings {
        tracing::warn!(%stream, session = %id, "{warning}");
    }
    let ended = publisher.ended();
    sink.begin(publisher, session, &answer.sdp);
    app.webrtc.insert(id, stream.clone(), "whip");
    tokio::spawn(guard(Arc::clone(app), sfu, id, ended, answer.closed));
    request.created(stream, id, answer.sdp, &answer.etag)
}

/// Ends the session when its publisher must go, and forgets it when it is over.
pub(super) async fn guard(
    app: Arc<App>,
    sfu: Arc<Sfu>,
    id: SessionId,
    ended: CancellationToken,
    mut closed: oneshot::Receiver<CloseReason>,
) {
    tokio::select! {
        () = ended.cancelled() => {
            sfu.close(id, CloseReason::Requested).await;
        }
        _ = &mut closed => {}
    }
    app.webrtc.remove(id);
}

/// What a client is told when the node has as many sessions as it may.
pub(super) fn full(error: OpenError) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "limit-reached", "Limit reached", error.to_string()).retry_after(2)
}

fn refused(error: PublishError) -> Problem {
    let detail = error.to_string();
    match error {
        PublishError::Busy(_) => {
            Problem::new(StatusCode::CONFLICT, "stream-busy", "Stream has a publisher", detail)
        }
        _ => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "limit-reached", "Limit reached", detail).retry_after(2)
        }
    }
}
