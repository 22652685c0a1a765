//! `headwater cluster …`: a cluster's life cycle.
//!
//! `init` and `recover` work on the data folder of a stopped node; the others ask a running one.
//!
//! Not here: how the node is found (`client`), what the cluster does (`headwater-cluster`).
#![allow(clippy::disallowed_methods, reason = "driver: a new cluster's certificates begin now")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use headwater_cluster::cluster::recover_force;
use headwater_cluster::id::NodeName;
use headwater_cluster::identity::{Folder, Identity};
use headwater_media::StreamName;
use http::Method;
use serde_json::Value as Json;

use super::client::{ask, send};
use super::table::Table;
use super::{FindArgs, complain, say, tree};
use crate::config::{Config, FlagValue, Input, Value as _};

#[derive(Subcommand, Debug)]
pub(super) enum ClusterCommand {
    /// Prepare a data folder as the first node of a new cluster
    Init {
        #[command(flatten)]
        folder: FolderArgs,
    },
    /// Print a token with which one node can join the cluster of a running node
    JoinToken {
        /// How long the token is valid, such as 30m or 1h
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        expires: Duration,
        #[command(flatten)]
        find: FindArgs,
    },
    /// Show the cluster: its nodes, who leads, who owns streams
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        find: FindArgs,
    },
    /// Draw the tree in which a stream goes to all nodes, with the reason for each edge
    Explain {
        /// The stream
        stream: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        find: FindArgs,
    },
    /// Let a node leave gently: it takes no new publishers and gives leadership away
    Drain {
        /// The node's number or name
        node: String,
        #[command(flatten)]
        find: FindArgs,
    },
    /// Remove a node for good
    Remove {
        /// The node's number or name
        node: String,
        #[command(flatten)]
        find: FindArgs,
    },
    /// Make a stopped node a cluster of its own, when most origins are lost for good
    Recover {
        /// Do it, whatever the others had decided without this node
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        folder: FolderArgs,
    },
}

/// Whose data folder is meant.
#[derive(Args, Debug, Default)]
pub(super) struct FolderArgs {
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's data folder
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

impl FolderArgs {
    fn data(&self) -> anyhow::Result<PathBuf> {
        let flag = |value: &String| FlagValue {
            flag: "--data",
            section: "",
            key: "data",
            value: value.clone(),
        };
        let flags: Vec<_> = self.data.iter().map(flag).collect();
        let config = Config::load(self.config.as_deref(), &flags)?;
        Ok(config.values().general.data.clone())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = Duration::read(Input::Text(text)).filter(|duration| !duration.is_zero());
    read.ok_or_else(|| format!("expected {}", Duration::allowed()))
}

pub(super) fn run(command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init { folder } => init(&folder),
        ClusterCommand::JoinToken { expires, find } => join_token(&find, expires),
        ClusterCommand::Status { json, find } => status(&find, json),
        ClusterCommand::Explain { stream, json, find } => explain(&find, &stream, json),
        ClusterCommand::Drain { node, find } => {
            ask(&find, Method::PUT, &format!("/api/v1/cluster/nodes/{}/drain", name(&node)?))?;
            say(&format!("{node} drains: it takes no new publishers\n"))
        }
        ClusterCommand::Remove { node, find } => {
            ask(&find, Method::DELETE, &format!("/api/v1/cluster/nodes/{}", name(&node)?))?;
            say(&format!("{node} is removed\n"))
        }
        ClusterCommand::Recover { force, folder } => recover(&folder, force),
    }
}

/// A number is written like a name.
fn name(node: &str) -> anyhow::Result<NodeName> {
    NodeName::parse(node).with_context(|| format!("{node:?} is no node's number or name"))
}

fn init(folder: &FolderArgs) -> anyhow::Result<()> {
    let data = folder.data()?;
    let identity = Identity::init(&data, SystemTime::now())?;
    let subject = identity.subject();
    say(&format!(
        "{} is node {} of the new cluster {}\n",
        data.display(),
        subject.node,
        subject.cluster
    ))
}

fn join_token(find: &FindArgs, expires: Duration) -> anyhow::Result<()> {
    // Whole milliseconds: the API reads what configurations say.
    let body = serde_json::json!({ "expires": format!("{}ms", expires.as_millis().max(1)) });
    let answer = send(find, Method::POST, "/api/v1/cluster/join-tokens", Some(&body))?;
    let text = |key| answer.get(key).and_then(Json::as_str);
    let token = text("token").context("the node's answer has no token")?;
    if let Some(end) = text("expires") {
        complain(&format!("for one node, until {end}"));
    }
    say(&format!("{token}\n"))
}

fn status(find: &FindArgs, json: bool) -> anyhow::Result<()> {
    let answer = ask(find, Method::GET, "/api/v1/cluster")?;
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
    }
    say(&description(&answer))
}

fn explain(find: &FindArgs, stream: &str, json: bool) -> anyhow::Result<()> {
    let stream = StreamName::parse(stream)?;
    let answer = ask(find, Method::GET, &format!("/api/v1/cluster/tree/{stream}"))?;
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
    }
    say(&tree::drawing(&answer))
}

/// What `recover` does, before it is done.
const RECOVER: &str = "\
This makes the node of the data folder a cluster of its own, with what it knows. It is meant for one \
case: most of the cluster's origins are lost for good.
- What the lost nodes had decided and this one had not yet heard is gone: the claims and ends of \
streams of the last moments. Give the origin that was up to date last; `applied` in `cluster status \
--json` tells.
- All other origins are removed. They must never run again on their old data: if they are alive, \
there are two clusters that give the same numbers. Stop them first; they join anew with empty data \
folders.";

fn recover(folder: &FolderArgs, force: bool) -> anyhow::Result<()> {
    let data = folder.data()?;
    anyhow::ensure!(force, "{RECOVER}\nTo do it: headwater cluster recover --force");
    if !Folder::exists(&data) {
        anyhow::bail!("{} is no node's data folder", data.display());
    }
    complain(&format!("WARNING: {RECOVER}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let done = runtime.block_on(async { Box::pin(recover_force(&data)).await })?;
    let removed: Vec<_> = done.removed.iter().map(ToString::to_string).collect();
    let removed = if removed.is_empty() { "none".to_owned() } else { removed.join(", ") };
    say(&format!(
        "node {} is a cluster of its own from entry {} on; removed: {removed}\n",
        done.node, done.last_index
    ))
}

fn description(answer: &Json) -> String {
    let text = |value: &Json, key: &str| match value.get(key) {
        Some(Json::String(text)) if !text.is_empty() => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    let is = |value: &Json, key: &str| value.get(key).and_then(Json::as_bool) == Some(true);
    let nodes = answer.get("nodes").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let leader = nodes.iter().find(|node| is(node, "leader"));
    let leader = match leader {
        Some(node) => format!("led by {} ({})", text(node, "name"), text(node, "id")),
        None => "WITHOUT A LEADER".to_owned(),
    };
    let mut out = format!(
        "cluster {}, term {}, {leader}; seen from node {}\n",
        text(answer, "cluster"),
        text(answer, "term"),
        text(answer, "this")
    );
    let mut table = Table::new(&[
        "ID", "NAME", "ROLE", "REGION", "STATE", "LEADER", "VOTES", "LAG", "STREAMS", "ADDRESS",
    ]);
    let yes = |value: &Json, key: &str| if is(value, key) { "yes" } else { "-" }.to_owned();
    for node in nodes {
        table.row([
            text(node, "id"),
            text(node, "name"),
            text(node, "role"),
            text(node, "region"),
            text(node, "state"),
            yes(node, "leader"),
            yes(node, "voter"),
            text(node, "lag"),
            text(node, "streams"),
            text(node, "address"),
        ]);
    }
    out += &table.render();
    if !is(answer, "quorum") {
        out += "NO QUORUM: most voters do not answer; live streams go on, new publishers are refused\n";
    }
    if let Some(fault) = answer.get("fault").and_then(Json::as_str) {
        out += &format!("FAULT: {fault}\n");
    }
    for node in nodes.iter().filter(|node| !is(node, "connected")) {
        let why = text(node, "error");
        if node.get("id") == answer.get("this") {
            out +=
                &format!("no origin feeds this relay, which goes on with what it knows: {why}\n");
            continue;
        }
        out += &format!("no connection to {} ({}): {why}\n", text(node, "name"), text(node, "id"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_leader_and_lists_every_node_and_what_is_wrong() {
        let node = |id: u64, name: &str, leader: bool| {
            serde_json::json!({
                "id": id, "name": name, "role": "origin", "region": "eu", "state": "up",
                "leader": leader, "voter": true, "address": format!("127.0.0.{id}:4443"),
                "incarnation": 1, "streams": 3, "lag": if leader { None } else { Some(2) },
                "connected": id != 2, "error": if id == 2 { Some("silent") } else { None },
            })
        };
        let nodes = [node(1, "a", true), node(2, "a-long-name", false)];
        let mut answer = serde_json::json!({
            "cluster": "ab", "this": 1, "leader": 1, "quorum": true, "term": 7, "applied": 9, "fault": null,
            "nodes": nodes,
        });
        let expected = "\
cluster ab, term 7, led by a (1); seen from node 1
ID  NAME         ROLE    REGION  STATE  LEADER  VOTES  LAG  STREAMS  ADDRESS
1   a            origin  eu      up     yes     yes    -    3        127.0.0.1:4443
2   a-long-name  origin  eu      up     -       yes    2    3        127.0.0.2:4443
no connection to a-long-name (2): silent
";
        assert_eq!(description(&answer), expected);
        answer["fault"] = "it was removed".into();
        answer["quorum"] = false.into();
        answer["nodes"] = serde_json::json!([]);
        let told = description(&answer);
        for line in ["WITHOUT A LEADER", "NO QUORUM", "FAULT: it was removed"] {
            assert!(told.contains(line), "{told}");
        }
        assert_eq!(description(&Json::Null).lines().count(), 3);
    }

    #[test]
    fn a_nodes_number_or_name_is_safe_in_a_path() {
        for bad in ["", "a/b", "a b", "..%2f", "?"] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name("12").is_ok() && name("origin-1.example").is_ok());
    }
}
