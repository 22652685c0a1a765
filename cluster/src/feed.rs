//! How relays know the directory without a vote: an origin sends them a snapshot of the state, then
//! each entry of the log that it applies. A relay applies the same commands to the same state
//! machine, so what it sees is what an origin saw at that index.
//!
//! ```text
//! relay                                              origin
//!   │ control connection (hello, keep-alives)          │
//!   ├── Request::Follow { from: term, leader, index } ▶│
//!   │◀ Message::Opening { standing, how } ─────────────┤  how: on from there, by a snapshot, not at all
//!   │◀ Message::Snapshot, then its bytes ──────────────┤  unless the ring still has what follows
//!   │◀ Message::Entries { after, to, … } ──────────────┤  as they are applied, many at a time
//!   │◀ Message::Standing ──────────────────────────────┤  when leader, term, quorum or voters change
//! ```
//!
//! What holds:
//! - A relay's index never falls. An origin that has less than the relay is asked by nobody who has
//!   more: it first asks the leader what is committed, and if that is more than it has, it waits; only
//!   if the cluster itself has less (`recover --force`), the relay begins anew.
//! - An origin keeps one ring of encoded entries for all its followers ([`ENTRIES_MAX`],
//!   [`BYTES_MAX`]). Who falls out of it gets a snapshot. No follower has a queue of its own but
//!   QUIC's window.
//! - A relay is alive as long as any origin hears it. Origins tell the leader whom they hear
//!   (`attendance`); none of them calls a relay, and a relay calls one origin.
//!
//! Not here: what a command does (`state`), who may follow (`control`), connections (`endpoint`).

pub(crate) mod ask;
pub(crate) mod attend;
pub(crate) mod attendance;
pub(crate) mod choose;
pub(crate) mod find;
pub(crate) mod follow;
pub(crate) mod follower;
pub(crate) mod keep;
pub(crate) mod log;
pub(crate) mod server;
pub(crate) mod wire;

/// Entries that an origin keeps for its followers: some seconds of a busy cluster.
pub const ENTRIES_MAX: usize = 4_096;
/// Most bytes of them. A policy has 64 KiB at most.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of entries in one message, unless a single one is longer.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// Most entries in one message.
pub(crate) const BATCH_ENTRIES: usize = 512;
/// Longest message of a feed, in bytes, the snapshot's own aside: a batch, and one entry more (an
/// extension of a thousand streams of the longest names).
pub(crate) const MESSAGE_MAX: usize = 1024 * 1024;
/// The first version of the protocol between nodes that has feeds.
pub(crate) const SINCE_PROTOCOL: u16 = 2;

/// Reads `bytes` as everything that a feed brings: a message, an entry, a snapshot. And applies it to a
/// copy that has little. For the fuzz target.
pub(crate) fn read_as_everything(bytes: &[u8]) {
    use crate::transport::wire::decode;
    let mut follower =
        follower::Follower::new(Some((wire::Position::default(), Default::default())));
    let _ = wire::decode_entry(bytes);
    match decode::<wire::Message>(bytes) {
        Ok(wire::Message::Entries { after, to, entries }) => {
            let _ = follower.on_entries(after, to, &entries);
        }
        Ok(wire::Message::Snapshot { at, .. }) => {
            let _ = follower.on_snapshot(at, Default::default(), false);
        }
        Ok(_) | Err(_) => {}
    }
    if let Ok(state) = crate::state::State::decode(bytes) {
        let at = wire::Position { index: state.applied(), ..Default::default() };
        let _ = follower.on_snapshot(at, state, false);
    }
}
