//! What the world remembers, and the rules that it is held to.
//!
//! Not here: what the replicas are told (`publisher`).

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_media::id::{Epoch, GroupSeq, SessionId, StreamName};

use super::linear::{self, Call};
use crate::command::Grant;
use crate::state::Owner;
use crate::view::View;

/// All that was ever promised or done.
#[derive(Default)]
pub(super) struct Ledger {
    /// Who was seen to own a stream in an epoch.
    holders: BTreeMap<(StreamName, Epoch), (Owner, SessionId, Grant)>,
    /// Claims whose answer came back, with their index in the log.
    acknowledged: Vec<(u64, StreamName, SessionId, Grant)>,
    /// Groups that were published, by number, with the epoch.
    groups: BTreeMap<(StreamName, GroupSeq), Epoch>,
    /// Sums over the whole state, by index, and who showed it first.
    states: BTreeMap<u64, (u64, String, Arc<View>)>,
    /// All calls, by stream.
    pub(super) calls: BTreeMap<StreamName, Vec<Call>>,
    broken: Option<String>,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What two views that should be the same have of their own.
fn difference(a: &View, b: &View) -> String {
    let lines = |view: &View| {
        let streams = view.streams().map(|(name, record)| format!("{name}: {record:?}"));
        let nodes = view.nodes().map(|node| format!("{node:?}"));
        let rest = [format!("{:?} {:?}", view.floor(), view.config())];
        streams.chain(nodes).chain(rest).collect::<Vec<_>>()
    };
    let (a, b) = (lines(a), lines(b));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    format!("\n  {}\nagainst\n  {}", only(&a, &b), only(&b, &a))
}

impl Ledger {
    /// Notes the first rule that is broken.
    pub(super) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(super) fn result(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// An owner publishes a group.
    pub(super) fn publish(&mut self, stream: &StreamName, group: GroupSeq, epoch: Epoch) {
        let other = self.groups.insert((stream.clone(), group), epoch);
        if let Some(other) = other {
            self.fail(format!("group {group} of {stream} in epoch {other}, again in {epoch}"));
        }
    }

    /// A claim was answered.
    pub(super) fn acknowledge(
        &mut self,
        index: u64,
        stream: &StreamName,
        owner: Owner,
        session: SessionId,
        grant: Grant,
    ) {
        self.hold(stream, owner, session, grant);
        self.acknowledged.push((index, stream.clone(), session, grant));
    }

    fn hold(&mut self, stream: &StreamName, owner: Owner, session: SessionId, grant: Grant) {
        let new = (owner, session, grant);
        let old = *self.holders.entry((stream.clone(), grant.epoch)).or_insert(new);
        if old != new {
            let epoch = grant.epoch;
            self.fail(format!("two owners of {stream} in epoch {epoch}: {old:?} and {new:?}"));
        }
    }

    /// A replica shows a state.
    pub(super) fn check(&mut self, node: &str, view: &Arc<View>, encoded: &[u8]) {
        let index = view.index();
        let new = || (sum(encoded), node.to_owned(), view.clone());
        let (first, who, other) = self.states.entry(index).or_insert_with(new);
        if *first != sum(encoded) {
            let what = difference(other, view);
            let what = format!("at index {index} {who} and {node} have other states: {what}");
            self.fail(what);
        }
        for (stream, record) in view.streams() {
            self.hold(stream, record.claimant, record.session, record.grant);
        }
        let mut broken = Vec::new();
        for (acknowledged, stream, session, grant) in &self.acknowledged {
            if *acknowledged > index {
                continue;
            }
            let kept = view.stream(stream).is_some_and(|record| {
                record.epoch() > grant.epoch
                    || (record.epoch() == grant.epoch && record.session == *session)
            });
            if !kept {
                broken.push(format!(
                    "{node} at index {index} does not know epoch {} of {stream}, acknowledged at \
                     {acknowledged}",
                    grant.epoch
                ));
            }
        }
        broken.into_iter().for_each(|what| self.fail(what));
    }

    /// What can be said in the end.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.result()?;
        let mut last: Option<(&StreamName, GroupSeq, Epoch)> = None;
        for ((stream, group), epoch) in &self.groups {
            if let Some((before, number, older)) = last
                && before == stream
                && older > *epoch
            {
                return Err(format!(
                    "{stream}: group {number} is of epoch {older}, group {group} of {epoch}"
                ));
            }
            last = Some((stream, *group, *epoch));
        }
        for (stream, calls) in &self.calls {
            linear::check(calls).map_err(|what| format!("{stream}: not linearizable: {what}"))?;
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let count = |n: usize| u64::try_from(n).unwrap();
        (count(self.acknowledged.len()), count(self.groups.len()), count(self.states.len()))
    }
}
