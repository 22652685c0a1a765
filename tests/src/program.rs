//! Programs as child processes that end with the test: encoders, decoders.
//!
//! Not here: what they are told and what is expected of them.

use std::ffi::OsStr;
use std::fs::File;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// The static ffmpeg of `tests/run`, newer than Debian's: Enhanced RTMP, WHIP, RTP of VP9 and AV1.
///
/// # Errors
/// `tests/run` has not put it there.
pub fn new_ffmpeg() -> anyhow::Result<String> {
    if let Ok(named) = std::env::var("E2E_FFMPEG") {
        return Ok(named);
    }
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test lies in target/PROFILE/deps")?;
    let ffmpeg = target.join("tools/ffmpeg");
    if !ffmpeg.exists() {
        bail!("{} is missing: `tests/run unit` puts it there", ffmpeg.display());
    }
    Ok(ffmpeg.to_string_lossy().into_owned())
}

/// A running program; dropping it kills it with SIGKILL.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Program {
    /// Starts a program without input; what it says is kept for [`Self::finish`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        Self::start_with(name, arguments, Stdio::piped())
    }

    /// Starts a program whose standard error is the test's own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_loud<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        Self::start_with(name, arguments, Stdio::inherit())
    }

    /// Starts a program whose standard error goes to a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_logging<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
        log: File,
    ) -> anyhow::Result<Self> {
        Self::start_with(name, arguments, Stdio::from(log))
    }

    fn start_with<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
        err: Stdio,
    ) -> anyhow::Result<Self> {
        let child = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} cannot be started; tests/run installs it"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// It had ended already and cannot be waited for.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn finish(self, patience: Duration) -> anyhow::Result<Said> {
        let ended = tokio::time::timeout(patience, self.child.wait_with_output()).await;
        let Ok(output) = ended else { bail!("{} does not end", self.name) };
        let output = output?;
        Ok(Said {
            status: output.status,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
