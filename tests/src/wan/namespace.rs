//! Network namespaces by `ip`: made, given a device and addresses, and taken away again.
//!
//! Not here: what moves between them (`network`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// `ip` where PATH does not have /usr/sbin.
fn ip() -> Command {
    let mut command = Command::new("ip");
    if let Some(path) = std::env::var_os("PATH") {
        let mut path = path;
        path.push(":/usr/sbin:/sbin");
        command.env("PATH", path);
    }
    command
}

/// Runs lines of `ip -batch`, in a namespace or in this process's.
///
/// # Errors
/// One of them fails: all that it said.
pub(super) fn batch(namespace: Option<&str>, lines: &[String]) -> anyhow::Result<()> {
    let mut command = ip();
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("`ip` (Debian's iproute2) cannot be run")?;
    let text = lines.join("\n") + "\n";
    child.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip: {} (in {namespace:?}: {text})", said.trim());
    Ok(())
}

/// A named namespace; dropping it takes it away.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// There is one of that name, or this process may not.
    pub(super) fn make(name: String) -> anyhow::Result<Self> {
        batch(None, &[format!("netns add {name}")])?;
        let made = Self { name };
        batch(Some(&made.name), &["link set lo up".to_owned()])?;
        Ok(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What still runs inside keeps its network; the name is free again.
        if let Err(error) = batch(None, &[format!("netns delete {}", self.name)]) {
            eprintln!("{error:#}");
        }
    }
}
