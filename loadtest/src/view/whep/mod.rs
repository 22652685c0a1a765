//! Viewers by WHEP.
//!
//! Not here: LL-HLS.
