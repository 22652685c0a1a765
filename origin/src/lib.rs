//! The Headwater node as a library: ingest, packager, HTTP, pages; the binary is ten lines.
//!
//! Not here: the live media model (`headwater-media`), WebRTC (`headwater-sfu`).

pub mod assets;
pub mod cli;
pub mod config;
pub mod logging;
pub mod metrics;
pub mod node;

pub mod auth;
pub mod clock;
pub mod demo;
pub mod http;
pub mod ingest;
pub mod packager;
pub mod sessions;
pub mod streams;
pub mod transcode;
