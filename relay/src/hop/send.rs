//! Writes a track's groups to a child, each on a stream of its own, as its frames come.
//!
//! Driver: it reads the clock. Not here: when a group is given up or left out (`feed`).
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use headwater_media::{Cursor, Group, GroupSeq, Item, MediaKind, Start, Track};
use quinn::{Connection, SendStream, VarInt, WriteError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::control::ControlWriter;
use crate::feed::{self, Lateness};
use crate::parent::Terms;
use crate::wire::{
    FRAME_HEAD_BYTES_MAX, FrameCoder, GroupHead, Message, StreamKind, encode_group_end,
    encode_group_head, stream_code,
};

/// A track on its way to a child.
pub(super) struct TrackSender {
    pub(super) connection: Connection,
    pub(super) control: ControlWriter,
    pub(super) subscription: u64,
    pub(super) id: u64,
    pub(super) track: Track,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) cancel: CancellationToken,
    /// Since when it is not at the track's end.
    pub(super) behind_since: Option<Instant>,
}

/// The stream of the group in flight.
struct Outgoing {
    stream: SendStream,
    coder: FrameCoder,
    seq: GroupSeq,
    order: u64,
}

/// How writing went.
enum Written {
    Done,
    /// The group lags too far; a newer one is to be begun.
    TooOld,
    /// The child does not want it, or nothing any more.
    Over,
}

impl TrackSender {
    /// Sends until the track ends or the subscription does; how many streams there were.
    pub(super) async fn run(mut self, start: Start) -> u64 {
        let mut cursor = self.track.read(start);
        let mut current: Option<Outgoing> = None;
        let (mut orders, mut left_out, mut passing) = (0u64, 0u64, false);
        let mut first = match start {
            Start::At(seq, frame) => Some((seq, frame)),
            _ => None,
        };
        loop {
            let cancel = self.cancel.clone();
            let item = match cursor.try_next() {
                Some(item) => {
                    self.behind_since.get_or_insert_with(Instant::now);
                    item
                }
                None => {
                    self.behind_since = None;
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => break,
                        () = cursor.changed() => continue,
                    }
                }
            };
            match item {
                Item::Group { group, skipped } => {
                    left_out += skipped;
                    passing |= skipped > 0;
                    if passing && !group.header().independent {
                        left_out += 1;
                        continue;
                    }
                    passing = false;
                    let window = self.track.window();
                    let resumed = first.take().filter(|(seq, _)| *seq == group.seq());
                    let from = resumed.map_or(0, |(_, frame)| frame);
                    let late = feed::leaves_out(&window, &group, from, self.lateness());
                    if let Some(count) = late
                        && cursor.skip_to_newest()
                    {
                        left_out += count;
                        continue;
                    }
                    count_left_out(left_out);
                    current = self.open(&group, from, orders, left_out).await;
                    orders += 1;
                    left_out = 0;
                }
                Item::Frame(at) => {
                    let (Some(out), Some(frame)) = (&mut current, at.frame()) else { continue };
                    let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES_MAX);
                    out.coder.encode(frame, &mut head);
                    let chunks = [head.freeze(), frame.payload.clone()];
                    match self.write(out, chunks, (&at.group, at.index), &mut cursor).await {
                        Written::Done => count_sent(frame.payload.len()),
                        Written::TooOld => {
                            metrics::counter!("headwater_relay_groups_given_up_total").increment(1);
                            self.give_up(current.take(), stream_code::TOO_OLD);
                            if cursor.skip_to_newest()
                                && let Some(newest) = newest_independent(&self.track)
                            {
                                let after = at.group.seq().next();
                                let window = self.track.window();
                                left_out += feed::count_between(&window, after, newest);
                            }
                        }
                        Written::Over => {
                            self.give_up(current.take(), stream_code::UNSUBSCRIBED);
                        }
                    }
                }
                Item::GroupEnd(group) => {
                    let Some(mut out) = current.take() else { continue };
                    if group.is_torn() {
                        self.give_up(Some(out), stream_code::TORN);
                        passing = self.track.kind() == MediaKind::Video;
                    } else {
                        let len = group.final_len().unwrap_or(group.len());
                        self.end(&mut out, (&group, len), &mut cursor).await;
                    }
                }
                Item::End => return orders,
            }
        }
        self.give_up(current, stream_code::UNSUBSCRIBED);
        orders
    }

    fn lateness(&self) -> Lateness {
        let behind = self.behind_since.map(|since| since.elapsed()).unwrap_or_default();
        Lateness { max_age: self.terms.borrow().max_age, behind }
    }

    fn priority(&self) -> i32 {
        let audio = self.track.kind() == MediaKind::Audio;
        feed::stream_priority(self.terms.borrow().priority, audio)
    }

    /// Opens the group's stream and writes its head. The number `order` is used in any case.
    async fn open(
        &mut self,
        group: &Group,
        first_frame: u32,
        order: u64,
        skipped: u64,
    ) -> Option<Outgoing> {
        let kind = StreamKind::Subscription { id: self.subscription, track: self.id, order };
        let header = group.header().clone();
        let head = match encode_group_head(&GroupHead { kind, header, first_frame, skipped }) {
            Ok(head) => head,
            Err(error) => {
                tracing::warn!(track = %self.track.name(), %error, "a group cannot be sent");
                self.tell_dropped(order);
                return None;
            }
        };
        let opened = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return None,
            opened = self.connection.open_uni() => opened,
        };
        let mut stream = opened.ok()?;
        let _ = stream.set_priority(self.priority());
        let coder = FrameCoder::new(group.header());
        // Heads are short: what blocks here blocks the first frame too, where lags are watched.
        if stream.write_chunk(head).await.is_err() {
            self.tell_dropped(order);
            return None;
        }
        metrics::counter!("headwater_relay_sent_groups_total").increment(1);
        Some(Outgoing { stream, coder, seq: group.seq(), order })
    }

    /// Writes chunks of the group, at its frame `index`.
    async fn write<const N: usize>(
        &self,
        out: &mut Outgoing,
        mut chunks: [Bytes; N],
        (group, index): (&Group, u32),
        cursor: &mut Cursor,
    ) -> Written {
        let mut done = 0;
        while chunks.iter().any(|chunk| !chunk.is_empty()) {
            let rest = chunks.get_mut(done..).unwrap_or_default();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Written::Over,
                written = out.stream.write_chunks(rest) => match written {
                    Ok(written) => done += written.chunks,
                    Err(WriteError::Stopped(_)) => {
                        // The child has it, or goes on without it.
                        self.tell_dropped(out.order);
                        return Written::Over;
                    }
                    Err(_) => return Written::Over,
                },
                () = cursor.changed() => {
                    let window = self.track.window();
                    if feed::gives_up(&window, group, index, self.lateness()) {
                        return Written::TooOld;
                    }
                }
            }
        }
        Written::Done
    }

    async fn end(&self, out: &mut Outgoing, (group, len): (&Group, u32), cursor: &mut Cursor) {
        let mut end = BytesMut::with_capacity(8);
        encode_group_end(len, &mut end);
        let stopped = match self.write(out, [end.freeze()], (group, len), cursor).await {
            Written::Done => {
                // Its tail goes before the next group's head.
                let _ = out.stream.set_priority(self.priority().saturating_add(1));
                let _ = out.stream.finish();
                return;
            }
            Written::TooOld => stream_code::TOO_OLD,
            Written::Over => stream_code::UNSUBSCRIBED,
        };
        self.reset(out, stopped);
    }

    fn give_up(&self, out: Option<Outgoing>, code: u32) {
        if let Some(mut out) = out {
            self.reset(&mut out, code);
        }
    }

    fn reset(&self, out: &mut Outgoing, code: u32) {
        tracing::debug!(track = %self.track.name(), group = %out.seq, code, "a group is given up");
        let _ = out.stream.reset(VarInt::from_u32(code));
        if code != stream_code::UNSUBSCRIBED {
            self.tell_dropped(out.order);
        }
    }

    fn tell_dropped(&self, order: u64) {
        let (id, track) = (self.subscription, self.id);
        // A control stream that is stuck ends the hop elsewhere.
        let _ = self.control.send(Message::Dropped { id, track, order });
    }
}

fn newest_independent(track: &Track) -> Option<GroupSeq> {
    let window = track.window();
    let newest = window.iter().rev().find(|group| group.header().independent);
    newest.map(|group| group.seq())
}

fn count_sent(bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    metrics::counter!("headwater_relay_sent_bytes_total").increment(bytes);
    metrics::counter!("headwater_relay_sent_frames_total").increment(1);
}

fn count_left_out(groups: u64) {
    if groups > 0 {
        metrics::counter!("headwater_relay_groups_left_out_total").increment(groups);
    }
}
