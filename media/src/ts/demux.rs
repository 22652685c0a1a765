//! The demultiplexer: packets in, elementary streams and their PES out.
//!
//! Call [`Demuxer::push`] with bytes as they come (any cut), then [`Demuxer::poll`] until it gives
//! nothing. What waits to be polled is never more than what the last pushes carried, and what is
//! kept beyond that is bounded by [`DemuxOptions`].
//!
//! Of several programs the first that turns out to have media is taken. Not here: what a PES
//! contains (`codec`), gaps and jumps of the times (the publisher mends them).

use std::collections::VecDeque;

use super::continuity::{Continuity, Order};
use super::event::{DemuxOptions, DemuxStats, Event, LostReason};
use super::packet::Packet;
use super::pes::{Assembler, Chunk, Pes, RawPes};
use super::psi::{self, Elementary, PROGRAMS_MAX, Pat, Pmt, Program, SectionBuffer};
use super::{PACKET_BYTES, PID_FIRST, PID_NULL, PID_PAT, SYNC_BYTE, StreamCodec};

/// Packets are found again where two sync bytes stand a packet apart.
const HUNT_BYTES: usize = 2 * PACKET_BYTES;
/// Sections of a PAT that are kept.
const PAT_SECTIONS_MAX: usize = 8;
/// Streams that are not carried and have been reported.
const REPORTED_MAX: usize = 256;

/// A demultiplexer of one transport stream.
#[derive(Debug)]
pub struct Demuxer {
    options: DemuxOptions,
    /// The beginning of a packet, or bytes to search.
    carry: Vec<u8>,
    synced: bool,
    pids: Vec<PidState>,
    pat: Vec<Pat>,
    /// The program taken, with its streams.
    selected: Option<Pmt>,
    reported: Vec<(u16, u8)>,
    /// The last decoding time of any track.
    reference: Option<i64>,
    buffered: usize,
    events: VecDeque<Event>,
    stats: DemuxStats,
}

#[derive(Debug)]
struct PidState {
    pid: u16,
    continuity: Continuity,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Table(SectionBuffer),
    Media { codec: StreamCodec, assembler: Assembler, scrambled: bool },
}

impl PidState {
    fn table(pid: u16) -> Self {
        let role = Role::Table(SectionBuffer::default());
        Self { pid, continuity: Continuity::default(), role }
    }

    fn media(pid: u16, codec: StreamCodec) -> Self {
        let role = Role::Media { codec, assembler: Assembler::new(), scrambled: false };
        Self { pid, continuity: Continuity::default(), role }
    }

    /// Drops what is under way. False when nothing was.
    fn damage(&mut self) -> bool {
        match &mut self.role {
            Role::Table(sections) => {
                sections.reset();
                false
            }
            Role::Media { assembler, .. } => assembler.damage(),
        }
    }
}

impl Demuxer {
    /// A demultiplexer that has seen nothing.
    #[must_use]
    pub fn new(options: DemuxOptions) -> Self {
        Self {
            options,
            carry: Vec::with_capacity(HUNT_BYTES),
            synced: true,
            pids: vec![PidState::table(PID_PAT)],
            pat: Vec::new(),
            selected: None,
            reported: Vec::new(),
            reference: None,
            buffered: 0,
            events: VecDeque::new(),
            stats: DemuxStats::default(),
        }
    }

    /// Takes bytes of the stream, cut anywhere. Poll afterwards.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.synced && self.carry.is_empty() {
                while let Some((packet, rest)) = bytes.split_first_chunk::<PACKET_BYTES>() {
                    if packet.first() != Some(&SYNC_BYTE) {
                        self.lose_sync();
                        break;
                    }
                    self.packet(packet);
                    bytes = rest;
                }
                if self.synced {
                    self.carry.extend_from_slice(bytes);
                    return;
                }
            }
            let want = if self.synced { PACKET_BYTES } else { HUNT_BYTES };
            let room = want.saturating_sub(self.carry.len()).min(bytes.len());
            let (taken, rest) = bytes.split_at(room);
            self.carry.extend_from_slice(taken);
            bytes = rest;
            self.drain_carry();
        }
    }

    /// The next thing found.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The stream has ended: gives out the PES that only a next one would have ended.
    pub fn finish(&mut self) {
        for index in 0..self.pids.len() {
            self.with_assembler(index, |assembler, out| assembler.finish(out));
        }
    }

    /// Bytes of the PES under way.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        self.stats
    }

    fn lose_sync(&mut self) {
        self.synced = false;
        self.lost(None, LostReason::Sync);
    }

    fn lost(&mut self, pid: Option<u16>, reason: LostReason) {
        self.stats.lost += 1;
        self.events.push_back(Event::Lost { pid, reason });
    }

    /// Reads the packet that the carried bytes have come to, or searches them for one.
    fn drain_carry(&mut self) {
        if self.synced {
            let Some(&packet) = self.carry.first_chunk::<PACKET_BYTES>() else { return };
            if packet.first() == Some(&SYNC_BYTE) {
                self.carry.clear();
                return self.packet(&packet);
            }
            self.lose_sync();
        }
        let is_sync = |at: usize| self.carry.get(at) == Some(&SYNC_BYTE);
        let found = (0..PACKET_BYTES).find(|&at| is_sync(at) && is_sync(at + PACKET_BYTES));
        match found {
            Some(at) => {
                self.skip(at);
                self.synced = true;
                if let Some(&packet) = self.carry.first_chunk::<PACKET_BYTES>() {
                    self.carry.drain(..PACKET_BYTES);
                    self.packet(&packet);
                }
                if self.carry.len() >= PACKET_BYTES {
                    self.drain_carry();
                }
            }
            None if self.carry.len() >= HUNT_BYTES => self.skip(PACKET_BYTES),
            None => {}
        }
    }

    fn skip(&mut self, count: usize) {
        self.carry.drain(..count.min(self.carry.len()));
        self.stats.skipped_bytes += count as u64;
    }

    fn packet(&mut self, bytes: &[u8; PACKET_BYTES]) {
        self.stats.packets += 1;
        let Some(packet) = Packet::parse(bytes) else {
            return self.lost(None, LostReason::Malformed);
        };
        if packet.pid == PID_NULL {
            return;
        }
        let Some(index) = self.pids.iter().position(|state| state.pid == packet.pid) else {
            return;
        };
        let pid = Some(packet.pid);
        let Some(state) = self.pids.get_mut(index) else { return };
        if packet.error {
            // Its counter may be wrong too: the next packet of the PID is taken as it comes.
            state.continuity.forget();
            self.damage(index);
            return self.lost(pid, LostReason::TransportError);
        }
        let Some(payload) = packet.payload else { return };
        match state.continuity.check(&packet, payload) {
            Order::Next => {}
            Order::Duplicate => {
                self.stats.duplicates += 1;
                return;
            }
            Order::Gap => {
                self.damage(index);
                self.lost(pid, LostReason::Continuity);
            }
        }
        let Some(state) = self.pids.get_mut(index) else { return };
        match &mut state.role {
            Role::Table(sections) => {
                let mut whole: Vec<Result<Table, ()>> = Vec::new();
                sections.push(packet.starts, payload, |section| {
                    whole.extend(
                        section.map(|section| Table::read(packet.pid, section)).transpose(),
                    );
                });
                whole.into_iter().for_each(|table| self.table(packet.pid, table));
            }
            Role::Media { scrambled, .. } if packet.scrambled => {
                if !std::mem::replace(scrambled, true) {
                    self.damage(index);
                    self.lost(pid, LostReason::Scrambled);
                }
            }
            Role::Media { assembler, .. } => {
                let others = self.buffered.saturating_sub(assembler.len());
                let room = self.options.buffered_bytes_max.saturating_sub(others);
                let limit = self.options.pes_bytes_max.min(room);
                let Packet { starts, random_access, stuffed, .. } = packet;
                let chunk = Chunk { starts, random_access, stuffed, payload };
                self.with_assembler(index, |assembler, out| assembler.push(chunk, limit, out));
            }
        }
    }

    fn damage(&mut self, index: usize) {
        let Some(state) = self.pids.get_mut(index) else { return };
        if let Role::Media { assembler, .. } = &state.role {
            self.buffered = self.buffered.saturating_sub(assembler.len());
        }
        state.damage();
    }

    /// Lets a track's assembler work, keeps account of its bytes and gives out what it gives.
    fn with_assembler(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Assembler, &mut dyn FnMut(Result<RawPes, LostReason>)),
    ) {
        let Some(PidState { pid, role: Role::Media { assembler, .. }, .. }) =
            self.pids.get_mut(index)
        else {
            return;
        };
        let pid = *pid;
        let before = assembler.len();
        let (events, stats, reference) = (&mut self.events, &mut self.stats, &mut self.reference);
        work(assembler, &mut |result| {
            events.push_back(match result {
                Ok(raw) => Event::Pes(widened(pid, raw, reference)),
                Err(reason) => {
                    stats.lost += 1;
                    Event::Lost { pid: Some(pid), reason }
                }
            });
        });
        self.buffered = self.buffered.saturating_sub(before) + assembler.len();
    }

    fn table(&mut self, pid: u16, table: Result<Table, ()>) {
        match table {
            Err(()) => self.lost(Some(pid), LostReason::Table),
            Ok(Table::Pat(pat)) => self.program_association(pat),
            Ok(Table::Pmt(pmt)) => self.program_map(pid, pmt),
        }
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.pat.iter().flat_map(|section| &section.programs).take(PROGRAMS_MAX)
    }

    fn program_association(&mut self, pat: Pat) {
        if self.pat.contains(&pat) {
            return;
        }
        let last = pat.last_section;
        self.pat.retain(|known| known.section != pat.section && known.section <= last);
        if self.pat.len() < PAT_SECTIONS_MAX {
            self.pat.push(pat);
        }
        let wanted: Vec<u16> = self.programs().map(|program| program.pmt_pid).collect();
        let selected = self.selected.as_ref().map(|pmt| (pmt.program, pmt.pid));
        let kept = selected.is_none_or(|(number, pid)| {
            self.programs().any(|program| program.number == number && program.pmt_pid == pid)
        });
        if !kept {
            self.selected = None;
            self.set_streams(&[]);
        }
        self.pids.retain(|state| {
            let table = matches!(state.role, Role::Table(_));
            !table || state.pid == PID_PAT || wanted.contains(&state.pid)
        });
        for pid in wanted {
            let taken = self.pids.iter().any(|state| state.pid == pid);
            if !taken && (PID_FIRST..PID_NULL).contains(&pid) {
                self.pids.push(PidState::table(pid));
            }
        }
    }

    fn program_map(&mut self, pid: u16, pmt: Pmt) {
        let listed = self.programs().any(|p| p.number == pmt.program && p.pmt_pid == pid);
        let other = self.selected.as_ref().is_some_and(|taken| taken.program != pmt.program);
        if !listed || other || self.selected.as_ref() == Some(&pmt) {
            return;
        }
        for stream in &pmt.streams {
            let Elementary { pid, stream_type, codec } = *stream;
            let known = self.reported.contains(&(pid, stream_type));
            if let Err(name) = codec
                && !known
                && self.reported.len() < REPORTED_MAX
            {
                self.reported.push((pid, stream_type));
                self.events.push_back(Event::Unsupported { pid, stream_type, name });
            }
        }
        self.set_streams(&pmt.streams);
        let media = self.pids.iter().any(|state| matches!(state.role, Role::Media { .. }));
        self.selected = media.then_some(pmt);
    }

    /// Makes the tracks those of the list: ends the others, begins the new ones.
    fn set_streams(&mut self, streams: &[Elementary]) {
        let wanted: Vec<(u16, StreamCodec)> = streams
            .iter()
            .filter_map(|stream| stream.codec.ok().map(|codec| (stream.pid, codec)))
            .filter(|(pid, _)| (PID_FIRST..PID_NULL).contains(pid))
            .collect();
        let (events, buffered) = (&mut self.events, &mut self.buffered);
        self.pids.retain(|state| match &state.role {
            Role::Media { codec, assembler, .. } if !wanted.contains(&(state.pid, *codec)) => {
                *buffered = buffered.saturating_sub(assembler.len());
                events.push_back(Event::TrackEnded { pid: state.pid });
                false
            }
            _ => true,
        });
        for (pid, codec) in wanted {
            if !self.pids.iter().any(|state| state.pid == pid) {
                self.pids.push(PidState::media(pid, codec));
                self.events.push_back(Event::Track { pid, codec });
            }
        }
    }
}

/// A table in force.
#[derive(Debug)]
enum Table {
    Pat(Pat),
    Pmt(Pmt),
}

impl Table {
    fn read(pid: u16, section: &[u8]) -> Option<Self> {
        if pid == PID_PAT {
            psi::pat(section).map(Self::Pat)
        } else {
            psi::pmt(pid, section).map(Self::Pmt)
        }
    }
}

/// A PES with its times widened: nearest to the last decoding time of any track, so that all
/// tracks wrap together.
fn widened(pid: u16, raw: RawPes, reference: &mut Option<i64>) -> Pes {
    let dts = raw.dts.map(|dts| widen(dts, *reference));
    *reference = dts.or(*reference);
    let pts = raw.pts.map(|pts| widen(pts, *reference));
    Pes { pid, pts, dts, data: raw.data, random_access: raw.random_access }
}

/// The time whose low 33 bits are `time` and that is nearest to `reference`.
fn widen(time: u64, reference: Option<i64>) -> i64 {
    const WRAP: i64 = 1 << 33;
    let time = i64::try_from(time).unwrap_or(0);
    let Some(reference) = reference else { return time };
    let ahead = time.wrapping_sub(reference).rem_euclid(WRAP);
    let ahead = if ahead >= WRAP / 2 { ahead - WRAP } else { ahead };
    reference.saturating_add(ahead)
}
