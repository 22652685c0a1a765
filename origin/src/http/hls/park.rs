//! Which requests wait with others: those for the next playlist or part, which thousands make at a
//! time, and nothing about which is out of the ordinary.
//!
//! Not here: waiting (`crowd`), every other request, and these where they need not wait (`serve`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, Request};

use super::crowd::Want;
use super::path::{Query, Resource, Target};
use super::reply::{self, Reply};
use super::serve::{BLOCKED_TARGETS, HlsService, TARGET_GUESS_S, bearer, unanswered};
use super::wait::Unanswered;
use crate::auth::Caller;
use crate::http::direct::Seat;
use crate::http::names;

impl HlsService {
    /// Lets a request wait in `seat` with others who wait for the same, so long at most. None where
    /// [`Self::reply`] is to be asked: because there is nothing to wait for, or it is not a usual
    /// request.
    pub(in crate::http) fn park(
        &self,
        request: &Request<()>,
        peer: IpAddr,
        seat: &Arc<Seat>,
    ) -> Option<Duration> {
        let headers = request.headers();
        let conditions = [RANGE, IF_RANGE, IF_NONE_MATCH];
        if request.method() != Method::GET
            || conditions.iter().any(|name| headers.contains_key(name))
        {
            return None;
        }
        let target = Target::parse(request.uri().path()).ok()?;
        let query = Query::parse(request.uri().query().unwrap_or("")).ok()?;
        let (rendition, want) = match &target.resource {
            Resource::Playlist { rendition } => {
                let encoding = reply::accepted(headers);
                let (msn, part, skip) = (query.msn?, query.part, query.skip);
                (rendition, Want::Playlist { msn, part, skip, encoding })
            }
            Resource::Part { rendition, msn, part } => {
                (rendition, Want::Part { msn: *msn, part: *part })
            }
            Resource::Multivariant | Resource::Init { .. } | Resource::Segment { .. } => {
                return None;
            }
        };
        let token = bearer(headers).or(query.token.as_deref());
        let nearness = names::nearness(headers, request.uri());
        self.allow(Caller { peer, token, nearness }, &target.stream).ok()?;
        let stream = self.stream(&target).ok()?;
        let rendition = match want {
            // What is made on demand is asked for, and waited for elsewhere.
            Want::Playlist { .. } => self.rendition(&stream, rendition).now_or_never()?.ok()?,
            Want::Part { .. } => stream.get(rendition)?,
        };
        let targets = rendition.version().snapshot().target_duration_s.unwrap_or(TARGET_GUESS_S);
        let waits = self.crowds.join(&stream, &rendition, want, seat);
        waits.then(|| Duration::from_secs(u64::from(targets.saturating_mul(BLOCKED_TARGETS))))
    }

    /// The answer to one that has waited in vain.
    pub(in crate::http) fn late(&self) -> Reply {
        unanswered(Unanswered::TimedOut).into_reply()
    }
}
