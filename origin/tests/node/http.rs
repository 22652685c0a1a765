//! The HTTP frame: health, API, errors, time-outs, limits, drain.
//!
//! Not here: WHIP and WHEP (`webrtc`), playlists and media (beside `http::hls`).

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Running, request, send};

#[tokio::test]
async fn a_fresh_node_is_healthy_ready_and_describes_itself() {
    let node = Running::start("fresh", |_| {}).await;
    for path in ["/healthz", "/readyz"] {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")), "{path}");
    }
    let answer = node.get("/api/v1/node").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["listeners"]["http"], node.http.to_string());
    assert_eq!(answer.json()["state"], "running");
    assert_eq!(node.get("/api/v1/streams").await.json()["streams"], serde_json::json!([]));
    assert_eq!(node.get("/api/v1/sessions").await.json()["total"], 0);
    let metrics = node.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(String::from_utf8_lossy(&metrics.body).contains("headwater_process_open_fds"));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn errors_are_problems_and_every_answer_names_the_server() {
    let node = Running::start("problems", |_| {}).await;
    let id = "0".repeat(32);
    for (method, path, status, slug) in [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/api/v1/nowhere", 404, "not-found"),
        ("POST", "/api/v1/streams", 405, "method-not-allowed"),
        ("GET", "/api/v1/streams/a/b", 404, "stream-not-found"),
        ("GET", "/api/v1/streams/a//b", 400, "invalid-stream-name"),
        ("GET", "/api/v1/streams/a%20b", 400, "invalid-stream-name"),
        ("GET", "/api/v1/sessions?limit=x", 400, "invalid-query"),
        ("GET", "/api/v1/sessions?stream=a//b", 400, "invalid-stream-name"),
        ("DELETE", "/api/v1/sessions/1", 404, "session-not-found"),
        ("DELETE", "/api/v1/sessions/%ff", 404, "session-not-found"),
        ("DELETE", &format!("/api/v1/sessions/{id}"), 404, "session-not-found"),
    ] {
        let answer = node.send(request(method, path, &[], "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(answer.json()["type"], slug, "{path}");
        assert_eq!(answer.json()["status"], status, "{path}");
        assert!(answer.header("server").starts_with("headwater/"), "{path}");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{path}");
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn routes_and_their_document_agree() {
    let node = Running::start("openapi", |_| {}).await;
    let document = node.get("/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 11);
    let id = "0".repeat(32);
    for (path, operations) in paths {
        let real = path.replace("{stream}", "a/b").replace("{session}", &id).replace("{node}", "b");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let described = operations.get(method.to_lowercase());
            let answer = node.send(request(method, &real, &[], "")).await;
            let told = described.is_some_and(|operation| {
                !operation["responses"][answer.status.to_string()].is_null()
            });
            assert!(told || (described.is_none() && answer.status == 405), "{method} {path}");
        }
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_is_listed_by_stream_and_kicked_by_id() {
    use headwater::sessions::{Role, SessionInfo};
    let node = Running::start("kick", |_| {}).await;
    let stream = headwater_media::StreamName::parse("a/b").unwrap();
    let info = SessionInfo {
        role: Role::Publisher,
        protocol: "srt",
        stream: stream.clone(),
        peer: "127.0.0.1:9".parse().unwrap(),
    };
    let handle = node.app.sessions.open(info).unwrap();
    let publisher = node.app.streams.publish(&stream, &handle).await.unwrap();
    let answer = node.get("/api/v1/streams/a/b").await.json();
    assert_eq!(answer["publisher"]["id"], handle.id().to_string());
    assert_eq!(answer["publisher"]["protocol"], "srt");
    assert_eq!((answer["viewers"].as_u64(), answer["hls_viewers"].as_u64()), (Some(0), Some(0)));
    // The document names just what is served.
    let document = node.get("/api/v1/openapi.json").await.json();
    let members = |value: &serde_json::Value| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let described =
        |schema: &str| members(&document["components"]["schemas"][schema]["properties"]);
    assert_eq!(members(&answer), described("Stream"));
    assert_eq!(members(&answer["publisher"]), described("Session"));
    assert_eq!(members(&node.get("/api/v1/node").await.json()), described("Node"));
    let tree = node.get("/api/v1/cluster/tree/a/b").await.json();
    assert_eq!(members(&tree), described("Tree"));
    assert_eq!(members(&tree["nodes"][0]), described("TreeNode"));
    assert_eq!((&tree["depth"], &tree["nodes"][0]["place"]), (&0.into(), &"owner".into()));
    assert_eq!(node.get("/api/v1/sessions?stream=other").await.json()["total"], 0);
    let listed = node.get("/api/v1/sessions?stream=a/b&limit=0").await.json();
    assert_eq!(
        (listed["total"].as_u64(), listed["sessions"].as_array().unwrap().len()),
        (Some(1), 0)
    );
    let path = format!("/api/v1/sessions/{}", handle.id());
    assert_eq!(node.send(request("DELETE", &path, &[], "")).await.status, 204);
    tokio::time::timeout(PATIENCE, publisher.ended().cancelled()).await.unwrap();
    drop((publisher, handle));
    assert_eq!(node.send(request("DELETE", &path, &[], "")).await.status, 404);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn cleartext_http2_is_served_on_the_same_port() {
    let node = Running::start("h2c", |_| {}).await;
    let answer = send(node.http, request("GET", "/healthz", &[], ""), true).await;
    assert_eq!((answer.status, answer.version), (200, http::Version::HTTP_2));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn clients_that_dribble_or_say_nothing_are_cut_off_in_time() {
    let limit = Duration::from_millis(300);
    let node = Running::start("loris", |raw| raw.limits.http_header_timeout = limit).await;
    for opening in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "]
    {
        let mut stream = TcpStream::connect(node.http).await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        let began = Instant::now();
        let mut all = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
        assert!(read.is_ok(), "{opening:?} holds its connection");
        assert!(began.elapsed() >= limit / 2, "{opening:?} is cut off too early");
    }
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answers_is_cut_off() {
    let patience = Duration::from_secs(1);
    let node = Running::start("stall", |raw| raw.limits.http_write_timeout = patience).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(node.http).await.unwrap();
    let ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    // The node reads no further once it cannot write.
    let _ = tokio::time::timeout(patience / 2, stream.write_all(&ask)).await;
    let began = Instant::now();
    let cut_off = async {
        // Without reading: that would take something.
        while !stream.try_write(b"G").is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cut_off).await.expect("it is cut off");
    assert!(began.elapsed() >= patience / 4, "{:?}", began.elapsed());
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_before_it_comes() {
    let node = Running::start("announced", |_| {}).await;
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    let head = "POST /whip/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n\
        Content-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
    assert!(read.unwrap().unwrap() > 0 && buffer.starts_with(b"HTTP/1.1 413 "), "{buffer:?}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_closed_node_trusts_neither_proxies_nor_foreign_names() {
    let node = Running::start("near", |_| {}).await;
    let proxied: &[(&str, &str)] = &[("X-Forwarded-For", "203.0.113.9")];
    let foreign: &[(&str, &str)] = &[("Host", "rebound.example.org")];
    for (path, headers, status) in [
        ("/api/v1/node", proxied, 401),
        ("/metrics", proxied, 401),
        ("/hls/a/index.m3u8", proxied, 401),
        ("/healthz", proxied, 200),
        ("/api/v1/node", foreign, 401),
        ("/metrics", foreign, 401),
        ("/hls/a/index.m3u8", foreign, 404),
        ("/metrics", &[], 200),
    ] {
        let answer = node.send(request("GET", path, headers, "")).await;
        assert_eq!(answer.status, status, "{path} {headers:?}");
        if status == 401 {
            assert_eq!(answer.json()["type"], "not-allowed", "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
        }
    }
    node.stop().await.unwrap();
    let node = Running::start("near-open", |raw| raw.auth.open = true).await;
    for headers in [proxied, foreign] {
        let answer = node.send(request("GET", "/api/v1/node", headers, "")).await;
        assert_eq!(answer.status, 200, "{headers:?}");
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_above_the_limit_gets_503_and_the_others_go_on() {
    let node = Running::start("full", |raw| raw.limits.http_connections = 1).await;
    let mut first = TcpStream::connect(node.http).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut buffer = [0; 1_024];
    first.write_all(ask).await.unwrap();
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    let mut second = TcpStream::connect(node.http).await.unwrap();
    let mut answer = Vec::new();
    second.read_to_end(&mut answer).await.unwrap();
    assert_problem(&answer, 503, "too-many-connections");
    first.write_all(ask).await.unwrap();
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    drop(first);
    node.stop().await.unwrap();
}

/// Whether bytes are one whole answer with the problem of that status and type.
fn assert_problem(answer: &[u8], status: u16, slug: &str) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    assert!(head.contains("\r\nServer: headwater/"), "{text}");
    assert!(head.contains("\r\nContent-Type: application/problem+json"), "{text}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((json["type"].as_str(), json["status"].as_u64()), (Some(slug), Some(status.into())));
}

#[tokio::test]
async fn what_is_not_http_gets_a_problem_that_names_the_server() {
    let node = Running::start("malformed", |_| {}).await;
    // Well above the limit: reading stops at it roughly.
    let long = "a".repeat(100 << 10);
    for (said, status, slug) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed-request"),
        ("GET / HTTP/1.1\r\nHo st: a\r\n\r\n".to_owned(), 400, "malformed-request"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431, "header-too-large"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(200)), 431, "header-too-large"),
    ] {
        // By itself, and after a request that was fine.
        for before in ["", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = TcpStream::connect(node.http).await.unwrap();
            let mut answer = Vec::new();
            if !before.is_empty() {
                stream.write_all(before.as_bytes()).await.unwrap();
                while !answer.ends_with(b"}") {
                    assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
                }
                answer.clear();
            }
            // The node may hang up before it has heard all.
            let _ = stream.write_all(said.as_bytes()).await;
            let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "the connection stays open");
            assert_problem(&answer, status, slug);
        }
    }
    let metrics = node.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("headwater_http_malformed_total "));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_without_one_host_gets_a_problem_and_the_end_of_its_connection() {
    let node = Running::start("host", |_| {}).await;
    for path in ["/healthz", "/hls/a/index.m3u8"] {
        for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: u@a\r\n"] {
            let mut stream = TcpStream::connect(node.http).await.unwrap();
            let said = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "the connection stays open");
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{said:?}: {answer}");
            assert!(answer.contains("\"type\":\"invalid-host\""), "{said:?}: {answer}");
            assert!(answer.contains("\r\nserver: headwater/"), "{said:?}: {answer}");
        }
    }
    // HTTP/1.0 knows no Host.
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 "), "{answer:?}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_within_its_time_whatever_clients_do() {
    let node = Running::start("drain", |raw| {
        raw.general.drain_timeout = Duration::from_millis(500);
        raw.limits.http_header_timeout = Duration::from_secs(60);
    })
    .await;
    // A request under way that never ends.
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    let address = node.http;
    let began = Instant::now();
    node.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_idle_node_drains_at_once_and_takes_its_record_away() {
    let node = Running::start("idle", |_| {}).await;
    assert_eq!(node.get("/readyz").await.status, 200);
    let record = headwater::node::read_record(&crate::support::folder("idle")).unwrap();
    assert_eq!(record.api, format!("http://{}", node.http));
    let health = node.app.health.clone();
    let began = Instant::now();
    node.begin_drain();
    node.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(health.ready().reasons, ["the node is draining"]);
    assert!(headwater::node::read_record(&crate::support::folder("idle")).is_err());
}
