//! Carries broadcasts from node to node over QUIC, a group to a stream.
//!
//! A node makes a [`hop::Hop`] of each connection to another node. What it has for children it
//! tells by a [`hop::Source`]; what its viewers want of others it takes through [`pulls::Pulls`],
//! which gives a broadcast like any other: packager and SFU read it unchanged and make the same
//! bytes. The protocol is specified in `docs/wire.md`. Not here: who owns a stream and who may
//! connect (`headwater-cluster`), what is made of the frames (`headwater`).

pub mod child;
pub mod choice;
pub mod clock;
pub mod feed;
pub mod hop;
pub mod intake;
pub mod parent;
pub mod plan;
pub mod pulls;
pub mod route;
#[cfg(test)]
mod testing;
pub mod wire;
