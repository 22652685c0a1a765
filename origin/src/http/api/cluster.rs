//! The cluster in the API: what it looks like from this node, and what an operator may do to it.
//!
//! What changes something is asked for in ways that a browser's page from elsewhere cannot use
//! unasked (`PUT`, `DELETE`, a body of JSON): a closed node trusts its own machine, browsers on it
//! included.
//!
//! Not here: what the cluster does (`headwater-cluster`), the commands that ask (`cli::cluster`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use headwater_cluster::cluster::{Cluster, ProposeError, TokenError};
use headwater_cluster::command::{Answer, NodeState, Refusal, Role};
use headwater_cluster::id::NodeId;
use headwater_cluster::view::View;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use serde::Deserialize;

use super::view::{ClusterNodeView, ClusterView, JoinTokenView};
use super::{Operator, json};
use crate::config::{Input, Value};
use crate::http::names::{self, PathOf};
use crate::http::{App, Problem, body};

/// Life of a join token unless it is asked for another one.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// When to try again what had no quorum, in seconds: an election is over by then.
const RETRY_SECONDS: u32 = 1;

/// The routes of the cluster.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/cluster", get(status))
        .route("/api/v1/cluster/join-tokens", post(join_token))
        .route("/api/v1/cluster/nodes/{node}", delete(remove))
        .route("/api/v1/cluster/nodes/{node}/drain", put(drain))
}

/// Why this node takes no part in its cluster; nothing if it does.
pub(in crate::http) fn unready(cluster: &Cluster) -> Vec<String> {
    if let Some(fault) = cluster.fault().borrow().as_ref() {
        return vec![format!("cluster: {fault}")];
    }
    let view = cluster.view().borrow().clone();
    let own = view.node(cluster.node());
    let joined = own.filter(|own| own.info.incarnation == cluster.incarnation());
    let standing = match joined.map(|own| own.state()) {
        None => Some("the node has not joined its cluster yet: no majority has answered it"),
        Some(NodeState::Draining) => Some("the cluster drains the node"),
        Some(NodeState::Up | NodeState::Down) => None,
    };
    standing.map(str::to_owned).into_iter().collect()
}

async fn status(Operator { app, .. }: Operator) -> Result<Response, Problem> {
    // Raft's own idea of its leader outlives the leader; a majority is there if it answers now.
    let quorum = app.cluster.linearizable().await.is_ok();
    let status = app.cluster.status();
    let view = app.cluster.view().borrow().clone();
    let urls = |id| view.node(id).map(|node| node.info.http.clone()).unwrap_or_default();
    let nodes = status.nodes.into_iter();
    Ok(json(ClusterView {
        cluster: status.cluster,
        this: status.this.0,
        leader: status.leader.map(|leader| leader.0),
        quorum,
        term: status.term,
        applied: status.applied,
        fault: status.fault,
        fed_by: status.fed_by.map(|origin| origin.0),
        nodes: nodes.map(|node| ClusterNodeView { http: urls(node.id), node }).collect(),
    }))
}

/// What the body of a request for a join token may say.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// How long the token is valid, as configuration keys say it: `1h`.
    expires: Option<String>,
}

async fn join_token(
    Operator { app, peer }: Operator,
    parts: Parts,
    body: Body,
) -> Result<Response, Problem> {
    let life = life(&app, &parts, body).await?;
    let token = app.cluster.join_token(life).await.map_err(|error| match error {
        TokenError::Propose(error) => undecided(&error),
        TokenError::Refused(refusal) => refused(&refusal),
        other => failed(other.to_string()),
    })?;
    tracing::info!(peer = %peer, life_seconds = life.as_secs(), "made a join token");
    let micros = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
    let answer = JoinTokenView {
        token: token.to_string(),
        expires: app.clock.now().plus_micros(micros).to_rfc3339_millis(),
    };
    let headers = [(CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, axum::Json(answer)).into_response())
}

/// Reads how long a token is to live.
async fn life(app: &App, parts: &Parts, body: Body) -> Result<Duration, Problem> {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        let detail = "send a body of application/json, such as {\"expires\": \"1h\"} or {}";
        let title = "Unsupported media type";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            title,
            detail,
        ));
    }
    let text = body::text(body, app.config.values().limits.http_body_timeout).await?;
    let invalid = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail)
    };
    let request: TokenRequest = serde_json::from_str(&text)
        .map_err(|error| invalid(format!("the body is not what is expected: {error}")))?;
    let Some(expires) = request.expires else { return Ok(TOKEN_LIFE) };
    let life = Duration::read(Input::Text(&expires)).filter(|life| !life.is_zero());
    life.ok_or_else(|| invalid(format!("expires: expected {}", Duration::allowed())))
}

async fn drain(Operator { app, peer }: Operator, path: PathOf) -> Result<Response, Problem> {
    let node = named(&app, path)?;
    done(app.cluster.drain(node).await)?;
    tracing::info!(%node, peer = %peer, "the node drains: asked for through the API");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove(Operator { app, peer }: Operator, path: PathOf) -> Result<Response, Problem> {
    let node = named(&app, path)?;
    let view = app.cluster.view().borrow().clone();
    let origin = |id: NodeId| {
        view.nodes().any(|other| other.info.role == Role::Origin && other.info.id != id)
    };
    if !origin(node) {
        let detail = "it is the cluster's last origin, which cannot be removed";
        return Err(Problem::new(StatusCode::CONFLICT, "last-origin", "Last origin", detail));
    }
    done(app.cluster.remove(node).await)?;
    tracing::warn!(%node, peer = %peer, "removed the node: asked for through the API");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The node that a path names, by its number or by its name.
fn named(app: &App, path: PathOf) -> Result<NodeId, Problem> {
    let text = names::path(path).map_err(|_| no_such_node("of that name"))?;
    let view = app.cluster.view().borrow().clone();
    find(&view, &text)
}

fn find(view: &View, text: &str) -> Result<NodeId, Problem> {
    if let Ok(id) = text.parse::<NodeId>()
        && view.node(id).is_some()
    {
        return Ok(id);
    }
    let mut of_that_name = view.nodes().filter(|node| node.info.name.as_str() == text);
    match (of_that_name.next(), of_that_name.next()) {
        (Some(node), None) => Ok(node.info.id),
        (None, _) => Err(no_such_node("of that number or name")),
        (Some(_), Some(_)) => {
            let detail = "several nodes have that name: give the node's number";
            Err(Problem::new(StatusCode::CONFLICT, "ambiguous-node", "Ambiguous name", detail))
        }
    }
}

fn no_such_node(which: &str) -> Problem {
    let detail = format!("the cluster has no node {which}");
    Problem::new(StatusCode::NOT_FOUND, "node-not-found", "Node not found", detail)
}

fn done(answer: Result<Answer, ProposeError>) -> Result<(), Problem> {
    match answer {
        Ok(Answer::Refused(refusal)) => Err(refused(&refusal)),
        Ok(_) => Ok(()),
        Err(error) => Err(undecided(&error)),
    }
}

fn undecided(error: &ProposeError) -> Problem {
    let slug = match error {
        ProposeError::NoQuorum => "no-quorum",
        ProposeError::TooBusy => "limit-reached",
        ProposeError::Relay => {
            let (title, detail) = ("Ask an origin", error.to_string());
            return Problem::new(StatusCode::CONFLICT, "not-an-origin", title, detail);
        }
        _ => return failed(error.to_string()),
    };
    let title = "The cluster cannot decide now";
    let detail = format!("{error}; try again");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, slug, title, detail).retry_after(RETRY_SECONDS)
}

fn failed(detail: String) -> Problem {
    let title = "Not in the cluster";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "cluster-failed", title, detail)
}

fn refused(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::UnknownNode => no_such_node("of that number or name"),
        Refusal::OverLimit { .. } | Refusal::TokenExpired => {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail)
        }
        Refusal::TooMany { .. } => {
            let title = "Limit reached";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "limit-reached", title, detail)
                .retry_after(RETRY_SECONDS)
        }
        _ => Problem::new(StatusCode::CONFLICT, "cluster-refused", "The cluster refuses", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_cluster::command::{Command, NodeInfo};
    use headwater_cluster::id::{Incarnation, NodeName, Region};
    use headwater_cluster::state::State as Directory;

    fn view(names: &[&str]) -> View {
        let mut state = Directory::default();
        for (id, name) in (1..).zip(names) {
            let info = NodeInfo {
                id: NodeId(id),
                name: NodeName::parse(name).unwrap(),
                role: Role::Origin,
                region: Region::parse("here").unwrap(),
                address: String::new(),
                http: Vec::new(),
                capacity_mbps: 1,
                incarnation: Incarnation(1),
            };
            assert_eq!(state.apply(id, &Command::PutNode(info)), Answer::Done);
        }
        View::from(state.directory())
    }

    #[test]
    fn a_node_is_named_by_its_number_before_its_name_and_never_by_a_guess() {
        let view = view(&["a", "twin", "twin", "1", "9"]);
        for (text, found) in [("a", Ok(1)), ("1", Ok(1)), ("2", Ok(2)), ("9", Ok(5))] {
            assert_eq!(find(&view, text).map(|id| id.0).map_err(|p| p.status().as_u16()), found);
        }
        for (text, status) in [("twin", 409), ("b", 404), ("", 404), ("77", 404), ("-1", 404)] {
            assert_eq!(find(&view, text).unwrap_err().status(), status, "{text}");
        }
    }

    #[test]
    fn what_the_cluster_cannot_decide_is_worth_another_try_and_the_rest_is_not() {
        assert_eq!(undecided(&ProposeError::NoQuorum).status(), 503);
        let retry = |problem: Problem| problem.into_hyper().headers().contains_key("retry-after");
        assert!(retry(undecided(&ProposeError::TooBusy)));
        assert!(!retry(undecided(&ProposeError::Stopped("x".into()))));
        assert_eq!(refused(&Refusal::NodeDown).status(), 409);
        assert_eq!(refused(&Refusal::TokenExpired).status(), 400);
    }
}
