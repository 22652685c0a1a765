//! The load generator against a real node: every way in, viewers by WHEP, not a frame lost.
//!
//! Not here: LL-HLS viewers (`hls`), load (`headwater-loadtest run`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use headwater_loadtest::compare::node::{Node, free_ports};

/// The node's program: what `E2E_HEADWATER` names, else the one built beside this test.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("E2E_HEADWATER") {
        return named.into();
    }
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("headwater");
    assert!(binary.exists(), "not built: cargo build --package headwater");
    binary
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_headwater-loadtest");
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn three_publishers_by_three_protocols_lose_no_frame_to_their_viewers() {
    let begin = 24_000 + u16::try_from(std::process::id() % 400).unwrap() * 40;
    let node = Node::start(&program(), free_ports(begin, 20).unwrap(), 200).unwrap();
    let report = std::env::temp_dir().join(format!("headwater-loadtest-{begin}.json"));
    let page = report.with_extension("html");
    let pid = node.pid().to_string();
    let (code, text, progress) = run(&[
        "run",
        "--server",
        &node.url(),
        "--srt",
        &node.srt(),
        "--rtmp",
        &node.rtmp(),
        "--pid",
        &pid,
        "--publish",
        "whip:1",
        "--publish",
        "srt:1",
        "--publish",
        "rtmp:1",
        "--whep",
        "6",
        "--ramp",
        "1s",
        "--hold",
        "4s",
        "--max-loss",
        "0%",
        "--max-failed",
        "0",
        "--json",
        report.to_str().unwrap(),
        "--html",
        page.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{text}\n{progress}");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let whep = &json["viewers"][0];
    assert_eq!(whep["started"], 6, "{text}");
    assert_eq!(whep["without_frames"], 0, "{text}");
    assert_eq!(whep["counts"]["lost"], 0, "{text}");
    // Six viewers for four seconds of 30 frames at the least.
    assert!(whep["counts"]["frames"].as_u64().unwrap() >= 6 * 4 * 30, "{text}");
    for publishers in json["publishers"].as_array().unwrap() {
        assert!(publishers["frames"].as_u64().unwrap() > 100, "{text}");
    }
    assert!(json["server"]["cpu_us_per_packet"].as_f64().unwrap() > 0.0);
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
    std::fs::remove_file(&report).unwrap();
    std::fs::remove_file(&page).unwrap();
}

#[test]
fn a_missed_limit_is_named_and_fails_the_run() {
    let begin = 24_020 + u16::try_from(std::process::id() % 400).unwrap() * 40;
    let node = Node::start(&program(), free_ports(begin, 20).unwrap(), 200).unwrap();
    let (code, text, progress) = run(&[
        "run",
        "--server",
        &node.url(),
        "--publish",
        "whip:1",
        "--whep",
        "1",
        "--ramp",
        "0s",
        "--hold",
        "1s",
        "--max-startup-p95",
        "1us",
    ]);
    assert_eq!(code, Some(1), "{text}\n{progress}");
    assert!(text.contains("MISSED      whep: start-up p95"), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let server = "http://127.0.0.1:1";
    let (code, _, problem) = run(&["run", "--server", server, "--publish", "whip:1"]);
    assert_eq!(code, Some(1));
    assert!(
        problem.contains("the server is not there: cannot reach http://127.0.0.1:1"),
        "{problem}"
    );
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let begin = 24_040 + u16::try_from(std::process::id() % 400).unwrap() * 40;
    let node = Node::start(&program(), free_ports(begin, 20).unwrap(), 200).unwrap();
    let (code, _, problem) =
        run(&["publish", "--server", &node.url(), "--publish", "whip:1", "--stream", "no$name"]);
    assert_eq!(code, Some(1));
    assert!(problem.contains("400"), "{problem}");
}
