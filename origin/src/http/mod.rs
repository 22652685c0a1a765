//! The node's HTTP face.
//!
//! Not here: what is served (each route's own module).

pub mod hls;
