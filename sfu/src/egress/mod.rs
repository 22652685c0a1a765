//! What leaves towards viewers: RTP, resent packets and reports, sealed and written straight into
//! the send buffers of their worker.
//!
//! The engine (`peer`) keeps ICE, DTLS and what comes in; nothing that it would send under SRTP
//! leaves. `docs/decisions/0001-own-egress.md` says why.
//! Not here: which frames a viewer gets and when (`viewer`), sockets (`batch`).

mod header;
pub(crate) mod keys;
mod resend;
pub(crate) mod rtcp;
pub(crate) mod runs;
mod seal;
pub(crate) mod stream;

pub(crate) use header::ExtensionIds;
pub(crate) use resend::Resends;
pub(crate) use runs::{Path, Run, Runs};
pub(crate) use seal::Sealer;
