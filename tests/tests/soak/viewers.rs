//! Crowds of viewers by WHEP and LL-HLS that say what went wrong for them.
//!
//! Not here: rules about playlists (`conformance`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_tests::conformance::client::Client;
use headwater_tests::conformance::playlist::Playlist;
use headwater_tests::webrtc::{Codec, Viewer};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A publisher that was killed is back within this time, its two seconds of silence included.
const GAP_MAX: Duration = Duration::from_secs(9);
/// Pictures a second of the clips.
const FRAME_RATE: f64 = 30.0;

/// Viewers of one stream by WHEP.
pub(crate) struct WhepViewers {
    viewers: Vec<Viewer>,
    joined: Instant,
}

impl WhepViewers {
    pub(crate) async fn join(client: &Client, stream: &str, count: usize) -> anyhow::Result<Self> {
        let codecs = [(Codec::H264, None), (Codec::Opus, None)];
        let mut viewers = Vec::new();
        for _ in 0..count {
            viewers.push(Box::pin(Viewer::play(client, stream, &codecs)).await?);
        }
        Ok(Self { viewers, joined: Instant::now() })
    }

    /// Ends them all; gives their complaints.
    pub(crate) async fn leave(self, stream: &str, time: Duration) -> Vec<String> {
        let mut complaints = Vec::new();
        let watched = self.joined.elapsed().max(time).as_secs_f64();
        let (mut frames, mut lost, mut gap) = (Vec::new(), 0, 0);
        for (n, viewer) in self.viewers.into_iter().enumerate() {
            for (kind, counts) in [("video", &viewer.video), ("audio", &viewer.audio)] {
                if !viewer.peer.is_connected() || counts.silent_for() > Duration::from_secs(1) {
                    let silent = counts.silent_for();
                    complaints.push(format!("{stream}: WHEP {n}: no {kind} for {silent:?}"));
                }
                let silence = counts.silence_ms.load(Ordering::Relaxed);
                if u128::from(silence) > GAP_MAX.as_millis() {
                    complaints.push(format!("{stream}: WHEP {n}: no {kind} for {silence} ms once"));
                }
                lost += counts.lost.load(Ordering::Relaxed);
                gap = gap.max(silence);
            }
            frames.push(viewer.video.frames.load(Ordering::Relaxed));
            if let Err(error) = viewer.peer.close().await {
                complaints.push(format!("{stream}: WHEP {n}: {error:#}"));
            }
        }
        let (least, most) = (frames.iter().min().copied(), frames.iter().max().copied());
        println!(
            "{stream}: WHEP frames {least:?} to {most:?} of {:.0}, {lost} packets lost, \
            longest gap {gap} ms",
            watched * FRAME_RATE
        );
        let wanted = (watched - GAP_MAX.as_secs_f64()) * FRAME_RATE * 0.97;
        if (least.unwrap_or(0) as f64) < wanted {
            complaints.push(format!("{stream}: a WHEP viewer got {least:?} frames of {wanted:.0}"));
        }
        if lost > 0 {
            complaints.push(format!("{stream}: {lost} packets never came"));
        }
        complaints
    }
}

/// Viewers of one stream by LL-HLS, video and sound each.
pub(crate) struct HlsViewers {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    parts: AtomicU64,
    /// The longest time between two parts of one rendition.
    gap_ms: AtomicU64,
    /// Answers of 503 while the publisher was away.
    waits_in_vain: AtomicU64,
    complaints: Mutex<HashSet<String>>,
}

impl HlsViewers {
    pub(crate) fn join(client: &Client, stream: &str, count: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::<Seen>::default();
        let mut tasks = Vec::new();
        for rendition in ["video", "audio"] {
            let folder = format!("/hls/{stream}/-/{rendition}");
            for _ in 0..count {
                let viewer = HlsViewer {
                    client: client.clone(),
                    folder: folder.clone(),
                    stopped: stopped.clone(),
                    seen: Arc::clone(&seen),
                };
                tasks.push(tokio::spawn(viewer.run()));
            }
        }
        Self { tasks, stop, seen }
    }

    /// Ends them all; gives their complaints.
    pub(crate) async fn leave(self, stream: &str, time: Duration) -> Vec<String> {
        self.stop.send_replace(true);
        let count = self.tasks.len();
        for task in self.tasks {
            task.await.expect("a viewer does not panic");
        }
        let parts = self.seen.parts.load(Ordering::Relaxed) / count as u64;
        let gap = self.seen.gap_ms.load(Ordering::Relaxed);
        let vain = self.seen.waits_in_vain.load(Ordering::Relaxed);
        println!(
            "{stream}: LL-HLS {parts} parts a viewer in {time:?}, longest gap {gap} ms, \
            {vain} requests waited in vain"
        );
        let mut complaints: Vec<String> = self.seen.complaints.lock().iter().cloned().collect();
        if u128::from(gap) > GAP_MAX.as_millis() {
            complaints.push(format!("no part for {gap} ms"));
        }
        complaints.iter_mut().for_each(|text| *text = format!("{stream}: LL-HLS: {text}"));
        complaints
    }
}

struct HlsViewer {
    client: Client,
    folder: String,
    stopped: watch::Receiver<bool>,
    seen: Arc<Seen>,
}

impl HlsViewer {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            result = self.watch() => {
                if let Err(complaint) = result {
                    self.seen.complaints.lock().insert(complaint);
                }
            }
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    async fn watch(&mut self) -> Result<(), String> {
        let mut list = self.playlist("").await?.ok_or("not ready")?;
        let mut have: HashSet<String> = HashSet::new();
        let mut last = Instant::now();
        loop {
            let (msn, part) = list.next_part();
            let query = format!("?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES");
            let hint = list.hint.clone();
            let (next, hinted) = tokio::join!(self.playlist(&query), self.hint(hint.as_deref()));
            if hinted? {
                have.extend(hint);
            }
            let Some(next) = next? else { continue };
            let next = next.merged(&list)?;
            if next.ended {
                return Err("the stream ended".to_owned());
            }
            // Parts that left the playlist are not asked for again.
            let listed: Vec<String> = next
                .all()
                .flat_map(|segment| segment.parts.iter().map(|part| part.uri.clone()))
                .collect();
            if have.is_empty() {
                have.extend(listed.iter().cloned());
            }
            for name in
                listed.iter().filter(|name| !have.contains(*name)).cloned().collect::<Vec<_>>()
            {
                self.part(&name).await?;
                have.insert(name);
            }
            have.retain(|name| listed.contains(name) || next.hint.as_ref() == Some(name));
            let gap = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.seen.gap_ms.fetch_max(gap, Ordering::Relaxed);
            last = Instant::now();
            list = next;
        }
    }

    /// A playlist; none when the publisher is away and the server says to come again.
    async fn playlist(&self, query: &str) -> Result<Option<Playlist>, String> {
        let answer = self.client.get(&format!("{}/index.m3u8{query}", self.folder)).await?;
        if answer.status == 503 {
            self.seen.waits_in_vain.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(None);
        }
        Playlist::parse(answer.text()?).map(Some)
    }

    /// Whether the hinted part came.
    async fn hint(&self, name: Option<&str>) -> Result<bool, String> {
        let Some(name) = name else { return Ok(false) };
        let answer = self.client.get(&format!("{}/{name}", self.folder)).await?;
        match answer.status {
            200 => {
                self.seen.parts.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            // The publisher went away in the middle of it.
            404 | 503 => Ok(false),
            other => Err(format!("hinted part: {other}")),
        }
    }

    async fn part(&self, name: &str) -> Result<(), String> {
        let answer = self.client.get(&format!("{}/{name}", self.folder)).await?;
        if answer.status != 200 || answer.body.is_empty() {
            return Err(format!(
                "a listed part: {} with {} bytes",
                answer.status,
                answer.body.len()
            ));
        }
        self.seen.parts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
