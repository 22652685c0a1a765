//! The data folder's files of the cluster, and how they are written.
//!
//! ```text
//! DATA/cluster/format        the layout's version, one number
//!              lock          held by the process that uses the folder
//!              node.json     cluster, node, role; and whom to call: written once, at init or join
//!              incarnation   how often a process has started on this folder; one number
//!              ca.pem        the CA's certificate
//!              ca-key.pem    the CA's key (origins only; mode 0600)
//!              node.pem      this node's key and certificate, in one file so that both change
//!                            together (mode 0600)
//!              raft.redb     log and vote (`store`)
//!              snapshot      the newest snapshot (`store`)
//! ```
//! A file is written under another name, synced, and renamed; the folder as a whole appears by a
//! rename too, so that a crash leaves either nothing or all of it.
//!
//! Not here: what is in the files (`node`, `authority`, `store`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::IdentityError;

/// The layout that this program writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// No file but the store is longer than this, in bytes: what is longer was not written by us.
const FILE_MAX: u64 = 64 * 1024;

/// A data folder's part for the cluster. The folder stays locked while this value, or a clone of
/// the lock, lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Public,
    Secret,
}

impl Folder {
    /// Where the cluster's files lie below `data`.
    pub fn path_in(data: &Path) -> PathBuf {
        data.join("cluster")
    }

    /// Whether `data` has an identity.
    pub fn exists(data: &Path) -> bool {
        Folder::path_in(data).join("format").exists()
    }

    /// Opens and locks it.
    pub fn open(data: &Path) -> Result<Folder, IdentityError> {
        let path = Folder::path_in(data);
        let format = read(&path.join("format"))?;
        if format.trim() != FORMAT.to_string() {
            let found = format.trim().chars().take(20).collect();
            return Err(IdentityError::Format { path, found });
        }
        let lock = lock(&path)?;
        Ok(Folder { path, _lock: lock })
    }

    /// Makes it, with these files, and locks it. `data` must have none yet.
    pub(super) fn create(
        data: &Path,
        files: &[(&str, Mode, String)],
    ) -> Result<Folder, IdentityError> {
        let path = Folder::path_in(data);
        if Folder::exists(data) {
            return Err(IdentityError::NotEmpty(path));
        }
        let new = data.join("cluster.new");
        remove(&new)?;
        fs::create_dir_all(&new).map_err(at(&new))?;
        restrict(&new)?;
        for (name, mode, text) in files {
            write(&new.join(name), *mode, text)?;
        }
        write(&new.join("format"), Mode::Public, &format!("{FORMAT}\n"))?;
        sync_folder(&new)?;
        // An empty one, or one that was never finished, may be in the way; one with a format is not.
        remove(&path)?;
        fs::rename(&new, &path).map_err(at(&path))?;
        sync_folder(data)?;
        Folder::open(data)
    }

    /// Where it lies; the store keeps its files here, too.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, name: &str) -> Result<String, IdentityError> {
        read(&self.path.join(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Writes a file in place of the one that is there.
    pub(super) fn replace(&self, name: &str, mode: Mode, text: &str) -> Result<(), IdentityError> {
        let new = self.path.join(format!("{name}.new"));
        remove(&new)?;
        write(&new, mode, text)?;
        let path = self.path.join(name);
        fs::rename(&new, &path).map_err(at(&path))?;
        sync_folder(&self.path)
    }

    pub(super) fn malformed(&self, name: &str, what: impl Into<String>) -> IdentityError {
        IdentityError::Malformed { path: self.path.join(name), what: what.into() }
    }
}

fn lock(path: &Path) -> Result<File, IdentityError> {
    let file = path.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(at(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(IdentityError::InUse(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(IdentityError::File { path: file, source }),
    }
}

fn read(path: &Path) -> Result<String, IdentityError> {
    let mut text = String::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(at(path))?;
    if text.len() as u64 > FILE_MAX {
        let what = format!("longer than {FILE_MAX} bytes");
        return Err(IdentityError::Malformed { path: path.to_owned(), what });
    }
    Ok(text)
}

fn write(path: &Path, mode: Mode, text: &str) -> Result<(), IdentityError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(match mode {
            Mode::Public => 0o644,
            Mode::Secret => 0o600,
        });
    }
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

#[cfg(unix)]
fn restrict(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at(path))
}

#[cfg(not(unix))]
fn restrict(_path: &Path) -> Result<(), IdentityError> {
    Ok(())
}

/// Removes what an unfinished write may have left.
fn remove(path: &Path) -> Result<(), IdentityError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { path, source }
}
