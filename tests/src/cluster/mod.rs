//! Three origins as processes on 127.0.0.1, .2 and .3, what publishes to them, and a reader that
//! remembers every byte that any of them has served.
//!
//! Not here: what is done to them and what is expected (`tests/cluster`).

pub mod claims;
pub mod ledger;
pub mod member;
pub mod publisher;
pub mod recorder;

pub use ledger::Ledger;
pub use member::{Member, Trio};
pub use publisher::{Clip, Publisher};
pub use recorder::Recorder;
