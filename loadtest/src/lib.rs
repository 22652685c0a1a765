//! Load for live servers: synthetic publishers by WHIP, SRT and RTMP, viewers by WHEP and LL-HLS
//! by the thousand, and a report of what they saw and of what it cost the server.
//!
//! Each video frame carries a [`stamp::Stamp`] in an SEI message, so that latency, loss and
//! reordering are read from the frames themselves, whatever the server and the protocol.
//! Not here: decoding, browsers, the quality of pictures.

pub mod cli;
pub mod clock;
pub mod compare;
pub mod histogram;
mod http;
pub mod live;
pub mod meter;
pub mod process;
pub mod publish;
pub mod report;
mod rtc;
pub mod scenario;
pub mod simulate;
pub mod source;
pub mod stamp;
pub mod units;
pub mod view;
