//! Nodes as a cluster: joining, status, draining, removal, recovery; by API and by commands.
//!
//! Not here: media between nodes, deaths (the project's end-to-end tests).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater::config::{Input, RawConfig, Value};
use headwater::ingest::{EndReason, Publisher, RawFrame};
use headwater::sessions::{Role, SessionHandle, SessionInfo};
use headwater_media::codec::opus::OpusConfig;
use headwater_media::{ClockRate, Codec, MediaKind, MediaTime, StreamName, TrackName};
use serde_json::Value as Json;

use crate::cli::{headwater, run, told};
use crate::support::{PATIENCE, Running, config, folder, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn read<T: Value>(text: &str) -> T {
    T::read(Input::Text(text)).unwrap()
}

async fn token(node: &Running) -> String {
    let made = node.send(request("POST", "/api/v1/cluster/join-tokens", &[JSON], "{}")).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    made.json()["token"].as_str().unwrap().to_owned()
}

/// A node that joins the cluster of `first`.
async fn join(first: &Running, folder: &str, name: &str) -> Running {
    join_with(first, folder, name, |_| {}).await
}

async fn join_with(
    first: &Running,
    folder: &str,
    name: &str,
    change: impl FnOnce(&mut RawConfig),
) -> Running {
    let (token, to) = (token(first).await, first.app.cluster.local_address().unwrap());
    Running::start(folder, |raw| {
        raw.cluster.name = read(name);
        raw.cluster.join = read(&to.to_string());
        raw.cluster.join_token = read(&token);
        change(raw);
    })
    .await
}

async fn until(what: &str, node: &Running, path: &str, holds: impl Fn(u16, &Json) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = node.get(path).await;
        let json = answer.json();
        if holds(answer.status, &json) {
            return;
        }
        assert!(Instant::now() < end, "waited too long until {what}: {json}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn node_of<'a>(status: &'a Json, name: &str) -> &'a Json {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap_or(&Json::Null)
}

async fn until_all_vote(node: &Running, names: &[&str]) {
    until("all vote", node, "/api/v1/cluster", |_, status| {
        names.iter().all(|name| node_of(status, name)["voter"] == true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_by_itself_leads_a_cluster_of_one_and_its_document_describes_it() {
    let name = |raw: &mut RawConfig| raw.cluster.name = read("solo");
    let node = Running::start("solo", name).await;
    assert_eq!(node.get("/readyz").await.status, 200);
    let status = node.get("/api/v1/cluster").await.json();
    assert_eq!((&status["leader"], &status["this"]), (&1.into(), &1.into()));
    assert_eq!(node_of(&status, "solo")["state"], "up");
    let members = |value: &Json| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let document = node.get("/api/v1/openapi.json").await.json();
    let described =
        |schema: &str| members(&document["components"]["schemas"][schema]["properties"]);
    assert_eq!(members(&status), described("Cluster"));
    assert_eq!(members(&status["nodes"][0]), described("ClusterNode"));
    let made = node.send(request("POST", "/api/v1/cluster/join-tokens", &[JSON], "{}")).await;
    assert_eq!(members(&made.json()), described("JoinToken"));
    let cluster = status["cluster"].clone();
    node.stop().await.unwrap();

    let node = Running::again("solo", name).await;
    let status = node.get("/api/v1/cluster").await.json();
    assert_eq!((&status["cluster"], &status["nodes"][0]["incarnation"]), (&cluster, &2.into()));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_by_tokens_drain_and_are_removed() {
    let first = Running::start("three-a", |raw| raw.cluster.name = read("a")).await;
    let second = join(&first, "three-b", "b").await;
    let third = join(&first, "three-c", "c").await;
    until_all_vote(&first, &["a", "b", "c"]).await;
    for node in [&first, &second, &third] {
        until("it is ready", node, "/readyz", |status, _| status == 200).await;
    }

    // Drained: no new work, whoever is asked for it, by name or by number.
    let drain = |path: &'static str| second.send(request("PUT", path, &[], ""));
    assert_eq!(drain("/api/v1/cluster/nodes/a/drain").await.status, 204);
    until("it drains", &first, "/readyz", |status, json| {
        status == 503 && json["reasons"][0] == "the cluster drains the node"
    })
    .await;
    until("another leads", &second, "/api/v1/cluster", |_, status| {
        let leader = &status["leader"];
        node_of(status, "a")["state"] == "draining" && !leader.is_null() && *leader != 1
    })
    .await;

    // Removed: it knows, and says what to do.
    let removed = second.send(request("DELETE", "/api/v1/cluster/nodes/c", &[], "")).await;
    assert_eq!(removed.status, 204);
    until("it knows that it was removed", &third, "/readyz", |status, json| {
        status == 503 && json["reasons"].to_string().contains("removed from the cluster")
    })
    .await;
    let gone = second.send(request("DELETE", "/api/v1/cluster/nodes/c", &[], "")).await;
    assert_eq!((gone.status, &gone.json()["type"]), (404, &"node-not-found".into()));
    third.stop().await.unwrap();
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_the_cluster_refuses_are_told_why() {
    let node = Running::start("refuses", |raw| raw.cluster.name = read("a")).await;
    let tokens = "/api/v1/cluster/join-tokens";
    let text: (&str, &str) = ("Content-Type", "text/plain");
    let proxied: (&str, &str) = ("X-Forwarded-For", "203.0.113.9");
    for (method, path, headers, body, status, slug) in [
        ("POST", tokens, &[][..], "", 415, "unsupported-media-type"),
        ("POST", tokens, &[text][..], "{}", 415, "unsupported-media-type"),
        ("POST", tokens, &[JSON], "", 400, "invalid-request"),
        ("POST", tokens, &[JSON], "{\"expires\": \"soon\"}", 400, "invalid-request"),
        ("POST", tokens, &[JSON], "{\"expires\": \"0s\"}", 400, "invalid-request"),
        ("POST", tokens, &[JSON], "{\"expires\": \"721h\"}", 400, "invalid-request"),
        ("POST", tokens, &[JSON], "{\"for\": 1}", 400, "invalid-request"),
        ("POST", tokens, &[JSON, proxied], "{}", 401, "not-allowed"),
        ("GET", "/api/v1/cluster", &[proxied], "", 401, "not-allowed"),
        ("PUT", "/api/v1/cluster/nodes/a/drain", &[proxied], "", 401, "not-allowed"),
        ("DELETE", "/api/v1/cluster/nodes/a", &[proxied], "", 401, "not-allowed"),
        ("DELETE", "/api/v1/cluster/nodes/a", &[], "", 409, "last-origin"),
        ("DELETE", "/api/v1/cluster/nodes/7", &[], "", 404, "node-not-found"),
        ("PUT", "/api/v1/cluster/nodes/%ff/drain", &[], "", 404, "node-not-found"),
        ("POST", "/api/v1/cluster/nodes/a/drain", &[], "", 405, "method-not-allowed"),
    ] {
        let answer = node.send(request(method, path, headers, body)).await;
        let told = (answer.status, answer.json()["type"].clone());
        assert_eq!(told, (status, slug.into()), "{method} {path} {headers:?} {body}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_port_may_be_taken_while_a_node_is_alone_and_only_then() {
    // Its default port, on an address of this test's own.
    let taken = UdpSocket::bind("127.0.0.77:4443").unwrap();
    let alone = |raw: &mut RawConfig| {
        raw.general.bind = read("127.0.0.77");
        raw.cluster.listen = RawConfig::default().cluster.listen;
    };
    let node = Running::start("port-alone", alone).await;
    assert_eq!(node.app.cluster.local_address(), None);
    assert_eq!(node.get("/readyz").await.status, 200);
    node.stop().await.unwrap();

    let refused = |change: &dyn Fn(&mut RawConfig), name: &str| {
        let config = config(name, |raw| change(raw));
        async {
            let error = headwater::node::Node::bind(config).await.err().unwrap();
            format!("{error:#}")
        }
    };
    // The address was given.
    let given = |raw: &mut RawConfig| raw.cluster.listen = read("127.0.0.77:4443");
    let error = refused(&given, "port-given").await;
    assert!(error.contains("cannot listen on 127.0.0.77:4443 ([cluster] listen)"), "{error}");
    // It was given and another node has joined: the default is no excuse any more.
    drop(taken);
    let first = Running::start("port-a", alone).await;
    let second = join(&first, "port-b", "b").await;
    until_all_vote(&first, &["b"]).await;
    first.stop().await.unwrap();
    let began = Instant::now();
    let _taken = loop {
        match UdpSocket::bind("127.0.0.77:4443") {
            Err(_) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => break bound.unwrap(),
        }
    };
    let error = refused(&alone, "port-a").await;
    assert!(error.contains("cannot listen on 127.0.0.77:4443 ([cluster] listen)"), "{error}");
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_and_change_the_cluster_of_a_running_node() {
    let first = Running::start("commands-a", |raw| raw.cluster.name = read("a")).await;
    let url = format!("http://{}", first.http);
    let (code, out, err) =
        tokio::task::block_in_place(|| run(&["cluster", "join-token", "--api", &url]));
    assert_eq!(code, Some(0), "{err}");
    let token = out.strip_suffix('\n').unwrap();
    assert!(token.starts_with("hwjoin1-") && !token.contains(char::is_whitespace), "{out:?}");
    assert!(err.starts_with("for one node, until 20"), "{err}");
    let to = first.app.cluster.local_address().unwrap();
    let file = folder("commands-token");
    std::fs::write(&file, &out).unwrap();
    let second = Running::start("commands-b", |raw| {
        raw.cluster.name = read("b");
        raw.cluster.region = read("eu-west");
        raw.cluster.join = read(&to.to_string());
        raw.cluster.join_token_file = Some(file.clone());
    })
    .await;
    until_all_vote(&first, &["a", "b"]).await;

    tokio::task::block_in_place(|| {
        let (code, out, err) = run(&["cluster", "status", "--api", &url]);
        assert_eq!(code, Some(0), "{err}");
        let mut lines = out.lines();
        assert!(lines.next().unwrap().contains("led by a (1); seen from node 1"), "{out}");
        assert!(lines.next().unwrap().starts_with("ID  NAME  ROLE    REGION"), "{out}");
        assert!(out.contains("2   b     origin  eu-west"), "{out}");
        let data = folder("commands-b");
        let data = data.to_str().unwrap();
        let (code, out, _) = run(&["cluster", "status", "--json", "--data", data]);
        assert_eq!(code, Some(0));
        let json: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((&json["this"], &json["leader"]), (&2.into(), &1.into()));
        assert!(json["term"].is_u64());
        assert_eq!(
            node_of(&json, "b")["address"].as_str().unwrap().split_once(':').unwrap().0,
            "127.0.0.1"
        );

        let (code, out, err) = run(&["cluster", "explain", "a/b", "--api", &url]);
        assert_eq!(code, Some(1), "{out}");
        assert!(err.contains("nobody publishes a/b now"), "{err}");

        let (code, out, err) = run(&["cluster", "drain", "b", "--api", &url]);
        assert_eq!(
            (code, out.as_str()),
            (Some(0), "b drains: it takes no new publishers\n"),
            "{err}"
        );
        let (code, out, err) = run(&["cluster", "remove", "2", "--api", &url]);
        assert_eq!((code, out.as_str()), (Some(0), "2 is removed\n"), "{err}");
        let (code, _, err) = run(&["cluster", "remove", "2", "--api", &url]);
        assert!(code == Some(1) && err.contains("the cluster has no node"), "{err}");
    });
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_node_and_not_needed_by_one_that_has_joined() {
    let first = Running::start("token-a", |raw| raw.cluster.name = read("a")).await;
    let to = first.app.cluster.local_address().unwrap().to_string();
    let token = token(&first).await;
    let joins = |raw: &mut RawConfig| {
        raw.cluster.join = read(&to);
        raw.cluster.join_token = read(&token);
    };
    let second = Running::start("token-b", joins).await;
    let number = second.app.cluster.node();
    second.stop().await.unwrap();
    let _ = std::fs::remove_dir_all(folder("token-c"));
    let error = headwater::node::Node::bind(config("token-c", joins)).await.err().unwrap();
    assert!(format!("{error:#}").contains("the join token was used"), "{error:#}");
    // Its command line may stay as it is; the token in it does not matter any more.
    let second = Running::again("token-b", |raw| raw.cluster.join = read(&to)).await;
    assert_eq!(second.app.cluster.node(), number);
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_is_made_a_cluster_of_its_own_by_force_alone() {
    let first = Running::start("recover-a", |raw| raw.cluster.name = read("a")).await;
    let second = join(&first, "recover-b", "b").await;
    until_all_vote(&first, &["a", "b"]).await;
    let data = folder("recover-a");
    let recover = |more: &[&str]| {
        let mut arguments = vec!["cluster", "recover", "--data", data.to_str().unwrap()];
        arguments.extend(more);
        tokio::task::block_in_place(|| run(&arguments))
    };
    let (code, _, err) = recover(&["--force"]);
    assert!(code == Some(1) && err.contains("in use by another process"), "{err}");
    second.stop().await.unwrap();
    first.stop().await.unwrap();

    let (code, out, err) = recover(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("They must never run again"), "{err}");
    let began = Instant::now();
    let (code, out, err) = loop {
        match recover(&["--force"]) {
            // The last task of the node may still hold the folder.
            (Some(1), _, err) if err.contains("in use") && began.elapsed() < PATIENCE => {}
            done => break done,
        }
    };
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("WARNING") && out.contains("node 1 is a cluster of its own"),
        "{out}{err}"
    );
    assert!(out.ends_with("removed: 2\n"), "{out}");
    let first = Running::again("recover-a", |raw| raw.cluster.name = read("a")).await;
    until("it leads by itself", &first, "/api/v1/cluster", |_, status| {
        status["leader"] == 1 && status["nodes"].as_array().unwrap().len() == 1
    })
    .await;
    let third = join(&first, "recover-c", "c").await;
    until_all_vote(&first, &["a", "c"]).await;
    third.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[test]
fn a_folder_is_made_a_new_clusters_first_node_once() {
    let data = folder("init");
    let _ = std::fs::remove_dir_all(&data);
    let arguments = ["cluster", "init", "--data", data.to_str().unwrap()];
    let (code, out, err) = run(&arguments);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("is node 1 of the new cluster "), "{out}");
    let (code, out, err) = run(&arguments);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("already belongs to a node of a cluster"), "{err}");
}

#[test]
fn who_joins_without_a_token_is_told_how_to_get_one() {
    let data = folder("no-token");
    let mut command = headwater(&["serve", "--join", "127.0.0.1:9", "--data"]);
    let (code, _, err) = told(command.arg(&data).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(err.contains("headwater cluster join-token"), "{err}");
}

fn publishing(node: &Running, stream: &StreamName) -> SessionHandle {
    let (role, protocol, stream) = (Role::Publisher, "rtmp", stream.clone());
    node.app.sessions.open(SessionInfo { role, protocol, stream, peer: node.http }).unwrap()
}

/// A second of sound.
fn sound(node: &Running, publisher: &mut Publisher) {
    let track = publisher.add_track(MediaKind::Audio).unwrap();
    let opus = OpusConfig { channels: 2, pre_skip: 0, input_sample_rate: 48_000 };
    publisher.configure(track, Codec::Opus(opus)).unwrap();
    for n in 0..50 {
        let at = MediaTime::new(n * 20_000, ClockRate::MICROS);
        let payload = Bytes::from_static(&[0xfc, 0, 0, 0]);
        let frame = RawFrame { pts: at, dts: at, keyframe: true, capture: None, payload };
        publisher.push(track, frame, node.app.clock.now()).unwrap();
    }
}

fn target_duration(node: &Running, stream: &StreamName) -> Option<u32> {
    let track = node.app.streams.get(stream)?.track(&TrackName::audio())?;
    track.newest()?.header().target_duration_s
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_goes_on_as_the_last_one_did_though_it_did_not_follow_the_stream() {
    let first = Running::start("heir-a", |raw| raw.cluster.name = read("a")).await;
    let second = join_with(&first, "heir-b", "b", |raw| {
        raw.ingest.keyframe_interval = read("5s");
    })
    .await;
    until_all_vote(&first, &["a", "b"]).await;
    let stream = StreamName::parse("cam").unwrap();
    let handle = publishing(&first, &stream);
    let mut publisher = first.app.streams.publish(&stream, &handle).await.unwrap();
    sound(&first, &mut publisher);
    assert_eq!(target_duration(&first, &stream), Some(2));
    drop(publisher);

    let handle = publishing(&second, &stream);
    let mut publisher = second.app.streams.publish(&stream, &handle).await.unwrap();
    sound(&second, &mut publisher);
    assert_eq!(target_duration(&second, &stream), Some(2), "not what it would take itself");
    drop(publisher);
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_fell_silent_gives_way_to_one_at_another_node() {
    let first = Running::start("silent-a", |raw| raw.cluster.name = read("a")).await;
    let second = join(&first, "silent-b", "b").await;
    until_all_vote(&first, &["a", "b"]).await;
    let stream = StreamName::parse("cam").unwrap();
    let handle = publishing(&first, &stream);
    let mut silent = first.app.streams.publish(&stream, &handle).await.unwrap();
    sound(&first, &mut silent);
    let begun = Instant::now();
    loop {
        let handle = publishing(&second, &stream);
        match second.app.streams.publish(&stream, &handle).await {
            Ok(_) => break,
            Err(error) => assert!(error.is_busy(), "{error}"),
        }
        assert!(begun.elapsed() < PATIENCE, "it never gives way");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "after {:?}", begun.elapsed());
    silent.ended().cancelled().await;
    assert_eq!(silent.reason(), Some(EndReason::Replaced));
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_at_once_finds_its_stream_free() {
    let node = Running::start("at-once", |_| {}).await;
    let stream = StreamName::parse("cam").unwrap();
    for time in 0..20 {
        let handle = publishing(&node, &stream);
        let publisher = node.app.streams.publish(&stream, &handle).await;
        drop(publisher.unwrap_or_else(|error| panic!("time {time}: {error}")));
    }
    node.stop().await.unwrap();
}
