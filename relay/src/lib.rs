//! Carries broadcasts from node to node over QUIC, a group to a stream.
//!
//! Not here: who owns a stream and who may connect (`headwater-cluster`), what is made of the
//! frames (`headwater`).
