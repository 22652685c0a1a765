//! Origins and relays as processes, on addresses of the loopback interface or as hosts of a network
//! with several regions, what publishes to them, and a reader that remembers every byte that any of
//! them has served.
//!
//! Not here: what is done to them and what is expected (`tests/cluster`).

pub mod claims;
#[cfg(target_os = "linux")]
pub mod fleet;
pub mod ledger;
pub mod member;
pub mod publisher;
pub mod recorder;

#[cfg(target_os = "linux")]
pub use fleet::Fleet;
pub use ledger::Ledger;
pub use member::{Member, Trio};
pub use publisher::{Clip, Publisher};
pub use recorder::Recorder;
