//! ffmpeg and srt-live-transmit as child processes that end with the test.
//!
//! Not here: what is expected of them.

use std::process::{Output, Stdio};

use tokio::process::{Child, Command};

use crate::world::PATIENCE;

/// Video of the test picture at 30 frames a second, a keyframe each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Video {
    H264,
    H265,
}

pub(crate) struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    pub(crate) fn spawn(name: &'static str, arguments: &[&str]) -> Self {
        let child = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; tests/run installs it"));
        Self { name, child }
    }

    /// Publishes the test picture and a tone for that many frames.
    pub(crate) fn publish(video: Video, frames: u32, url: &str) -> Self {
        let frames = frames.to_string();
        let mut arguments = vec![
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "warning",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=30",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000",
            "-frames:v",
            &frames,
            "-shortest",
            "-pix_fmt",
            "yuv420p",
            "-g",
            "30",
            "-b:v",
            "600k",
        ];
        match video {
            Video::H264 => arguments.extend(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2"]),
            Video::H265 => arguments.extend([
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                "log-level=error",
            ]),
        }
        arguments.extend(["-c:a", "aac", "-ac", "2", "-f", "mpegts", url]);
        Self::spawn("ffmpeg", &arguments)
    }

    /// Waits for its end.
    pub(crate) async fn output(self) -> Output {
        let waited = tokio::time::timeout(PATIENCE * 3, self.child.wait_with_output()).await;
        waited.unwrap_or_else(|_| panic!("{} does not end", self.name)).unwrap()
    }

    /// Waits for its end, which must be a failure; gives what it said.
    pub(crate) async fn failure(self) -> String {
        let name = self.name;
        let output = self.output().await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name} did not fail: {said}");
        said
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// Decodes a file strictly; gives the numbers of video frames and audio packets.
pub(crate) async fn decode(path: &str) -> (u64, u64) {
    let strict = Program::spawn(
        "ffmpeg",
        &["-hide_banner", "-nostdin", "-v", "error", "-i", path, "-f", "null", "-"],
    );
    let output = strict.output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{path} does not decode: {said}");
    let mut counts = [0; 2];
    for (count, selector) in counts.iter_mut().zip(["v:0", "a:0"]) {
        let probe = Program::spawn(
            "ffprobe",
            &[
                "-v",
                "error",
                "-select_streams",
                selector,
                "-count_packets",
                "-show_entries",
                "stream=nb_read_packets",
                "-of",
                "csv=p=0",
                path,
            ],
        );
        let output = probe.output().await;
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().find_map(|line| line.trim_end_matches(',').parse().ok());
        *count = first.unwrap_or_else(|| panic!("ffprobe said {text:?}"));
    }
    (counts[0], counts[1])
}
