//! Reads one group's stream from a parent and puts its frames on the bus, or hands a fetched
//! group to who asked.
//!
//! Driver. Not here: whether and when the group's turn is (`intake`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{ReadError, RecvStream, VarInt};

use super::take::{Tables, Taking};
use super::{FetchError, FetchedGroup, Heard, HopError, now, wall_now};
use crate::intake::{Admission, Break, RefuseReason, Ticket};
use crate::wire::{GroupDecoder, GroupEvent, GroupHead, StreamKind, WireError, stream_code};

/// A stream whose head has not come after this time is given up.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// What a reader needs.
pub(super) struct ReadContext {
    pub(super) tables: Arc<Mutex<Tables>>,
    pub(super) frame_bytes: usize,
    pub(super) group_bytes: usize,
    pub(super) heard: Arc<Heard>,
}

/// How a stream stopped giving events.
enum Stop {
    /// It was finished without the group's end.
    Finished,
    /// The parent reset it with this code.
    Reset(u32),
    /// The connection is gone.
    Lost,
    /// What it brought breaks the protocol.
    Wire(WireError),
}

struct Reader {
    stream: RecvStream,
    decoder: GroupDecoder,
    heard: Arc<Heard>,
}

impl Reader {
    /// The next event; cancel-safe.
    async fn next(&mut self) -> Result<GroupEvent, Stop> {
        loop {
            if let Some(event) = self.decoder.poll().map_err(Stop::Wire)? {
                return Ok(event);
            }
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => {
                    self.heard.mark();
                    self.decoder.feed(chunk.bytes);
                }
                Ok(None) => return Err(Stop::Finished),
                Err(ReadError::Reset(code)) => {
                    return Err(Stop::Reset(u32::try_from(code.into_inner()).unwrap_or(u32::MAX)));
                }
                Err(_) => return Err(Stop::Lost),
            }
        }
    }

    fn refuse(&mut self, code: u32) {
        let _ = self.stream.stop(VarInt::from_u32(code));
    }
}

/// Reads a stream to its end. An error ends the hop.
pub(super) async fn group(stream: RecvStream, context: ReadContext) -> Result<(), HopError> {
    let heard = Arc::clone(&context.heard);
    let decoder = GroupDecoder::new(context.frame_bytes);
    let mut reader = Reader { stream, decoder, heard };
    let head = match tokio::time::timeout(HEAD_WAIT, reader.next()).await {
        Ok(Ok(GroupEvent::Head(head))) => head,
        // Without its head nobody can tell which stream this was: its track could not go on.
        Ok(Err(Stop::Wire(error))) => return Err(error.into()),
        Ok(Ok(_)) => return Err(WireError::Text("group head").into()),
        // Given up by the parent, which says so on the control stream too.
        Ok(Err(Stop::Finished | Stop::Reset(_) | Stop::Lost)) | Err(_) => return Ok(()),
    };
    match head.kind {
        StreamKind::Subscription { id, track, order } => {
            let taking = context.tables.lock().taking.get(&id).cloned();
            let Some(taking) = taking else {
                reader.refuse(stream_code::UNSUBSCRIBED);
                return Ok(());
            };
            subscribed(reader, &taking, (track, order), &head).await;
        }
        StreamKind::Fetch { id } => {
            let reply = context.tables.lock().fetches.remove(&id);
            if let Some(reply) = reply {
                let _ = reply.send(fetched(reader, *head, context.group_bytes).await);
            } else {
                reader.refuse(stream_code::NOT_WANTED);
            }
        }
    }
    Ok(())
}

/// Waits for the group's turn, then takes its frames.
async fn subscribed(mut reader: Reader, taking: &Taking, place: (u64, u64), head: &GroupHead) {
    if head.skipped > 0 {
        metrics::counter!("headwater_relay_groups_skipped_total").increment(head.skipped);
    }
    let since = now();
    let mut turns = taking.taken.intake.lock().turns();
    let mut ticket = loop {
        turns.mark_unchanged();
        let first = (&head.header, head.first_frame);
        let admission = {
            let mut intake = taking.taken.intake.lock();
            intake.admit(taking.source, place, first, since, now())
        };
        match admission {
            Admission::Go(ticket) => break ticket,
            Admission::Wait(until) => {
                let until = tokio::time::Instant::from_std(until);
                tokio::select! {
                    _ = turns.changed() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
            }
            Admission::Refuse(reason) => {
                tracing::debug!(stream = %taking.taken.name, group = %head.header.seq,
                    reason = reason.as_str(), "a group is not taken");
                reader.refuse(stream_code::NOT_WANTED);
                if taking.taken.intake.lock().wants_resume(taking.source) {
                    taking.taken.changed.notify_one();
                }
                return;
            }
        }
    };
    if take_frames(&mut reader, taking, &mut ticket).await.is_err() {
        reader.refuse(stream_code::NOT_WANTED);
    } else {
        // The end of the stream follows at once; read, it costs no packet back.
        let _ = reader.stream.read_chunk(1, true).await;
    }
}

async fn take_frames(
    reader: &mut Reader,
    taking: &Taking,
    ticket: &mut Ticket,
) -> Result<(), RefuseReason> {
    let intake = &taking.taken.intake;
    // What is left of this task when the hop ends: the group stays open for another parent.
    let mut open = Interrupt { taking, ticket: Some(ticket) };
    loop {
        let event = reader.next().await;
        let Some(ticket) = open.ticket.as_deref_mut() else { return Ok(()) };
        match event {
            Ok(GroupEvent::Frame(frame)) => {
                let bytes = u64::try_from(frame.payload.len()).unwrap_or(u64::MAX);
                metrics::counter!("headwater_relay_received_bytes_total").increment(bytes);
                let capture = frame.capture;
                let mut intake = intake.lock();
                intake.frame(ticket, frame)?;
                let clock = intake.clock_micros();
                drop(intake);
                if let Some(clock) = clock {
                    record_delay(wall_now().plus_micros(clock).micros_since(capture));
                }
            }
            Ok(GroupEvent::End(frames)) => {
                intake.lock().group_end(ticket, frames);
                open.ticket = None;
                return Ok(());
            }
            Ok(GroupEvent::Head(_)) => return Err(RefuseReason::Old),
            Err(stop) => {
                let how = match stop {
                    Stop::Lost | Stop::Finished | Stop::Reset(stream_code::UNSUBSCRIBED) => {
                        Break::Interrupted
                    }
                    Stop::Reset(_) => Break::Reset,
                    Stop::Wire(error) => {
                        tracing::warn!(stream = %taking.taken.name, %error,
                            "a group cannot be read");
                        reader.refuse(stream_code::MALFORMED);
                        Break::Reset
                    }
                };
                intake.lock().broken(ticket, how);
                open.ticket = None;
                return Ok(());
            }
        }
    }
}

/// Notes how long ago, by its owner's clock, a frame was captured that is here now.
fn record_delay(micros: i64) {
    // Clocks are known to a millisecond or so: what is not yet captured was so just now.
    let micros = u64::try_from(micros).unwrap_or_default();
    let delay = Duration::from_micros(micros).as_secs_f64();
    metrics::histogram!("headwater_relay_delay_seconds").record(delay);
}

/// Frees the track's turn when a reader ends before its group does.
struct Interrupt<'a> {
    taking: &'a Taking,
    ticket: Option<&'a mut Ticket>,
}

impl Drop for Interrupt<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            self.taking.taken.intake.lock().broken(ticket, Break::Interrupted);
        }
    }
}

async fn fetched(
    mut reader: Reader,
    head: GroupHead,
    bytes_max: usize,
) -> Result<FetchedGroup, FetchError> {
    let GroupHead { header, first_frame, .. } = head;
    let mut group = FetchedGroup { header, first_frame, frames: Vec::new(), final_len: None };
    let mut bytes = 0usize;
    loop {
        match reader.next().await {
            Ok(GroupEvent::Frame(frame)) if bytes <= bytes_max => {
                // An empty frame counts too.
                bytes = bytes.saturating_add(frame.payload.len().max(FRAME_COST_BYTES));
                group.frames.push(frame);
            }
            Ok(GroupEvent::End(frames)) => {
                group.final_len = Some(frames);
                return Ok(group);
            }
            Err(Stop::Finished) => return Ok(group),
            Ok(_) | Err(_) => {
                reader.refuse(stream_code::MALFORMED);
                return Err(FetchError::Broken);
            }
        }
    }
}

/// What a frame takes in memory beside its payload.
const FRAME_COST_BYTES: usize = 256;
