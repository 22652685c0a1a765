//! One publisher by RTMP, over a small client of our own: what is to be measured is the server,
//! and a publisher needs five commands.
//!
//! Not here: the protocol (`session`), RTMPS, enhanced RTMP.
#![allow(clippy::disallowed_methods, reason = "driver: reads clocks, waits")]

mod amf0;
mod chunk;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use headwater_media::codec::aac::AacConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use self::session::Session;
use super::{Pace, Stream};
use crate::live::{Side, add, sub};
use crate::source::Item;

/// How long connecting, or a server that does not read, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes until told to stop.
///
/// # Errors
/// The server refuses, or the connection is lost.
pub(super) async fn run(
    stream: &Stream,
    offset: Duration,
    side: &Arc<Side>,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (app, key) = stream.name.split_once('/').context("a name without application")?;
    let key = match &stream.token {
        Some(token) => format!("{key}?token={token}"),
        None => key.to_owned(),
    };
    let connect = tokio::time::timeout(PATIENCE, TcpStream::connect(&stream.address)).await;
    let socket = connect
        .context("no answer")?
        .with_context(|| format!("no RTMP listener at {}", stream.address))?;
    socket.set_nodelay(true)?;
    let url = format!("rtmp://{}/{app}", stream.address);
    let mut publisher = Publisher { socket, session: Session::new(app, &key, &url), bytes: 0 };
    let until = Instant::now() + PATIENCE;
    while !publisher.session.is_live() {
        publisher.step(until, stop).await?;
        if *stop.borrow() {
            return Ok(());
        }
        if until <= Instant::now() {
            bail!("the server does not accept within {} s", PATIENCE.as_secs());
        }
    }
    add(&side.active, 1);
    let result = publisher.send_frames(stream, offset, side, stop).await;
    sub(&side.active, 1);
    result
}

struct Publisher {
    socket: TcpStream,
    session: Session,
    bytes: u64,
}

impl Publisher {
    async fn send_frames(
        &mut self,
        stream: &Stream,
        offset: Duration,
        side: &Side,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut pace = Pace::new(stream, offset);
        let audio = stream.settings.audio.then(|| AacConfig::lc(48_000, 2)).transpose()?;
        let (num, den) = stream.settings.fps;
        let fps = f64::from(num) / f64::from(den.max(1));
        self.session.describe(&pace.program.video().config()?, audio.as_ref(), fps);
        while !*stop.borrow() {
            while let Some(item) = pace.take(Instant::now()) {
                match item {
                    Item::Video(unit) => {
                        self.session.video(&unit);
                        add(&side.frames, 1);
                    }
                    Item::Audio { pts, packet } => self.session.audio(pts / 48, packet),
                }
                self.flush().await?;
                add(&side.bytes, std::mem::take(&mut self.bytes));
            }
            self.step(pace.due(), stop).await?;
        }
        self.session.end();
        self.flush().await
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let out = self.session.take_output();
        self.bytes += out.len() as u64;
        tokio::time::timeout(PATIENCE, self.socket.write_all(&out))
            .await
            .context("the server does not read")?
            .context("the connection is lost")
    }

    /// Sends, then reads until `until` at most.
    async fn step(
        &mut self,
        until: Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        self.flush().await?;
        let mut buffer = [0; 4_096];
        tokio::select! {
            biased;
            read = self.socket.read(&mut buffer) => match read {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.session.handle(buffer.get(..count).unwrap_or_default())?,
                Err(error) => return Err(error).context("the connection is lost"),
            },
            () = tokio::time::sleep_until(until.into()) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        Ok(())
    }
}
