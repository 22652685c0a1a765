//! An independent WebRTC implementation as publisher (WHIP, RFC 9725) and viewer (WHEP): the crate
//! `webrtc`, which shares no code with the server's.
//!
//! Not here: encoders and decoders; RTP comes from and goes to a socket that real ones use.

mod codec;
mod peer;
mod viewer;
mod whip;

pub use codec::Codec;
pub use peer::Peer;
pub use viewer::{Counts, Viewer};
pub use webrtc::peer_connection::SrtpProtectionProfile;
pub use whip::WhipClient;
