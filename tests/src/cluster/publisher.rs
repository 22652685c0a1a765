//! ffmpeg publishes a clip that was encoded once, by RTMP; when its node dies it goes to the next
//! one at once, as encoders with a list of servers do.
//!
//! Not here: how it is judged (`recorder`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::program::{Program, new_ffmpeg};

/// An encoder that ends sooner than this was refused: the next node is not asked at full speed.
const REFUSED_WITHIN: Duration = Duration::from_millis(150);
const REFUSED_PAUSE: Duration = Duration::from_millis(30);

/// Ten seconds of picture and tone, a keyframe a second.
pub struct Clip {
    file: PathBuf,
}

impl Clip {
    /// Encodes it.
    ///
    /// # Errors
    /// ffmpeg fails.
    pub async fn make() -> anyhow::Result<Self> {
        let name = format!("headwater-clip-{}.mp4", std::process::id());
        let file = std::env::temp_dir().join(name);
        let line = "-hide_banner -nostdin -loglevel error -y \
             -f lavfi -i testsrc2=size=320x180:rate=30 \
             -f lavfi -i sine=frequency=440:sample_rate=48000 -t 10 -pix_fmt yuv420p \
             -c:v libx264 -preset veryfast -profile:v baseline -bf 0 -g 30 -b:v 500k \
             -c:a aac -ac 2 -b:a 64k";
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.push(file.to_string_lossy().into_owned());
        let said = Program::start(&new_ffmpeg()?, arguments)?;
        let said = said.finish(Duration::from_secs(60)).await?;
        anyhow::ensure!(said.status.success(), "{}", said.err);
        Ok(Self { file })
    }

    /// An encoder that publishes it, over and over, by RTMP or SRT.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn publish(&self, url: &str) -> anyhow::Result<Program> {
        let line = "-hide_banner -nostdin -loglevel error -re -stream_loop -1 -i";
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.push(self.file.to_string_lossy().into_owned());
        let format = if url.starts_with("srt") { "mpegts" } else { "flv" };
        arguments.extend(["-c", "copy", "-f", format, url].map(str::to_owned));
        Program::start(&new_ffmpeg()?, arguments)
    }
}

impl Drop for Clip {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A publisher that always publishes.
pub struct Publisher {
    moves: mpsc::Sender<usize>,
    task: JoinHandle<()>,
    starts: Arc<Mutex<Vec<(Instant, usize)>>>,
}

impl Publisher {
    /// Publishes to `urls`, the one at `first` to begin with.
    #[must_use]
    pub fn start(clip: &Arc<Clip>, urls: Vec<String>, first: usize) -> Self {
        let (moves, moved) = mpsc::channel(4);
        let starts = Arc::<Mutex<Vec<(Instant, usize)>>>::default();
        let task = tokio::spawn(publish(Arc::clone(clip), urls, first, moved, Arc::clone(&starts)));
        Self { moves, task, starts }
    }

    /// Starts another encoder at `place`; the one before is left to itself.
    ///
    /// # Errors
    /// The publisher is gone.
    pub async fn move_to(&self, place: usize) -> anyhow::Result<()> {
        Ok(self.moves.send(place).await?)
    }

    /// When which node was gone to.
    #[must_use]
    pub fn starts(&self) -> Vec<(Instant, usize)> {
        self.starts.lock().clone()
    }

    /// Ends it.
    pub async fn stop(self) {
        self.task.abort();
        // It was told to end: how it did says nothing.
        let _ = self.task.await;
    }
}

async fn publish(
    clip: Arc<Clip>,
    urls: Vec<String>,
    mut at: usize,
    mut moved: mpsc::Receiver<usize>,
    starts: Arc<Mutex<Vec<(Instant, usize)>>>,
) {
    // Those that were left to themselves.
    let mut left = Vec::new();
    loop {
        let began = Instant::now();
        let Some(Ok(mut encoder)) = urls.get(at).map(|url| clip.publish(url)) else { return };
        starts.lock().push((began, at));
        tokio::select! {
            _ = encoder.ended() => {
                at = (at + 1) % urls.len();
                if began.elapsed() < REFUSED_WITHIN {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
            place = moved.recv() => {
                let Some(place) = place else { return };
                left.push(encoder);
                at = place;
            }
        }
    }
}
