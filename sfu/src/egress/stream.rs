//! One track's RTP stream towards a viewer: numbers, headers, resent packets, reports.
//!
//! Not here: which frames are sent and when (`viewer`), time stamps (`outclock`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::WallTime;

use super::header::{ExtensionIds, Header};
use super::resend::{Resends, Stretch};
use super::rtcp::{self, SenderInfo};
use super::runs::{Path, Runs};
use super::seal::Sealer;
use crate::packetize::Held;

/// Bytes of the original sequence number that begin a resent payload (RFC 4588 §4).
const ORIGINAL_BYTES: usize = 2;
/// Headers of a packet for the pace: IP, UDP, RTP with extensions, and the authentication tag.
const OVERHEAD_BYTES: usize = 80;

/// How often a stream's sender reports leave. Until the first has come a player cannot line up
/// sound and picture.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A report that is due waits so long for a frame to leave with: a wake-up and a call of its own
/// cost more than the report.
const REPORT_SLACK: Duration = Duration::from_millis(100);

/// The payload type of a track's packets, and that of resent ones where the viewer takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadTypes {
    pub(crate) first: u8,
    pub(crate) resent: Option<u8>,
}

/// What identifies a stream, as the answer said.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) ssrc: u32,
    /// The SSRC of resent packets.
    pub(crate) resent_ssrc: Option<u32>,
    pub(crate) mid: String,
    pub(crate) extensions: ExtensionIds,
    /// The stream's name in reports.
    pub(crate) cname: String,
    /// Ticks a second of time stamps.
    pub(crate) rate_hz: u32,
}

/// A frame, or what is left of one, to be sent.
pub(crate) struct FrameOut<'a> {
    pub(crate) packets: &'a Arc<Held>,
    /// The first packet that has not been sent.
    pub(crate) from: usize,
    /// RTP time stamp.
    pub(crate) time: u32,
    /// The last packet bears the marker: pictures, not sound.
    pub(crate) marked: bool,
    pub(crate) keyframe: bool,
}

/// Where packets are written: the sending keys and the way to the viewer.
pub(crate) struct Egress<'a> {
    pub(crate) sealer: &'a mut Sealer,
    pub(crate) runs: &'a mut Runs,
    pub(crate) path: Path,
}

/// Packets and their bytes as datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Sent {
    fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// An RTP stream.
pub(crate) struct Stream {
    identity: Identity,
    /// The next sequence number, widened.
    sequence: u64,
    resent_sequence: u64,
    resends: Resends,
    /// A receiver report has come: the viewer knows the SSRC.
    known: bool,
    packets: u32,
    payload_bytes: u32,
    /// The last frame's time stamp and the moment it stands for.
    last: Option<(u32, Instant)>,
    report_at: Option<Instant>,
}

impl Stream {
    /// A stream that begins at `sequence`, which must be below 65,536: a late joiner's roll-over
    /// counter is 0 (RFC 3711 §3.3.1).
    pub(crate) fn new(identity: Identity, sequence: u16, resends: Resends) -> Self {
        Self {
            identity,
            sequence: sequence.into(),
            resent_sequence: 1,
            resends,
            known: false,
            packets: 0,
            payload_bytes: 0,
            last: None,
            report_at: None,
        }
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.identity.ssrc
    }

    /// Sends a frame's packets while `budget` is above 0, and takes what they cost from it. Gives
    /// the place of the first packet that has not left.
    pub(crate) fn send(
        &mut self,
        out: &mut Egress<'_>,
        frame: &FrameOut<'_>,
        types: PayloadTypes,
        moment: Instant,
        now: Instant,
        budget: &mut i64,
    ) -> (usize, Sent) {
        let payloads = &frame.packets.payloads;
        let last = payloads.len().saturating_sub(1);
        let (first, mut sent, mut bytes) = (self.sequence, Sent::default(), 0);
        let mut next = frame.from;
        while let Some(payload) = payloads.get(next).filter(|_| *budget > 0) {
            let header = Header {
                payload_type: types.first,
                marker: frame.marked && next == last,
                sequence: self.sequence as u16,
                time: frame.time,
                ssrc: self.identity.ssrc,
                mid: self.mid(),
                no_delay: self.no_delay(frame),
            };
            let header_bytes = header.bytes();
            let size = header_bytes + payload.len() + out.sealer.tag_bytes();
            let (sealer, ssrc, sequence) = (&mut *out.sealer, header.ssrc, self.sequence);
            out.runs.append(out.path, size, |packet| {
                header.write(packet);
                sealer.rtp(packet, header_bytes, payload, ssrc, sequence);
            });
            *budget -= (payload.len() + OVERHEAD_BYTES) as i64;
            self.sequence += 1;
            bytes += payload.len();
            sent.add(size);
            next += 1;
        }
        self.packets = self.packets.wrapping_add(sent.packets as u32);
        self.payload_bytes = self.payload_bytes.wrapping_add(bytes as u32);
        self.last = Some((frame.time, moment));
        self.report_at.get_or_insert(now);
        let resent = types.resent.filter(|_| frame.marked && self.identity.resent_ssrc.is_some());
        if let Some(payload_type) = resent.filter(|_| next > frame.from) {
            let stretch = Stretch {
                first,
                packets: Arc::clone(frame.packets),
                from: frame.from,
                count: next - frame.from,
                time: frame.time,
                payload_type,
                at: now,
            };
            self.resends.record(stretch, bytes);
        }
        (next, sent)
    }

    /// Sends the packet of a sequence number again, if it is still known and the viewer takes
    /// resent packets (RFC 4588 §4).
    pub(crate) fn resend(&mut self, out: &mut Egress<'_>, sequence: u16, now: Instant) -> Sent {
        let mut sent = Sent::default();
        let Some(ssrc) = self.identity.resent_ssrc else { return sent };
        let Some((stretch, place, original)) = self.resends.take(sequence, now) else {
            return sent;
        };
        let Some(payload) = stretch.packets.payloads.get(place) else { return sent };
        let mut body = Vec::with_capacity(ORIGINAL_BYTES + payload.len());
        body.extend_from_slice(&(original as u16).to_be_bytes());
        body.extend_from_slice(payload);
        let header = Header {
            payload_type: stretch.payload_type,
            marker: place + 1 == stretch.packets.payloads.len(),
            sequence: self.resent_sequence as u16,
            time: stretch.time,
            ssrc,
            mid: self.mid(),
            no_delay: None,
        };
        let header_bytes = header.bytes();
        let size = header_bytes + body.len() + out.sealer.tag_bytes();
        let (sealer, index) = (&mut *out.sealer, self.resent_sequence);
        out.runs.append(out.path, size, |packet| {
            header.write(packet);
            sealer.rtp(packet, header_bytes, &body, ssrc, index);
        });
        self.resent_sequence += 1;
        sent.add(size);
        sent
    }

    /// Sends a sender report where one is due.
    pub(crate) fn report(&mut self, out: &mut Egress<'_>, now: Instant, wall: WallTime) -> Sent {
        let mut sent = Sent::default();
        let Some((time, moment)) = self.last.filter(|_| self.report_at.is_some_and(|at| at <= now))
        else {
            return sent;
        };
        self.report_at = Some(now + REPORT_INTERVAL);
        let since = now.saturating_duration_since(moment).as_micros();
        let ticks = since.saturating_mul(u128::from(self.identity.rate_hz)) / 1_000_000;
        let info = SenderInfo {
            ssrc: self.identity.ssrc,
            wall,
            // Time stamps wrap.
            time: time.wrapping_add(ticks as u32),
            packets: self.packets,
            bytes: self.payload_bytes,
        };
        let datagram = out.sealer.rtcp(&rtcp::report(&info, &self.identity.cname));
        out.runs.push(out.path, &datagram);
        sent.add(datagram.len());
        sent
    }

    /// When [`Self::report`] is to be called at the latest.
    pub(crate) fn report_at(&self) -> Option<Instant> {
        self.report_at.map(|at| at + REPORT_SLACK)
    }

    /// A receiver report about this stream has come.
    pub(crate) fn acknowledged(&mut self) {
        self.known = true;
    }

    fn mid(&self) -> Option<(u8, &str)> {
        let id = self.identity.extensions.mid.filter(|_| !self.known)?;
        Some((id, &self.identity.mid))
    }

    fn no_delay(&self, frame: &FrameOut<'_>) -> Option<u8> {
        self.identity.extensions.playout_delay.filter(|_| frame.keyframe && frame.marked)
    }
}
