//! NAL units: Annex B byte streams and length-prefixed access units.
//!
//! Not here: what a NAL unit means (`h264`, `h265`).
