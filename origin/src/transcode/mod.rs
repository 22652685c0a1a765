//! Makes further tracks of a broadcast's own, for outputs that cannot carry those.
//!
//! Not here: which output wants what (`http`), video (an issue of its own).

pub mod audio;
