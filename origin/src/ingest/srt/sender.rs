//! The sending half of one connection: numbers messages, keeps them until they are acknowledged,
//! sends again what the peer misses, and gives up on what is too late for it.
//!
//! draft-sharabayko-srt-01 §3.2.4 (ACK), §3.2.5 (NAK), §4.8 (acknowledgement and lost packet
//! handling), §4.6 (too-late packet drop). Times are microseconds since the connection opened.
//! Not here: the handshake, keep-alives and the receiving half (the library), what is sent
//! (`play`).

use std::collections::VecDeque;

use bytes::Bytes;
use sapflow_srt::packet::{Ack, Control, ControlPacket, DataPacket, MAX_LOSS_ENTRIES, Position};
use sapflow_srt::seq::Seq;

use super::keys::SessionKey;
use super::transport::SendRefused;

/// Largest message: what an Ethernet frame leaves beside the headers of IPv4, UDP and SRT.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_456;
/// Packets that may leave in one millisecond: about 340 Mb/s, so that a keyframe spreads over a
/// few milliseconds and does not overrun a switch's queue.
const PACE_PACKETS: u32 = 32;
/// … and the interval they are counted over.
const PACE_INTERVAL: i64 = 1_000;
/// Silence of the peer's acknowledgements, beyond the round trip, after which the newest packet
/// is sent again to make the peer see a lost tail.
const PROBE_MARGIN: i64 = 20_000;
/// The round trip before one was measured.
const RTT_START: i64 = 100_000;
/// Sequence numbers used under one key at most; they wrap at 2^31 and the key stream with them.
const PACKETS_A_KEY_MAX: u64 = (1 << 31) - 1;

/// Bounds of a [`Sender`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SendLimits {
    /// Packets kept, sent or not.
    pub(super) packets: usize,
    /// Age in microseconds at which a packet is given up.
    pub(super) age: i64,
}

/// Counts of a [`Sender`].
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct SendCounts {
    /// Data packets sent, every copy.
    pub(super) sent: u64,
    /// Copies.
    pub(super) resent: u64,
    /// Packets given up on.
    pub(super) expired: u64,
}

struct Slot {
    payload: Bytes,
    message: u32,
    born: i64,
    /// When it was last sent; none before.
    sent: Option<i64>,
    /// Waiting in `resend`.
    wanted: bool,
}

/// See the module.
pub(super) struct Sender {
    limits: SendLimits,
    peer_socket: u32,
    key: Option<SessionKey>,
    /// Number of the first slot.
    first: Seq,
    slots: VecDeque<Slot>,
    /// Slots before this one were sent at least once.
    unsent: usize,
    next_message: u32,
    numbered: u64,
    /// Packets the peer can take beyond the acknowledged ones.
    window: usize,
    resend: VecDeque<Seq>,
    ack_ack: Option<u32>,
    give_up: VecDeque<(Seq, Seq)>,
    rtt: i64,
    last_progress: i64,
    probes: u32,
    pace_since: i64,
    pace_used: u32,
    counts: SendCounts,
}

impl Sender {
    pub(super) fn new(
        limits: SendLimits,
        peer_socket: u32,
        initial: u32,
        window: usize,
        key: Option<SessionKey>,
    ) -> Self {
        Self {
            limits,
            peer_socket,
            key,
            first: Seq::new(initial),
            slots: VecDeque::new(),
            unsent: 0,
            next_message: 1,
            numbered: 0,
            window: window.max(1),
            resend: VecDeque::new(),
            ack_ack: None,
            give_up: VecDeque::new(),
            rtt: RTT_START,
            last_progress: 0,
            probes: 0,
            pace_since: 0,
            pace_used: 0,
            counts: SendCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> SendCounts {
        self.counts
    }

    pub(super) fn backlog(&self) -> usize {
        self.slots.len()
    }

    /// The round trip in microseconds, as the peer measures it.
    pub(super) fn rtt(&self) -> i64 {
        self.rtt
    }

    fn seq_at(&self, index: usize) -> Seq {
        // Slots are bounded far below 2^31.
        self.first.add(u32::try_from(index).unwrap_or(0))
    }

    /// Takes one message.
    pub(super) fn push(&mut self, now: i64, payload: Bytes) -> Result<(), SendRefused> {
        if payload.is_empty() || payload.len() > MESSAGE_BYTES_MAX {
            return Err(SendRefused::TooLarge);
        }
        self.expire(now);
        if self.slots.len() >= self.limits.packets {
            return Err(SendRefused::Full);
        }
        if self.key.is_some() && self.numbered >= PACKETS_A_KEY_MAX {
            return Err(SendRefused::Gone);
        }
        let seq = self.seq_at(self.slots.len());
        let payload = match &self.key {
            Some(key) => {
                let mut hidden = payload.to_vec();
                key.apply(seq.get(), &mut hidden);
                Bytes::from(hidden)
            }
            None => payload,
        };
        if self.slots.is_empty() {
            self.last_progress = now;
            self.probes = 0;
        }
        let message = self.next_message;
        // 26 bits, and 0 is not a message.
        self.next_message = if message >= 0x03ff_ffff { 1 } else { message + 1 };
        self.numbered += 1;
        self.slots.push_back(Slot { payload, message, born: now, sent: None, wanted: false });
        Ok(())
    }

    /// Takes an ACK or a NAK; other control packets mean nothing here.
    pub(super) fn handle(&mut self, now: i64, control: &Control) {
        match control {
            Control::Ack(ack) => self.on_ack(now, ack),
            Control::Nak(ranges) => self.on_nak(now, ranges),
            _ => {}
        }
    }

    fn on_ack(&mut self, now: i64, ack: &Ack) {
        let done = self.first.distance_to(ack.ack);
        if let Some(stats) = ack.stats {
            if ack.number != 0 {
                self.ack_ack = Some(ack.number);
            }
            self.rtt = i64::from(stats.rtt).clamp(1, 10_000_000);
        }
        // What was not sent cannot be acknowledged; what is gone was acknowledged or given up.
        let Ok(done) = usize::try_from(done) else { return };
        if done > self.unsent {
            return;
        }
        if let Some(stats) = ack.stats {
            self.window = usize::try_from(stats.buffer).unwrap_or(usize::MAX).max(1);
        }
        if done > 0 {
            self.forget(done);
            self.last_progress = now;
            self.probes = 0;
        }
    }

    fn forget(&mut self, count: usize) {
        self.slots.drain(..count.min(self.slots.len()));
        self.first = self.seq_at(count);
        self.unsent = self.unsent.saturating_sub(count);
        let first = self.first;
        self.resend.retain(|seq| first.distance_to(*seq) >= 0);
    }

    fn on_nak(&mut self, now: i64, ranges: &[(Seq, Seq)]) {
        for (from, to) in ranges.iter().take(MAX_LOSS_ENTRIES) {
            let (start, end) = (self.first.distance_to(*from), self.first.distance_to(*to));
            if end < start || end >= i32::try_from(self.unsent).unwrap_or(i32::MAX) {
                continue;
            }
            if start < 0 && self.give_up.len() < MAX_LOSS_ENTRIES {
                let last = if end < 0 { *to } else { self.first.prev() };
                self.give_up.push_back((*from, last));
            }
            let Ok(end) = usize::try_from(end) else { continue };
            for index in usize::try_from(start).unwrap_or(0)..=end {
                self.want(now, index);
            }
        }
    }

    /// Queues a slot to be sent again, unless it is or a copy must still be on its way.
    fn want(&mut self, now: i64, index: usize) {
        let seq = self.seq_at(index);
        let rtt = self.rtt;
        let Some(slot) = self.slots.get_mut(index) else { return };
        // The first request is believed at once; a repeated one after the copy's round trip.
        let copies_underway = slot.sent.is_some_and(|sent| now - sent < rtt * 3 / 4);
        if slot.wanted || copies_underway {
            return;
        }
        slot.wanted = true;
        self.resend.push_back(seq);
    }

    /// Gives up on packets that are too late for the peer.
    fn expire(&mut self, now: i64) {
        let age = self.limits.age;
        let late = self.slots.iter().take_while(|slot| now - slot.born >= age).count();
        if late > 0 {
            self.counts.expired += late as u64;
            self.forget(late);
            self.last_progress = now;
        }
    }

    /// Sends the newest packet again when acknowledgements stay away: a lost tail is seen by the
    /// peer only when something follows it.
    fn probe(&mut self, now: i64) {
        if self.probe_at().is_some_and(|at| now >= at) {
            self.probes += 1;
            self.last_progress = now;
            if let Some(newest) = self.unsent.checked_sub(1) {
                self.want(now, newest);
            }
        }
    }

    fn probe_at(&self) -> Option<i64> {
        let wait = (self.rtt * 2 + PROBE_MARGIN) << self.probes.min(4);
        (self.unsent > 0).then(|| self.last_progress.saturating_add(wait))
    }

    /// The next datagram to send.
    pub(super) fn poll(&mut self, now: i64) -> Option<Vec<u8>> {
        if let Some(number) = self.ack_ack.take() {
            return Some(self.control(now, Control::AckAck { number }));
        }
        if let Some((first, last)) = self.give_up.pop_front() {
            return Some(self.control(now, Control::DropRequest { message: 0, first, last }));
        }
        self.expire(now);
        self.probe(now);
        if now - self.pace_since >= PACE_INTERVAL {
            self.pace_since = now;
            self.pace_used = 0;
        }
        if self.pace_used >= PACE_PACKETS {
            return None;
        }
        let index = self.next_to_send()?;
        self.pace_used += 1;
        self.data(now, index)
    }

    fn next_to_send(&mut self) -> Option<usize> {
        while let Some(seq) = self.resend.pop_front() {
            if let Ok(index) = usize::try_from(self.first.distance_to(seq))
                && index < self.unsent
            {
                return Some(index);
            }
        }
        (self.unsent < self.slots.len() && self.unsent < self.window).then_some(self.unsent)
    }

    fn data(&mut self, now: i64, index: usize) -> Option<Vec<u8>> {
        let seq = self.seq_at(index);
        let key = self.key.as_ref().map_or(0, SessionKey::flag);
        let slot = self.slots.get_mut(index)?;
        let again = slot.sent.is_some();
        slot.sent = Some(now);
        slot.wanted = false;
        let packet = DataPacket {
            seq,
            position: Position::Only,
            in_order: false,
            key,
            retransmitted: again,
            message: slot.message,
            timestamp: wrapping_micros(slot.born),
            dest: self.peer_socket,
            payload: &slot.payload,
        };
        let mut datagram = Vec::with_capacity(16 + slot.payload.len());
        packet.encode(&mut datagram);
        self.counts.sent += 1;
        if again {
            self.counts.resent += 1;
        } else {
            self.unsent = index + 1;
        }
        Some(datagram)
    }

    fn control(&self, now: i64, body: Control) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(32);
        ControlPacket::new(wrapping_micros(now), self.peer_socket, body).encode(&mut datagram);
        datagram
    }

    /// When [`Self::poll`] may have something that it does not have now; none when idle.
    pub(super) fn next_timer(&self) -> Option<i64> {
        let waiting = !self.resend.is_empty()
            || (self.unsent < self.slots.len() && self.unsent < self.window);
        let paced = waiting.then(|| {
            let full = self.pace_used >= PACE_PACKETS;
            if full { self.pace_since.saturating_add(PACE_INTERVAL) } else { self.pace_since }
        });
        let expiry = self.slots.front().map(|slot| slot.born.saturating_add(self.limits.age));
        [paced, expiry, self.probe_at()].into_iter().flatten().min()
    }
}

/// A packet's 32-bit time stamp.
fn wrapping_micros(micros: i64) -> u32 {
    u32::try_from(micros & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sapflow_srt::packet::Packet;
    use sapflow_srt::receiver::{Receiver, Settings};

    const LATENCY: i64 = 120_000;
    const LIMITS: SendLimits = SendLimits { packets: 1024, age: 1_000_000 };

    fn sender(limits: SendLimits) -> Sender {
        Sender::new(limits, 9, Seq::MAX - 100, 8192, None)
    }

    fn message(number: u32) -> Bytes {
        Bytes::from(number.to_be_bytes().repeat(329))
    }

    /// A link with a fixed delay each way that loses by a small generator.
    struct Link {
        state: u64,
        loss_percent: u64,
        delay: i64,
        underway: VecDeque<(i64, Vec<u8>)>,
    }

    impl Link {
        fn new(seed: u64, loss_percent: u64, delay: i64) -> Self {
            Self { state: seed, loss_percent, delay, underway: VecDeque::new() }
        }

        fn send(&mut self, now: i64, datagram: Vec<u8>) {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (self.state >> 33) % 100 >= self.loss_percent {
                self.underway.push_back((now + self.delay, datagram));
            }
        }

        fn arrived(&mut self, now: i64) -> Option<Vec<u8>> {
            let due = self.underway.front().is_some_and(|(at, _)| *at <= now);
            due.then(|| self.underway.pop_front().unwrap().1)
        }
    }

    /// Sends 2000 messages, one each 2 ms, over a lossy link; gives what was delivered in order.
    fn run(loss_percent: u64) -> (Vec<u32>, Sender) {
        let mut sender = sender(LIMITS);
        let settings =
            Settings { latency: LATENCY, buffer: 8192, peer_idle: 5_000_000, max_payload: 1456 };
        let mut receiver = Receiver::new(settings, 0, 5, Seq::new(Seq::MAX - 100), 0);
        let mut there = Link::new(7, loss_percent, 15_000);
        let mut back = Link::new(11, loss_percent, 15_000);
        let mut delivered = Vec::new();
        for now in (0..4_500_000).step_by(500) {
            if now % 2_000 == 0 && now < 4_000_000 {
                sender.push(now, message((now / 2_000) as u32)).unwrap();
            }
            while let Some(datagram) = back.arrived(now) {
                let Ok(Packet::Control(packet)) = Packet::parse(&datagram) else { panic!() };
                sender.handle(now, &packet.body);
            }
            while let Some(datagram) = sender.poll(now) {
                there.send(now, datagram);
            }
            while let Some(datagram) = there.arrived(now) {
                match Packet::parse(&datagram).unwrap() {
                    Packet::Data(data) => receiver.on_data(now, &data),
                    Packet::Control(packet) => receiver.on_control(now, &packet.body),
                }
            }
            receiver.on_timer(now);
            while let Some(datagram) = receiver.take_send() {
                back.send(now, datagram);
            }
            while let Some(payload) = receiver.take_delivery() {
                assert_eq!(payload.len(), 1316);
                delivered.push(u32::from_be_bytes(*payload.first_chunk().unwrap()));
            }
        }
        (delivered, sender)
    }

    #[test]
    fn a_reader_gets_every_message_in_order_on_a_clean_link() {
        let (delivered, sender) = run(0);
        assert_eq!(delivered, (0..2_000).collect::<Vec<_>>());
        assert_eq!(sender.counts(), SendCounts { sent: 2_000, resent: 0, expired: 0 });
        assert_eq!(sender.backlog(), 0);
        assert!((30_000..45_000).contains(&sender.rtt()), "rtt {}", sender.rtt());
    }

    #[test]
    fn lost_messages_are_sent_again_in_time_across_the_wrap_of_numbers() {
        let (delivered, sender) = run(5);
        assert_eq!(delivered, (0..2_000).collect::<Vec<_>>());
        let resent = sender.counts().resent;
        assert!((50..400).contains(&resent), "resent {resent} for about 100 lost");
        assert_eq!((sender.counts().expired, sender.backlog()), (0, 0));
    }

    #[test]
    fn without_acknowledgements_the_buffer_fills_then_old_messages_go() {
        let mut sender = sender(SendLimits { packets: 10, age: 1_000_000 });
        for number in 0..10 {
            sender.push(0, message(number)).unwrap();
        }
        assert_eq!(sender.push(1, message(10)), Err(SendRefused::Full));
        while sender.poll(1).is_some() {}
        assert_eq!(sender.push(1_000_000, message(10)), Ok(()));
        assert_eq!((sender.counts().expired, sender.backlog()), (10, 1));
        // A request for what was given up is answered with a drop request, once.
        let first = Seq::new(Seq::MAX - 100);
        sender.poll(1_000_000).unwrap();
        sender.handle(1_000_001, &Control::Nak(vec![(first, first.add(4))]));
        let answer = sender.poll(1_000_001).unwrap();
        let Ok(Packet::Control(packet)) = Packet::parse(&answer) else { panic!() };
        assert_eq!(packet.body, Control::DropRequest { message: 0, first, last: first.add(4) });
        assert_eq!(sender.poll(1_000_002), None);
    }

    #[test]
    fn absurd_acknowledgements_and_requests_change_nothing() {
        let mut sender = sender(LIMITS);
        let first = Seq::new(Seq::MAX - 100);
        for number in 0..4 {
            sender.push(0, message(number)).unwrap();
        }
        sender.poll(0).unwrap();
        sender.poll(0).unwrap();
        for ack in [first.add(3), first.add(500), first.prev(), first.add(1 << 30)] {
            sender.handle(1, &Control::Ack(Ack { number: 0, ack, stats: None }));
            assert_eq!(sender.backlog(), 4, "{ack}");
        }
        for (from, to) in
            [(first.add(1), first), (first, first.add(2)), (first, first.add(1 << 29))]
        {
            sender.handle(1_000, &Control::Nak(vec![(from, to)]));
        }
        assert!(sender.resend.is_empty());
        sender.handle(2, &Control::Ack(Ack { number: 0, ack: first.add(2), stats: None }));
        assert_eq!(sender.backlog(), 2);
    }

    #[test]
    fn a_burst_is_spread_over_milliseconds() {
        let mut sender = sender(LIMITS);
        for number in 0..100 {
            sender.push(0, message(number)).unwrap();
        }
        let mut sent = Vec::new();
        for now in [0, 500, 1_000, 2_000, 3_000, 4_000] {
            let mut count = 0;
            while sender.poll(now).is_some() {
                count += 1;
            }
            sent.push(count);
        }
        assert_eq!(sent, [32, 0, 32, 32, 4, 0]);
    }

    #[test]
    fn messages_must_fit_a_packet() {
        let mut sender = sender(LIMITS);
        assert_eq!(sender.push(0, Bytes::new()), Err(SendRefused::TooLarge));
        let large = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
        assert_eq!(sender.push(0, large), Err(SendRefused::TooLarge));
    }
}
