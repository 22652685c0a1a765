//! nginx as a server of one static file: its configuration, its processes. Driver: files,
//! processes, waiting.
//!
//! Not here: asking it.
#![allow(clippy::disallowed_methods, reason = "driver: reads /proc, waits")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::scratch::Scratch;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for connections beside those of the clients, of which it has twice as many: it closes idle
/// ones when less than a sixteenth is free.
const CONNECTIONS_BESIDE: usize = 64;

/// A running nginx with one worker; dropping it ends it.
#[derive(Debug)]
pub(super) struct Nginx {
    master: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
    _folder: Scratch,
}

impl Nginx {
    /// Serves `body` as `/index.m3u8`, to so many connections.
    pub(super) fn start(
        program: &Path,
        port: u16,
        body: &[u8],
        connections: usize,
    ) -> anyhow::Result<Self> {
        let folder = Scratch::new("nginx")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        fs::write(root.join("index.m3u8"), body)?;
        let config = folder.path().join("nginx.conf");
        fs::write(&config, configuration(folder.path(), address, connections))?;
        let master = Command::new(program)
            .args([Path::new("-p"), folder.path(), Path::new("-c"), &config])
            .args(["-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| {
                format!("cannot run {} (Debian: apt install nginx-light)", program.display())
            })?;
        let mut nginx = Self { master, address, _folder: folder };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() || nginx.worker().is_none() {
            if Instant::now() > until || nginx.master.try_wait()?.is_some() {
                bail!("nginx does not answer at {address}: is the port taken?");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }

    /// The process that serves.
    pub(super) fn worker(&self) -> Option<u32> {
        let master = self.master.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it by SIGTERM; by SIGKILL they would stay.
        if let Some(pid) = rustix::process::Pid::from_raw(self.master.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.master.wait();
    }
}

/// The program: what was named, or where Debian has it.
pub(super) fn program(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| PathBuf::from("/usr/sbin/nginx"))
}

/// As Debian configures it (`sendfile`, `tcp_nopush`), with one worker, connections kept, and no
/// log.
fn configuration(folder: &Path, address: SocketAddr, connections: usize) -> String {
    let folder = folder.display();
    let most = connections * 2 + CONNECTIONS_BESIDE;
    format!(
        "daemon off;\n\
         user root;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile {};\n\
         pid {folder}/nginx.pid;\n\
         error_log {folder}/error.log;\n\
         events {{ worker_connections {most}; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         \x20 sendfile on;\n\
         \x20 tcp_nopush on;\n\
         \x20 keepalive_timeout 1h;\n\
         \x20 keepalive_requests 1000000000;\n\
         \x20 types {{ application/vnd.apple.mpegurl m3u8; }}\n\
         \x20 client_body_temp_path {folder}/body;\n\
         \x20 proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n\
         \x20 uwsgi_temp_path {folder}/uwsgi;\n\
         \x20 scgi_temp_path {folder}/scgi;\n\
         \x20 server {{ listen {address} backlog=4096; root {folder}/root; }}\n\
         }}\n",
        most + CONNECTIONS_BESIDE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_worker_with_room_for_every_connection_and_no_log() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 81));
        let text = configuration(Path::new("/t"), address, 5_000);
        for line in
            ["worker_processes 1;", "worker_connections 10064;", "access_log off;", "keepalive_"]
        {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.contains("listen 127.0.0.1:81 "), "{text}");
    }
}
