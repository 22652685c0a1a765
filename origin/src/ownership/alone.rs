//! The directory of a node by itself, without a log: the cluster's own state machine in memory, for
//! tests of what stands on it.
//!
//! Not here: the cluster (`headwater-cluster`), which is asked in earnest.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_cluster::command::{Claim, Command, NodeInfo, Role};
use headwater_cluster::id::{Incarnation, NodeId, NodeName, Region, WallTime};
use headwater_cluster::state::State;
use headwater_cluster::view::View;
use headwater_media::{DiscontinuitySeq, Epoch, StreamName};
use headwater_relay::pulls::{PullOptions, Pulls};
use parking_lot::Mutex;

use super::{Ask, ClaimError, Granted, News, Ownership, granted};

const NODE: NodeId = NodeId(1);
const START: Incarnation = Incarnation(1);

/// A node that takes nothing from others.
#[must_use]
pub fn pulls() -> Pulls {
    Pulls::new(PullOptions::default())
}

/// A cluster of one, in memory.
pub struct Alone {
    state: Mutex<(u64, State)>,
}

impl Alone {
    /// A directory that knows this node and no stream.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let alone = Self { state: Mutex::new((0, State::default())) };
        if let (Ok(name), Ok(region)) = (NodeName::parse("alone"), Region::parse("here")) {
            alone.apply(&Command::PutNode(NodeInfo {
                id: NODE,
                name,
                role: Role::Origin,
                region,
                address: String::new(),
                http: Vec::new(),
                capacity_mbps: 1_000,
                incarnation: START,
            }));
        }
        Arc::new(alone)
    }

    fn apply(&self, command: &Command) -> headwater_cluster::command::Answer {
        let mut state = self.state.lock();
        state.0 += 1;
        let index = state.0;
        state.1.apply(index, command)
    }

    /// What the directory says.
    #[must_use]
    pub fn view(&self) -> View {
        View::from(self.state.lock().1.directory())
    }
}

#[async_trait]
impl Ownership for Alone {
    async fn claim(&self, ask: Ask) -> Result<Granted, ClaimError> {
        let view = self.view();
        let expects = view.epoch_of(&ask.stream);
        let known = view.stream(&ask.stream).is_some();
        let first_group = if known { Default::default() } else { ask.floor };
        let claim = Claim {
            stream: ask.stream.clone(),
            node: NODE,
            incarnation: START,
            session: ask.session,
            expects,
            takeover: ask.takeover,
            owner_answered: false,
            first_group,
            discontinuity: DiscontinuitySeq(0),
            cut: Vec::new(),
            now: WallTime(0),
        };
        let answer = self.apply(&Command::Claim(claim));
        granted(answer, &ask, |node| node.to_string()).map(Granted::from)
    }

    fn is_elsewhere(&self, _: &StreamName) -> bool {
        false
    }

    fn is_published_elsewhere(&self, _: &StreamName) -> bool {
        false
    }

    fn is_over(&self, stream: &StreamName, epoch: Epoch) -> bool {
        self.view().epoch_of(stream) > epoch
    }

    async fn told(&self) {}

    fn tell(&self, news: News) {
        match news {
            News::Paused(stop) => self.apply(&Command::Pause(stop)),
            News::Released(stop) => self.apply(&Command::Release(stop)),
            News::Extend(streams) => {
                self.apply(&Command::Extend { node: NODE, incarnation: START, streams })
            }
        };
    }
}
