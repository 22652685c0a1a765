//! A relay's memory over restarts: the newest state, in a file of the data folder. With it a relay
//! knows its origins when it starts, goes on where it was, and can serve before it reaches one.
//!
//! Nothing depends on it: a file that is damaged or lost is a snapshot more.
//!
//! A driver file: reads and writes files.
//!
//! Not here: origins' logs and snapshots (`store`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::wire::Position;
use crate::command::Role;
use crate::id::NodeId;
use crate::state::State;
use crate::store::{seal, unseal};
use crate::transport::wire::SNAPSHOT_MAX;
use crate::view::View;

/// Name of the file.
pub(crate) const FILE: &str = "directory";
/// Place of the file's record, for its checksum.
const PLACE: u64 = u64::MAX - 1;
/// Between two writes. What is lost by a crash is had from any origin in a moment.
const EVERY: Duration = Duration::from_secs(60);
/// Between two writes when origins came, went, or moved: whom to call must be known.
const ORIGINS_EVERY: Duration = Duration::from_secs(1);

/// Decides when to write, and writes in the background.
pub(crate) struct Keeper {
    path: PathBuf,
    written: Option<Position>,
    at: Instant,
    origins: BTreeMap<NodeId, String>,
    writing: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn new(folder: &Path, now: Instant) -> Keeper {
        let path = folder.join(FILE);
        Keeper { path, written: None, at: now, origins: BTreeMap::new(), writing: None }
    }

    /// Writes what is newest, if it is time.
    pub(crate) fn look(&mut self, newest: Option<(Position, Arc<View>)>, now: Instant) {
        let Some((at, view)) = newest else { return };
        let since = now.saturating_duration_since(self.at);
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if self.written == Some(at) || since < ORIGINS_EVERY || busy {
            return;
        }
        if since < EVERY && origins(&view) == self.origins {
            return;
        }
        self.origins = origins(&view);
        self.written = Some(at);
        self.at = now;
        let path = self.path.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || save(&path, at, &view)));
    }
}

fn origins(view: &View) -> BTreeMap<NodeId, String> {
    let origins = view.nodes().filter(|node| node.info.role == Role::Origin);
    origins.map(|node| (node.info.id, node.info.address.clone())).collect()
}

/// Writes the state in place of the one before. A failure is told and costs nothing else.
pub(crate) fn save(path: &Path, at: Position, view: &View) {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let written = postcard::to_stdvec(&at).map_err(|error| text(&error)).and_then(|mut bytes| {
        bytes.extend(view.directory().encode().map_err(|error| text(&error))?);
        replace(path, &seal(PLACE, &bytes)).map_err(|error| text(&error))
    });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), error, "the directory is not kept for a restart");
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // It has the keys that check viewers' tokens.
        options.mode(0o600);
    }
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// What was kept in a folder, if it can be read.
pub(crate) fn load(folder: &Path) -> Option<(Position, State)> {
    let path = folder.join(FILE);
    let length = usize::try_from(std::fs::metadata(&path).ok()?.len()).ok()?;
    let read = (length <= SNAPSHOT_MAX).then(|| std::fs::read(&path).ok()).flatten();
    let state = read.as_deref().and_then(parse);
    if state.is_none() {
        tracing::warn!(path = %path.display(), "damaged; the origins have it all");
    }
    state
}

fn parse(record: &[u8]) -> Option<(Position, State)> {
    let bytes = unseal(PLACE, record)?;
    let (at, state) = postcard::take_from_bytes::<Position>(bytes).ok()?;
    Some((at, State::decode(state).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::test_folder::TestFolder;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = TestFolder::new();
        std::fs::create_dir_all(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert!(load(folder.path()).is_none());
        let mut state = State::default();
        state.apply(7, &Command::DeletePolicy { glob: "x".into(), expects: None });
        let at = Position { term: 3, leader: NodeId(1), index: 7 };
        save(&path, at, &state.directory().into());
        let (place, read) = load(folder.path()).unwrap();
        assert_eq!((place, read.applied()), (at, 7));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(load(folder.path()).is_none());
    }
}
