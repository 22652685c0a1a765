//! A run: publishers start, viewers come and go, everything is counted, and a report is made.
//!
//! Not here: how a protocol publishes or views, how a report looks.

mod account;
mod crowds;
mod exposition;
mod options;
mod population;
mod run;

pub use options::{Count, Options};
pub use run::run;
