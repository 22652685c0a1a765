//! Who is in the cluster, who owns which stream, and under which epoch: decided by Raft.
//!
//! Not here: media, and how it moves between nodes (`headwater-relay`); what a node does with the
//! directory (`headwater`).

pub mod claim;
pub mod cluster;
pub mod command;
pub mod control;
pub mod detect;
pub mod endpoint;
pub mod feed;
pub mod id;
pub mod identity;
pub mod membership;
pub mod raft;
#[cfg(test)]
mod sim;
pub mod state;
pub mod store;
#[cfg(test)]
mod test_folder;
mod transport;
pub mod view;
