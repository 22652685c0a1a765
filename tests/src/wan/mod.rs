//! A wide-area network on one machine: each node in a network namespace of its own, and between
//! them a program that delays and loses packets as the links between regions do.
//!
//! The kernel here need not have `netem`: every namespace's device is a TUN device whose other end
//! this program holds. A second network, without delay or loss, ties the namespaces to the one of
//! the test, so that it can look at the nodes without being in their way.
//!
//! Not here: what runs in the namespaces.

pub mod link;
mod namespace;
pub mod network;

pub use link::{Link, Links};
pub use network::{Host, Network, Place};
