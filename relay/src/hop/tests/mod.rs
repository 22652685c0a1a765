//! Hops between real QUIC endpoints on loopback.
//!
//! Not here: the network and nodes of these tests (`world`), delays and overhead (`measure`).

mod faults;
mod measure;
mod plain;
mod tree;
mod world;
