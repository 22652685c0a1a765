//! The Headwater node as a library: ingest, packager, HTTP, pages; the binary is ten lines.
//!
//! Not here: the live media model (`headwater-media`), WebRTC (`headwater-sfu`).

pub mod assets;
pub mod auth;
pub mod bridge;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod ownership;
pub mod packager;
pub mod sessions;
pub mod streams;
pub mod transcode;
