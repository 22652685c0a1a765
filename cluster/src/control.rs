//! Requests between members that are not Raft's, and a new node's first request.
//!
//! Not here: what a member does with an answer (`cluster`), Raft's requests (`transport`).

pub mod holder;
pub(crate) mod join;
pub(crate) mod messages;
pub(crate) mod server;

/// Reads `bytes` as each message that comes in on the cluster port. For the fuzz target.
#[doc(hidden)]
pub fn read_as_everything(bytes: &[u8]) {
    use crate::transport::{hello::Hello, raft_client, wire::decode};
    let _ = decode::<Hello>(bytes);
    let _ = decode::<messages::Request>(bytes);
    let _ = decode::<messages::Response>(bytes);
    crate::feed::read_as_everything(bytes);
    let _ = decode::<messages::JoinRequest>(bytes);
    let _ = decode::<messages::JoinResponse>(bytes);
    let _ = decode::<raft_client::RaftRequest>(bytes);
    let _ = decode::<raft_client::RaftResponse>(bytes);
    let _ = crate::identity::Request::read(bytes);
    let _ = crate::identity::CertificateInfo::read(&bytes.into());
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<crate::identity::JoinToken>();
        let _ = crate::identity::Subject::from_uri(text);
    }
}
