//! A cluster over several regions: each node a process on a host of its own, between them a network
//! that delays and loses.
//!
//! Not here: what the network does (`wan`), what befalls the nodes (`tests/regions`).
#![allow(clippy::disallowed_methods, reason = "driver: waits, reads the clock")]

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::member::{Home, Member, tail, until};
use crate::wan::{Host, Link, Network, Place};

/// The cluster's port on every host.
const CLUSTER: u16 = 4_443;
const HTTP: u16 = 8_080;
const RTMP: u16 = 1_935;
const SRT: u16 = 8_890;

/// A node of the fleet: its host's name, its region, and whether it is a relay.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Host and node.
    pub name: &'static str,
    /// Where it stands.
    pub region: &'static str,
    /// Neither votes nor ingests.
    pub relay: bool,
}

/// An origin.
#[must_use]
pub const fn origin(name: &'static str, region: &'static str) -> Seat {
    Seat { name, region, relay: false }
}

/// A relay.
#[must_use]
pub const fn relay(name: &'static str, region: &'static str) -> Seat {
    Seat { name, region, relay: true }
}

/// Nodes in several regions. The first one is the cluster's first.
pub struct Fleet {
    /// They, in the order of the seats.
    pub members: Vec<Member>,
    /// What lies between them.
    pub network: Network,
    /// Who they are.
    pub seats: Vec<Seat>,
    folder: PathBuf,
}

impl Fleet {
    /// Makes the network and starts the nodes, each when the one before is ready, and waits until
    /// the first one sees all of them up.
    ///
    /// # Errors
    /// There can be no network (see [`Network::make`]), or a node does not start or join.
    pub async fn start(
        seats: &[Seat],
        links: (Link, Link),
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let id = std::process::id();
        let places: Vec<Place> =
            seats.iter().map(|seat| Place::new(seat.name, seat.region)).collect();
        let network = Network::make(&format!("f{}-", id % 100_000), &places, links, 1)?;
        let folder = std::env::temp_dir().join(format!("headwater-fleet-{id}"));
        let mut members = Vec::new();
        for (place, (seat, host)) in seats.iter().zip(network.hosts()).enumerate() {
            members.push(Member::at(place, home(seat, host), folder.join(seat.name), settings)?);
        }
        let mut fleet = Self { members, network, seats: seats.to_vec(), folder };
        fleet.members[0].restart().await?;
        for place in 1..seats.len() {
            let (address, token) = (fleet.members[0].cluster, fleet.members[0].token().await?);
            fleet.members[place].launch(Some((address, &token)))?;
            fleet.members[place].ready().await?;
        }
        fleet.whole().await?;
        Ok(fleet)
    }

    /// Waits until the first node sees all nodes up, and all origins voting.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn whole(&self) -> anyhow::Result<()> {
        until("all nodes are up and all origins vote", || async {
            let status = self.members[0].status().await;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let fit = |node: &Value| {
                node["state"] == "up" && (node["role"] == "relay" || node["voter"] == true)
            };
            nodes.len() == self.seats.len() && nodes.iter().all(fit)
        })
        .await
    }

    /// The place of a node.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn place(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.seats.iter().position(|seat| seat.name == name);
        found.with_context(|| format!("there is no node '{name}'"))
    }

    /// Where all files of it lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn home(seat: &Seat, host: &Host) -> Home {
    let near = |port| (host.near, port).into();
    let mut settings = vec![
        ("HTTP__LISTEN", format!("0.0.0.0:{HTTP}")),
        ("WEBRTC__PUBLIC_ADDRESSES", format!("{},{}", host.address, host.near)),
        ("CLUSTER__LISTEN", format!("{}:{CLUSTER}", host.address)),
        ("CLUSTER__REGION", seat.region.to_owned()),
        // The test looks from another host.
        ("AUTH__OPEN", "true".to_owned()),
    ];
    if seat.relay {
        settings.push(("CLUSTER__ROLE", "relay".to_owned()));
    }
    Home {
        host: ["ip", "netns", "exec", host.namespace()].map(str::to_owned).into(),
        http: near(HTTP),
        rtmp: near(RTMP),
        srt: near(SRT),
        cluster: (host.address, CLUSTER).into(),
        name: seat.name.to_owned(),
        settings,
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (member, seat) in self.members.iter().zip(&self.seats) {
                eprintln!(
                    "node {} ({}) said:\n{}",
                    member.place + 1,
                    seat.name,
                    tail(&member.log())
                );
            }
            if std::env::var_os("CLUSTER_KEEP").is_some() {
                eprintln!("all of it is in {}", self.folder.display());
                return;
            }
        }
        self.members.clear();
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
