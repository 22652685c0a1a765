//! Connections between members: who says what first, how they are kept up, and Raft's requests.
//!
//! A node keeps one connection a protocol to every other (`link`), opens it anew when it breaks,
//! and puts each request on a stream of its own: a heartbeat never waits behind a log entry, nor
//! an entry behind a snapshot. Heartbeats and votes have the higher priority on the wire.
//!
//! Not here: TLS and sockets (`endpoint`), requests that are not Raft's (`control`).

pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod raft_client;
pub(crate) mod raft_server;
pub(crate) mod wire;
