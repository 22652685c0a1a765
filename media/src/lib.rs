//! The live media model of Headwater: frames, groups, tracks, broadcasts and the in-process bus
//! that carries them, with the codec headers and containers needed to move them between protocols.
//!
//! Everything is a value or a lock-free structure that takes the time as an argument.
//! Not here: sockets, clocks, tasks, protocols between machines.

pub mod broadcast;
pub mod bus;
pub mod codec;
pub mod fmp4;
pub mod frame;
pub mod id;
pub mod limits;
pub mod time;
pub mod track;
pub mod ts;

pub use broadcast::{Broadcast, BroadcastState, BroadcastWatch};
pub use bus::{Cursor, Item, Start, TrackWriter};
pub use codec::{Codec, MediaKind};
pub use frame::{Frame, Group, GroupHeader};
pub use id::{ConfigVersion, DiscontinuitySeq, Epoch, GroupSeq, SessionId, StreamName, TrackName};
pub use time::{ClockRate, MediaDuration, MediaTime, WallTime};
pub use track::{PartPlan, Track, TrackConfig};
