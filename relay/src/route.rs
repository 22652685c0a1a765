//! The way by which a stream comes to a node, as each node tells its children.
//!
//! It keeps trees free of rings where nodes' views differ for a moment, and carries the owner's
//! clock to every node. Not here: which way is taken (`choice`, `plan`).

use headwater_media::Epoch;

/// Nodes on a way at most, the owner included: deeper than any tree that is planned, so a longer
/// one is a mistake.
pub const ROUTE_NODES_MAX: usize = 16;

/// How a stream comes to a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// The nodes on the way, the owner first; without the node itself.
    pub nodes: Vec<u64>,
    /// Whether the stream comes: the node owns it, or takes it from a parent that answers and has
    /// said the same.
    pub flowing: bool,
    /// The owner's wall clock less this node's, in microseconds, where it is known.
    pub clock_micros: Option<i64>,
}

impl Route {
    /// Of a node that owns the stream.
    #[must_use]
    pub fn owner() -> Self {
        Self { nodes: Vec::new(), flowing: true, clock_micros: Some(0) }
    }

    /// Of the children of the node `id`, as it tells them; their own clocks are not known here.
    #[must_use]
    pub fn through(&self, id: u64) -> Self {
        let mut told = self.clone();
        told.nodes.push(id);
        told
    }

    /// Of a child that this was told, whose parent's clock is ahead of its own by `offset_micros`.
    #[must_use]
    pub fn behind(mut self, offset_micros: Option<i64>) -> Self {
        let both = self.clock_micros.zip(offset_micros);
        self.clock_micros = both.map(|(owner, parent)| owner.saturating_add(parent));
        self
    }

    /// Whether the node `id` cannot take the stream by this way: it would come from itself, or from
    /// too far.
    #[must_use]
    pub fn is_ring_for(&self, id: u64) -> bool {
        self.nodes.contains(&id) || self.nodes.len() >= ROUTE_NODES_MAX
    }
}

/// What a node knows of a stream that it has, beside the media.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The highest epoch that it follows.
    pub epoch: Epoch,
    /// The way by which the stream comes.
    pub route: Route,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_add_up_along_the_way_and_a_ring_shows() {
        let told = Route::owner().through(1);
        assert_eq!(told.nodes, [1]);
        // Node 2's clock is 5 ms behind the owner's; node 3's is 7 ms ahead of node 2's.
        let second = told.behind(Some(5_000));
        let third = second.through(2).behind(Some(-7_000));
        assert_eq!(third.clock_micros, Some(-2_000));
        assert!(third.is_ring_for(1) && third.is_ring_for(2) && !third.is_ring_for(3));
        assert_eq!(third.through(3).behind(None).clock_micros, None);
        let long = (0..ROUTE_NODES_MAX as u64).fold(Route::owner(), |route, id| route.through(id));
        assert!(long.is_ring_for(99));
    }
}
