//! The packager: turns the tracks of a broadcast into LL-HLS renditions.
//!
//! `parts` cuts groups into parts, `window` keeps segments, `snapshot` answers what is there,
//! `playlist` and `multivariant` write it down: all pure functions of the frames. `rendition` and
//! `stream` drive them, one task a track, started with the stream so that the first viewer finds
//! a history.
//!
//! Not here: HTTP (`http::hls`), the boxes of a fragment (`headwater_media::fmp4`).

mod audience;
mod compress;
pub mod multivariant;
pub mod parts;
pub mod playlist;
mod rates;
mod rendition;
mod rope;
pub mod snapshot;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
pub mod window;

pub use audience::{Audience, taken_micros};
pub use compress::Encoding;
pub use multivariant::AudioChoice;
pub use rates::Rates;
pub use rendition::{Flavour, Rendition, Version};
pub use rope::Rope;
pub use stream::{Packager, PackagerOptions, StreamRenditions};
pub use window::WindowOptions;
