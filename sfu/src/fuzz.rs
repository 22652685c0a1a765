//! Entry points for fuzzing: everything of this crate that parses strangers' bytes.
//!
//! Not here: the engine's own parsers. Not part of the interface.

use crate::demux::binding_ufrag;
use crate::packetize::packetize_any;
use crate::sdp::{Fragment, Offer, plan_publisher, plan_viewer};

const BYTES_MAX: usize = 64 << 10;

/// An SDP offer, as a publisher's and as a viewer's; what is accepted must be accepted again
/// after it was rewritten.
pub fn offer(text: &str) {
    let Ok(offer) = Offer::parse(text, BYTES_MAX) else { return };
    let rendered = offer.render();
    // What is written anew may take an offer of a thousand lines over the limit.
    let small = text.lines().count() < 1_000;
    assert!(!small || Offer::parse(&rendered, usize::MAX).is_ok(), "{rendered}");
    let accepted = plan_publisher(&mut offer.clone()).is_ok();
    let played = plan_viewer(&mut offer.clone(), None, None).is_ok();
    assert!(!played, "a viewer was given tracks that do not exist (published: {accepted})");
}

/// A trickle-ICE fragment.
pub fn fragment(text: &str) {
    if let Ok(fragment) = Fragment::parse(text, BYTES_MAX) {
        assert!(fragment.ufrag.len() >= 4 && fragment.password.len() >= 22);
    }
}

/// A datagram's first look.
pub fn datagram(bytes: &[u8]) {
    if let Some(ufrag) = binding_ufrag(bytes) {
        assert!(ufrag.len() < bytes.len());
    }
}

/// An access unit from the bus, as every codec; packets stay within their limit.
pub fn access_unit(bytes: &[u8]) {
    const LIMIT: usize = 200;
    for payload in packetize_any(bytes, LIMIT) {
        assert!((1..=LIMIT).contains(&payload.len()), "a payload of {} bytes", payload.len());
    }
}
