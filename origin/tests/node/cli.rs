//! The program: results, messages and exit codes.
//!
//! Not here: what a running node answers (`http`, `webrtc`).

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use crate::support::{Running, folder};

pub(crate) fn headwater(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// Code, standard output, standard error.
pub(crate) fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(headwater(arguments).output().unwrap())
}

fn file(name: &str, text: &str) -> String {
    let folder = folder("files");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn exit_codes_tell_success_errors_and_bad_usage_apart() {
    let good = file("good.toml", "[http]\nlisten = \"127.0.0.1:1\"\n");
    let bad = file("bad.toml", "[http]\nlisten = 1\nfoo = 2\n");
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["config", "default"], 0),
        (&["check", &good], 0),
        (&["check", &bad], 1),
        (&["check", "/nowhere.toml"], 1),
        (&["serve", "-c", &bad], 1),
        (&["-c", &bad], 1),
        (&["--log-format", "loud"], 1),
        (&["kick", "abc"], 1),
        (&["streams", "a//b"], 1),
        (&["streams", "--api", "ftp://x"], 1),
        (&["streams", "--data", "/nowhere"], 1),
        (&["--role", "king"], 1),
        (&["--join-token", "nonsense"], 1),
        (&["--join", "nowhere"], 1),
        (&["cluster", "status", "--data", "/nowhere"], 1),
        (&["cluster", "drain", "a/b"], 1),
        (&["cluster", "recover", "--data", "/nowhere"], 1),
        (&["cluster", "recover", "--force", "--data", "/nowhere"], 1),
        (&["cluster", "join-token", "--expires", "soon"], 2),
        (&["cluster", "drain"], 2),
        (&["cluster", "explain", "a", "--data", "/nowhere"], 1),
        (&["cluster", "explain"], 2),
        (&["cluster"], 2),
        (&["serve", "--join-token", "a", "--join-token-file", "b"], 2),
        (&["check"], 2),
        (&["fly"], 2),
        (&["serve", "--fly"], 2),
        (&["config"], 2),
    ] {
        let (told, out, err) = run(arguments);
        assert_eq!(told, Some(code), "{arguments:?}: {out}{err}");
    }
}

#[test]
fn check_names_every_error_with_file_line_and_key() {
    let path = file("wrong.toml", "[http]\nlisten = 1\nfoo = 2\n\n[srt]\nlatency = \"9h\"\n");
    let (code, out, err) = run(&["check", &path]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for expected in
        [":2: http.listen: 1 is", ":3: http.foo: unknown key", ":6: srt.latency: \"9h\""]
    {
        assert!(err.contains(&format!("{path}{expected}")), "{expected} in {err}");
    }
}

#[test]
fn the_printed_default_configuration_passes_the_check() {
    let (code, text, _) = run(&["config", "default"]);
    assert_eq!(code, Some(0));
    let (code, _, err) = run(&["check", &file("default.toml", &text)]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn environment_variables_are_checked_like_the_file() {
    let good = file("empty.toml", "");
    let mut command = headwater(&["check", &good]);
    let (code, _, err) = told(command.env("HEADWATER_HTTP__LISTEN", "nonsense").output().unwrap());
    assert_eq!(code, Some(1));
    assert!(err.contains("HEADWATER_HTTP__LISTEN: http.listen: \"nonsense\""), "{err}");
}

/// A node of its own process on free ports, with the demo's stream.
fn demo(name: &str) -> Command {
    let data = folder(name);
    let mut command = headwater(&["demo", "--data", data.to_str().unwrap()]);
    for section in ["HTTP", "WEBRTC", "SRT", "RTMP", "CLUSTER"] {
        command.env(format!("HEADWATER_{section}__LISTEN"), "127.0.0.1:0");
    }
    command.env("HEADWATER_DEMO__WIDTH", "320").env("HEADWATER_DEMO__HEIGHT", "180");
    command.stdout(Stdio::piped());
    command
}

pub(crate) fn terminate(child: &mut std::process::Child) -> Option<i32> {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    child.wait().unwrap().code()
}

#[test]
fn a_reader_of_the_log_that_goes_away_does_not_take_the_node_with_it() {
    let mut child = demo("unread").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take().unwrap());
    let mut page = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut page).unwrap();
    // It has logged all of its start by now, and logs its end.
    assert!(page.contains("/play/demo"), "{page}");
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn the_demo_prints_its_page_and_goes_live() {
    let mut child = demo("demo").stderr(Stdio::null()).spawn().unwrap();
    let mut page = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut page).unwrap();
    assert!(page.trim_end().ends_with("/play/demo"), "{page}");
    let api = page.trim_end().trim_end_matches("/play/demo");
    let began = std::time::Instant::now();
    let mut codecs = Vec::new();
    while codecs != ["h264", "opus"] && began.elapsed() < crate::support::PATIENCE {
        let (_, out, _) = run(&["streams", "demo", "--json", "--api", api]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        let tracks = json["tracks"].as_array().cloned().unwrap_or_default();
        codecs = tracks.iter().map(|t| t["codec"].as_str().unwrap_or("").to_owned()).collect();
    }
    assert_eq!(codecs, ["h264", "opus"]);
    assert_eq!(terminate(&mut child), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_kick_find_the_node_by_url_and_by_data_folder() {
    use headwater::sessions::{Role, SessionInfo};
    let node = Running::start("cli", |_| {}).await;
    assert_eq!(node.get("/readyz").await.status, 200);
    let stream = headwater_media::StreamName::parse("a/b").unwrap();
    let info = SessionInfo {
        role: Role::Publisher,
        protocol: "rtmp",
        stream: stream.clone(),
        peer: "127.0.0.1:9".parse().unwrap(),
    };
    let handle = node.app.sessions.open(info).unwrap();
    let publisher = node.app.streams.publish(&stream, &handle).await.unwrap();
    let (url, data) = (format!("http://{}", node.http), folder("cli"));
    let data = data.to_str().unwrap();
    let id = handle.id().to_string();
    tokio::task::block_in_place(|| {
        let (code, out, err) = run(&["streams", "--api", &url]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("a/b") && out.contains("rtmp"), "{out}");
        let (code, out, err) = run(&["streams", "a/b", "--json", "--data", data]);
        assert_eq!(code, Some(0), "{err}");
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["sessions"][0]["id"], *id);
        let (code, _, err) = run(&["streams", "nobody", "--api", &url]);
        assert!(code == Some(1) && err.contains("nobody"), "{err}");
        assert_eq!(run(&["kick", &id, "--data", data]).0, Some(0));
    });
    assert!(publisher.ended().is_cancelled());
    drop((publisher, handle));
    node.stop().await.unwrap();
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (section, free) in [
        ("http", ["webrtc", "srt", "rtmp", "cluster"]),
        ("rtmp", ["http", "webrtc", "srt", "cluster"]),
        ("webrtc", ["http", "srt", "rtmp", "cluster"]),
    ] {
        let data = folder("taken");
        let mut command = headwater(&["serve", "--data", data.to_str().unwrap()]);
        for other in free {
            command.env(format!("HEADWATER_{}__LISTEN", other.to_uppercase()), "127.0.0.1:0");
        }
        command.env(format!("HEADWATER_{}__LISTEN", section.to_uppercase()), &address);
        let (code, _, err) = told(command.output().unwrap());
        assert_eq!(code, Some(1), "{err}");
        let expected = format!("error: cannot listen on {address} ([{section}] listen): ");
        assert!(err.contains(&expected), "{section}: {err}");
    }
}

#[test]
fn a_node_logs_json_serves_and_ends_cleanly_on_sigterm() {
    let data = folder("sigterm");
    let mut child = headwater(&["serve", "--log-format", "json", "--data", data.to_str().unwrap()])
        .env("HEADWATER_HTTP__LISTEN", "127.0.0.1:0")
        .env("HEADWATER_WEBRTC__LISTEN", "127.0.0.1:0")
        .env("HEADWATER_SRT__LISTEN", "127.0.0.1:0")
        .env("HEADWATER_RTMP__LISTEN", "127.0.0.1:0")
        .env("HEADWATER_CLUSTER__LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        seen.push(line["message"].as_str().unwrap().to_owned());
        if seen.last().is_some_and(|message| message == "http") {
            break;
        }
    }
    assert!(seen.iter().any(|message| message.starts_with("OPEN ON LOOPBACK ONLY")), "{seen:?}");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    for line in lines {
        line.unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
