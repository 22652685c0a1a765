//! LL-HLS over HTTP (RFC 8216bis): playlists, init sections, segments and parts.
//!
//! One service function without a router in front of it, since thousands of requests wait here at
//! a time. Not here: what a playlist says (`packager`), connections (the node's server).

mod audience;
mod body;
mod crowd;
mod meter;
mod negotiate;
mod park;
mod path;
mod reply;
mod serve;
mod start;
#[cfg(test)]
mod tests;
mod wait;

pub use audience::{viewers, viewers_in_all};
pub use body::HlsBody;
pub use reply::Reply;
pub use serve::{AudioCodec, Demand, HlsOptions, HlsService, NoDemand};

/// A path and a query as a stranger sends them, for fuzzing.
pub(crate) fn fuzz_target(path: &str, query: &str) {
    let _ = path::Target::parse(path).is_ok();
    let _ = path::Query::parse(query).is_ok();
}
