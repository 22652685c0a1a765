//! Follows a stream's playlists on every node as low-latency players do, fetches everything that
//! is listed from every node that lists it, and notes it in a ledger. A node that is away is asked
//! again until it is back.
//!
//! Not here: what may not be (`ledger`), the low-latency profile's rules (`conformance`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::ledger::{Ledger, names};
use super::member::{Member, PATIENCE};
use crate::conformance::client::{Answer, Client};
use crate::conformance::playlist::Playlist;

/// A node that answers nothing for so long is asked anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two requests to a node that is away.
const AWAY_PAUSE: Duration = Duration::from_millis(20);
/// Renditions of a stream that comes in by RTMP: as published, and its sound for WebRTC.
const RENDITIONS: [&str; 3] = ["video", "audio", "audio-opus"];

/// Records a stream; dropping it ends that.
pub struct Recorder {
    /// What was seen.
    pub ledger: Arc<Mutex<Ledger>>,
    stream: String,
    clients: Vec<Client>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    /// Begins on all nodes.
    #[must_use]
    pub fn start(members: &[Member], stream: &str) -> Self {
        let ledger = Arc::<Mutex<Ledger>>::default();
        let clients: Vec<Client> = members.iter().map(Member::client).collect();
        let mut tasks = JoinSet::new();
        for (node, client) in clients.iter().enumerate() {
            for rendition in RENDITIONS {
                let reader = Reader {
                    node,
                    rendition,
                    folder: format!("/hls/{stream}/-/{rendition}"),
                    client: client.clone(),
                    ledger: Arc::clone(&ledger),
                };
                tasks.spawn(reader.run());
            }
        }
        Self { ledger, stream: stream.to_owned(), clients, _tasks: tasks }
    }

    /// Waits until a node has listed `count` new video parts from now on.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn advance(&self, node: usize, count: usize) -> anyhow::Result<()> {
        let from = Instant::now();
        let end = from + PATIENCE;
        while self.ledger.lock().advanced_since(node, "video", from) < count {
            anyhow::ensure!(Instant::now() < end, "node {} lists no new parts", node + 1);
            tokio::time::sleep(AWAY_PAUSE).await;
        }
        Ok(())
    }

    /// The longest time without a new part of any of the streams pictures on a node.
    #[must_use]
    pub fn silence(&self, node: usize, from: Instant, to: Instant) -> Duration {
        self.ledger.lock().silence(node, "video", from, to)
    }

    /// Fetches again, from each of these nodes, all that they list now.
    pub async fn verify(&self, nodes: impl IntoIterator<Item = usize>) {
        for node in nodes {
            for rendition in RENDITIONS {
                let reader = Reader {
                    node,
                    rendition,
                    folder: format!("/hls/{}/-/{rendition}", self.stream),
                    client: self.clients[node].clone(),
                    ledger: Arc::clone(&self.ledger),
                };
                if let Some(list) = reader.playlist("").await {
                    reader.fetch(names(&list)).await;
                }
            }
        }
    }
}

struct Reader {
    node: usize,
    rendition: &'static str,
    folder: String,
    client: Client,
    ledger: Arc<Mutex<Ledger>>,
}

impl Reader {
    async fn run(self) {
        let mut query = String::new();
        loop {
            let Some(list) = self.playlist(&query).await else {
                query.clear();
                tokio::time::sleep(AWAY_PAUSE).await;
                continue;
            };
            let now = Instant::now();
            let new = self.ledger.lock().playlist(self.node, self.rendition, &list, now);
            self.fetch(new.into_iter()).await;
            let (msn, part) = list.next_part();
            query = format!("?_HLS_msn={msn}&_HLS_part={part}");
            if list.ended {
                // A stream that ended may begin anew.
                query.clear();
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }

    async fn get(&self, name: &str) -> Option<Answer> {
        let path = format!("{}/{name}", self.folder);
        tokio::time::timeout(ANSWER_WITHIN, self.client.get(&path)).await.ok()?.ok()
    }

    async fn playlist(&self, query: &str) -> Option<Playlist> {
        let answer = self.get(&format!("index.m3u8{query}")).await?;
        if answer.status != 200 {
            return None;
        }
        match answer.text().and_then(Playlist::parse) {
            Ok(list) => Some(list),
            Err(why) => {
                let (node, rendition) = (self.node + 1, self.rendition);
                self.ledger.lock().complain(format!("{rendition} on node {node}: {why}"));
                None
            }
        }
    }

    async fn fetch(&self, names: impl Iterator<Item = String>) {
        for name in names {
            // A node that dies meanwhile says nothing.
            let Some(answer) = self.get(&name).await else { continue };
            let mut ledger = self.ledger.lock();
            if answer.status == 200 {
                ledger.bytes(self.node, self.rendition, &name, &answer.body);
            } else {
                let (node, rendition) = (self.node + 1, self.rendition);
                let status = answer.status;
                ledger.complain(format!("{rendition} {name} is listed on node {node}: {status}"));
            }
        }
    }
}
