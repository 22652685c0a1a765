//! When each part of a track was born: when its last frame was on the bus. Found by a reader of
//! the bus beside the packager, with the rule of `docs` and not the packager's code.
//!
//! Not here: when its bytes could be had (`follow`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use headwater_media::{Item, Start, Track};

/// Births of parts by segment and index.
#[derive(Clone, Debug, Default)]
pub struct Births {
    known: Arc<Mutex<HashMap<(u64, u64), Instant>>>,
}

impl Births {
    /// Watches `track` until it ends; runs as a task.
    #[must_use]
    pub fn watch(track: &Track) -> Self {
        let births = Self::default();
        let (writing, mut cursor) = (births.clone(), track.read(Start::Oldest));
        tokio::spawn(async move {
            let (mut part, mut ticks) = (0u64, 0u64);
            loop {
                match cursor.next().await {
                    Item::Group { .. } => (part, ticks) = (0, 0),
                    Item::Frame(at) => {
                        let Some(frame) = at.frame() else { continue };
                        ticks += u64::try_from(frame.duration.ticks()).unwrap_or(0);
                        if at.group.header().config.parts.is_full(ticks) {
                            writing.note(at.group.seq().0, part);
                            (part, ticks) = (part + 1, 0);
                        }
                    }
                    Item::GroupEnd(group) if ticks > 0 => writing.note(group.seq().0, part),
                    Item::GroupEnd(_) => {}
                    Item::End => return,
                }
            }
        });
        births
    }

    fn note(&self, group: u64, part: u64) {
        let now = Instant::now();
        if let Ok(mut known) = self.known.lock() {
            known.insert((group, part), now);
        }
    }

    /// When the part was born, if it was.
    #[must_use]
    pub fn of(&self, msn: u64, part: u64) -> Option<Instant> {
        self.known.lock().ok()?.get(&(msn, part)).copied()
    }
}
