//! A second publisher takes a live stream over by another protocol, where the policy says so.
//!
//! Not here: the policy's cases (beside the directory of streams), viewers of it (`soak`).
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use headwater_tests::node::Node;
use headwater_tests::program::{Program, new_ffmpeg};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn publish(arguments: &str) -> Program {
    let input = "-hide_banner -nostdin -loglevel error -re -f lavfi -i \
        testsrc2=size=320x180:rate=30 -pix_fmt yuv420p -c:v libx264 -preset ultrafast \
        -profile:v baseline -bf 0 -g 30";
    let words = input.split_whitespace().chain(arguments.split_whitespace());
    Program::start(&new_ffmpeg().expect("a new ffmpeg"), words).expect("ffmpeg starts")
}

/// The protocol of the stream's publisher.
async fn protocol(node: &Node) -> Option<String> {
    let answer = node.client().get("/api/v1/streams/live/a").await.expect("an answer");
    let view: Value = serde_json::from_slice(&answer.body).expect("JSON");
    view["publisher"]["protocol"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_publisher_by_whip_takes_over_from_one_by_rtmp() {
    let node = Node::start(&[("INGEST__POLICY", "replace")]).await.expect("a node");
    let first = publish(&format!("-f flv rtmp://{}/live/a", node.rtmp));
    node.live("live/a").await.expect("live");
    assert_eq!(protocol(&node).await.as_deref(), Some("rtmp"));

    let _second = publish(&format!("-f whip http://{}/whip/live/a", node.http));
    first.finish(PATIENCE).await.expect("the first one is let go");
    let taken = async {
        while protocol(&node).await.as_deref() != Some("whip") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the second one publishes");
}
