//! ffmpeg publishes clips that were encoded once, over and over, until it is killed.
//!
//! Not here: when it is killed.

use std::path::PathBuf;
use std::time::Duration;

use headwater_tests::node::Node;
use headwater_tests::program::{Program, new_ffmpeg};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a stream is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Srt,
    Rtmp,
    Whip,
}

/// Ten seconds of picture and tone.
pub(crate) struct Clips {
    folder: PathBuf,
}

impl Clips {
    pub(crate) async fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("headwater-soak-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for (name, audio) in [("aac.mp4", "aac"), ("opus.mp4", "libopus")] {
            let line = format!(
                "-hide_banner -nostdin -loglevel error -y \
                 -f lavfi -i testsrc2=size=640x360:rate=30 \
                 -f lavfi -i sine=frequency=440:sample_rate=48000 -t 10 -pix_fmt yuv420p \
                 -c:v libx264 -preset veryfast -profile:v baseline -bf 0 -g 60 -b:v 1M \
                 -c:a {audio} -ac 2 -b:a 96k"
            );
            let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            arguments.push(folder.join(name).to_string_lossy().into_owned());
            let said = Program::start(&new_ffmpeg()?, arguments)?;
            let said = said.finish(Duration::from_secs(60)).await?;
            anyhow::ensure!(said.status.success(), "{}", said.err);
        }
        Ok(Self { folder })
    }
}

impl Drop for Clips {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An encoder that is started again whenever it ends, as a service manager does.
pub(crate) struct Encoder {
    kills: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Encoder {
    pub(crate) fn start(node: &Node, clips: &Clips, stream: &str, protocol: Protocol) -> Self {
        let (clip, format, url) = match protocol {
            Protocol::Srt => ("aac.mp4", "mpegts", node.srt_url(stream)),
            Protocol::Rtmp => ("aac.mp4", "flv", format!("rtmp://{}/{stream}", node.rtmp)),
            Protocol::Whip => ("opus.mp4", "whip", format!("http://{}/whip/{stream}", node.http)),
        };
        let clip = clips.folder.join(clip).to_string_lossy().into_owned();
        let line = "-hide_banner -nostdin -loglevel error -re -stream_loop -1 -i";
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arguments.extend([clip, "-c".into(), "copy".into(), "-f".into(), format.into(), url]);
        if protocol == Protocol::Whip {
            // The muxer wants parameter sets in the stream.
            let at = arguments.len() - 2;
            arguments.splice(at - 1..at - 1, ["-bsf:v".into(), "h264_mp4toannexb".into()]);
        }
        let (kills, killed) = watch::channel(0);
        Self { kills, task: tokio::spawn(again_and_again(arguments, killed)) }
    }

    /// Kills the running one with SIGKILL; another one is started at once.
    pub(crate) fn kill(&self) {
        self.kills.send_modify(|count| *count += 1);
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        // It was told to end: how it did says nothing.
        let _ = self.task.await;
    }
}

async fn again_and_again(arguments: Vec<String>, mut killed: watch::Receiver<u32>) {
    let ffmpeg = new_ffmpeg().expect("a new ffmpeg");
    loop {
        let mut program = Program::start(&ffmpeg, &arguments).expect("ffmpeg starts");
        let ended = async {
            while program.runs() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = ended => {}
            told = killed.changed() => {
                if told.is_err() {
                    return;
                }
            }
        }
        // Killed when dropped; a service manager waits a little, too.
        drop(program);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
