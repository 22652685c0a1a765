//! `headwater streams` and `headwater kick`: what is live on a running node.
//!
//! Not here: how the node is found (`client`).

use headwater_media::{SessionId, StreamName};
use http::Method;
use serde_json::Value;

use super::FindArgs;
use super::client::ask;
use super::say;

/// Lists streams, or shows one with its sessions.
pub(super) fn streams(find: &FindArgs, name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let Some(name) = name else {
        let answer = ask(find, Method::GET, "/api/v1/streams")?;
        return if json { say_json(&answer) } else { say(&table(&answer)) };
    };
    let name = StreamName::parse(name)?;
    let mut stream = ask(find, Method::GET, &format!("/api/v1/streams/{name}"))?;
    let mut sessions = ask(find, Method::GET, &format!("/api/v1/sessions?stream={name}"))?;
    let sessions = sessions.get_mut("sessions").map(Value::take).unwrap_or_default();
    if json {
        if let Some(members) = stream.as_object_mut() {
            members.insert("sessions".into(), sessions);
        }
        say_json(&stream)
    } else {
        say(&description(&stream, &sessions))
    }
}

fn say_json(value: &Value) -> anyhow::Result<()> {
    say(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Ends a session.
pub(super) fn kick(find: &FindArgs, session: &str, json: bool) -> anyhow::Result<()> {
    let id: SessionId = session.parse()?;
    ask(find, Method::DELETE, &format!("/api/v1/sessions/{id}"))?;
    if json {
        say(&format!("{}\n", serde_json::json!({ "kicked": id.to_string() })))
    } else {
        say(&format!("kicked {id}\n"))
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn table(answer: &Value) -> String {
    let streams = list(answer, "streams");
    if streams.is_empty() {
        return "no streams\n".into();
    }
    let mut out =
        format!("{:<32} {:<8} {:<6} {:>7}  TRACKS\n", "STREAM", "STATE", "FROM", "VIEWERS");
    for stream in streams {
        let from = stream.get("publisher").map_or("-", |publisher| text(publisher, "protocol"));
        let tracks: Vec<_> = list(stream, "tracks").iter().map(track).collect();
        out += &format!(
            "{:<32} {:<8} {from:<6} {:>7}  {}\n",
            text(stream, "name"),
            text(stream, "state"),
            number(stream, "viewers") + number(stream, "hls_viewers"),
            tracks.join(", ")
        );
    }
    out
}

/// One track in a few words: `video h264 1280x720 30 fps 2500 kb/s`.
fn track(track: &Value) -> String {
    let mut words = vec![text(track, "name").to_owned(), text(track, "codec").to_owned()];
    if let Some(size) = track.get("resolution").filter(|size| size.is_object()) {
        words.push(format!("{}x{}", number(size, "width"), number(size, "height")));
        if let Some(rate) = track.get("frame_rate").and_then(Value::as_f64) {
            words.push(format!("{rate:.5} fps").replace(".00000", ""));
        }
    }
    if let Some(bitrate) = track.get("bitrate").and_then(Value::as_u64) {
        words.push(format!("{} kb/s", bitrate / 1_000));
    }
    words.join(" ")
}

fn description(stream: &Value, sessions: &Value) -> String {
    let mut out = format!(
        "{} ({}) since {}\n",
        text(stream, "name"),
        text(stream, "state"),
        text(stream, "since")
    );
    out += &format!(
        "  {} viewers by sessions, about {} by HLS\n",
        number(stream, "viewers"),
        number(stream, "hls_viewers")
    );
    for one in list(stream, "tracks") {
        out += &format!("  {}\n", track(one));
    }
    for warning in list(stream, "warnings") {
        out += &format!("  warning: {}\n", warning.as_str().unwrap_or_default());
    }
    for session in sessions.as_array().map_or(&[][..], Vec::as_slice) {
        out += &format!(
            "  {} {:<9} {:<5} {} since {}, {} kB in, {} kB out, {} dropped\n",
            text(session, "id"),
            text(session, "role"),
            text(session, "protocol"),
            text(session, "peer"),
            text(session, "since"),
            number(session, "bytes_in") / 1_000,
            number(session, "bytes_out") / 1_000,
            number(session, "frames_dropped")
        );
    }
    out
}
