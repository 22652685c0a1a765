//! A map of streams that is cheap to copy: 256 shared pieces, of which a change copies one.
//!
//! Readers get a copy with each batch of commands (`view`), and a snapshot is written from one,
//! while the state goes on.
//!
//! Not here: what a record means (`streams`).

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_media::id::StreamName;

const SHARDS: usize = 256;

type Shard<V> = Arc<BTreeMap<StreamName, Arc<V>>>;

/// A map from stream names. Copies share all that has not changed since.
#[derive(Clone, Debug)]
pub(crate) struct Shards<V> {
    shards: Box<[Shard<V>; SHARDS]>,
    len: usize,
}

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Self { shards: Box::new(std::array::from_fn(|_| Shard::default())), len: 0 }
    }
}

/// FNV-1a, folded to a byte: only spreads, decides nothing.
fn shard_of(name: &StreamName) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    for byte in name.as_str().bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let [a, b, c, d] = hash.to_be_bytes();
    usize::from(a ^ b ^ c ^ d)
}

impl<V: Clone> Shards<V> {
    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The record of a name.
    pub(crate) fn get(&self, name: &StreamName) -> Option<&Arc<V>> {
        self.shards[shard_of(name)].get(name)
    }

    /// Sets the record of a name.
    pub(crate) fn insert(&mut self, name: StreamName, value: V) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(&name)]);
        if shard.insert(name, Arc::new(value)).is_none() {
            self.len += 1;
        }
    }

    /// Changes the record of a name, if there is one.
    pub(crate) fn change<T>(
        &mut self,
        name: &StreamName,
        change: impl FnOnce(&mut V) -> T,
    ) -> Option<T> {
        // Looked up first: a name that is not there must not copy the piece.
        self.get(name)?;
        let shard = Arc::make_mut(&mut self.shards[shard_of(name)]);
        shard.get_mut(name).map(|value| change(Arc::make_mut(value)))
    }

    /// Takes the record of a name away.
    pub(crate) fn remove(&mut self, name: &StreamName) -> Option<Arc<V>> {
        self.get(name)?;
        let removed = Arc::make_mut(&mut self.shards[shard_of(name)]).remove(name);
        if removed.is_some() {
            self.len -= 1;
        }
        removed
    }

    /// All records, in no order that means anything (but the same on every node).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StreamName, &Arc<V>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_changes_later() {
        let name = |n: u32| StreamName::parse(&format!("s/{n}")).unwrap();
        let mut map = Shards::default();
        for n in 0..1000 {
            map.insert(name(n), n);
        }
        let copy = map.clone();
        map.change(&name(7), |value| *value = 70).unwrap();
        map.remove(&name(8)).unwrap();
        assert!(map.change(&name(1000), |_| ()).is_none());
        assert_eq!((map.len(), copy.len()), (999, 1000));
        assert_eq!(copy.get(&name(7)).map(|v| **v), Some(7));
        assert_eq!(copy.get(&name(8)).map(|v| **v), Some(8));
        assert_eq!(map.get(&name(7)).map(|v| **v), Some(70));
        assert_eq!(map.iter().count(), 999);
        assert!(map.shards.iter().all(|shard| shard.len() < 20), "names spread over the pieces");
    }
}
