//! What the end-to-end tests share.
//!
//! Not here: the tests themselves (`tests/`), browsers (`e2e/`).

pub mod cluster;
pub mod conformance;
pub mod node;
pub mod paced;
pub mod paths;
pub mod program;
#[cfg(target_os = "linux")]
pub mod wan;
pub mod webrtc;
