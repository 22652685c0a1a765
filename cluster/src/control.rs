//! Requests between members that are not Raft's, and a new node's first request.
//!
//! Not here: what a member does with an answer (`cluster`), Raft's requests (`transport`).

pub mod holder;
pub(crate) mod join;
pub(crate) mod messages;
pub(crate) mod server;
