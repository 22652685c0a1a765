//! WHIP and WHEP as HTTP: statuses, headers and the life of a session (RFC 9725).
//!
//! Not here: media over WebRTC (the browsers' tests at the top).

use crate::support::{Answer, Running, request};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

/// An offer with one audio and one video m-line in this direction.
fn offer(direction: &str) -> String {
    let transport = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=rtcp-mux\r\n";
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na={direction}\r\n\
         a=rtpmap:111 opus/48000/2\r\n{transport}\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na={direction}\r\n\
         a=rtpmap:96 VP8/90000\r\n{transport}"
    )
}

impl Running {
    async fn publish(&self, stream: &str) -> Answer {
        let path = format!("/whip/{stream}");
        self.send(request("POST", &path, &[SDP], &offer("sendonly"))).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_answer_wrong_requests_as_rfc_9725_says() {
    let node = Running::start("whip-table", |_| {}).await;
    let (send, receive) = (offer("sendonly"), offer("recvonly"));
    let large = format!("v=0\r\n{}", "a=x\r\n".repeat(20_000));
    let text = ("Content-Type", "text/plain");
    let gone = format!("/whip/a/-/{}", "0".repeat(32));
    let events = format!("/whep/a/-/{}/sse", "0".repeat(32));
    let feed = format!("{events}/active");
    let tag = ("If-Match", "\"x\"");
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let cases: [Case<'_>; 28] = [
        ("GET", "/whip/a", &[], "", 405, "method-not-allowed"),
        ("HEAD", "/whip/a", &[], "", 405, ""),
        ("PUT", "/whip/a", &[SDP], &send, 405, "method-not-allowed"),
        ("DELETE", "/whip/a", &[], "", 405, "method-not-allowed"),
        ("PATCH", "/whep/a", &[], "", 405, "method-not-allowed"),
        ("POST", &gone, &[SDP], &send, 405, "method-not-allowed"),
        ("POST", "/whip/a", &[], &send, 415, "unsupported-media-type"),
        ("POST", "/whip/a", &[text], &send, 415, "unsupported-media-type"),
        ("POST", "/whip/a", &[SDP], "hello", 400, "malformed-sdp"),
        ("POST", "/whip/a", &[SDP], "", 400, "malformed-sdp"),
        ("POST", "/whip/a", &[SDP], &large, 413, "body-too-large"),
        ("POST", "/whip/a//b", &[SDP], &send, 400, "invalid-stream-name"),
        ("POST", "/whip/a", &[SDP], &receive, 422, "not-acceptable"),
        ("POST", "/whep/a", &[SDP], &receive, 404, "stream-not-found"),
        ("POST", "/whep/a?wait=x", &[SDP], &receive, 400, "invalid-query"),
        ("DELETE", &gone, &[], "", 404, "session-not-found"),
        ("DELETE", "/whip/a/-/1", &[], "", 404, "session-not-found"),
        ("PATCH", &gone, &[FRAGMENT, tag], "", 404, "session-not-found"),
        ("GET", &gone, &[], "", 405, "method-not-allowed"),
        ("GET", &events, &[], "", 404, "session-not-found"),
        ("POST", &events, &[JSON], "[\"active\"]", 404, "session-not-found"),
        ("DELETE", &events, &[], "", 405, "method-not-allowed"),
        ("POST", &feed, &[JSON], "[]", 405, "method-not-allowed"),
        ("GET", &feed, &[], "", 404, "session-not-found"),
        ("DELETE", &feed, &[], "", 404, "session-not-found"),
        ("GET", "/whep/a/-/x/y", &[], "", 404, "session-not-found"),
        ("POST", "/whip/%ff", &[SDP], &send, 400, "invalid-stream-name"),
        ("DELETE", "/whep/%ff/-/x", &[], "", 400, "invalid-stream-name"),
    ];
    for (method, path, headers, body, status, slug) in cases {
        let answer = node.send(request(method, path, headers, body)).await;
        assert_eq!(answer.status, status, "{method} {path} {slug}");
        if !slug.is_empty() {
            assert_eq!(answer.json()["type"], slug, "{method} {path}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{method} {path}");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{method} {path}");
    }
    let absent = node.send(request("POST", "/whep/a", &[SDP], &receive)).await;
    assert!(!absent.header("retry-after").is_empty());
    assert_eq!(node.app.sessions.list().len(), 0, "no refused offer leaves a session");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_patched_and_deleted_once() {
    let node = Running::start("whip-life", |raw| {
        let text = "stun:stun.example.org:3478";
        let server = headwater::config::Input::Text(text);
        raw.webrtc.ice_servers = headwater::config::Value::read(server).unwrap();
    })
    .await;
    let made = node.publish("a/b").await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("content-type"), "application/sdp");
    assert_eq!(made.header("accept-patch"), FRAGMENT.1);
    assert_eq!(made.header("link"), "<stun:stun.example.org:3478>; rel=\"ice-server\"");
    assert!(made.header("access-control-expose-headers").contains("Location"));
    assert!(String::from_utf8_lossy(&made.body).contains("a=recvonly"));
    let (location, etag) = (made.header("location"), made.header("etag"));
    assert!(location.starts_with("/whip/a/b/-/"), "{location}");

    let other = location.replace("/a/b/", "/other/");
    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\n\
        a=mid:0\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n";
    let stale = [FRAGMENT, ("If-Match", "\"stale\"")];
    let fresh = [FRAGMENT, ("If-Match", etag)];
    for (path, headers, status) in [
        (location, &fresh[1..], 415),
        (location, &fresh[..1], 428),
        (location, &stale, 412),
        (&*other, &fresh, 404),
        (location, &fresh, 204),
    ] {
        let answer = node.send(request("PATCH", path, headers, trickle)).await;
        assert_eq!(answer.status, status, "PATCH {path} {headers:?}");
    }
    let restart = trickle.replace("abcd", "efgh");
    let headers = [FRAGMENT, ("If-Match", "*")];
    let answer = node.send(request("PATCH", location, &headers, &restart)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, FRAGMENT.1));
    assert_ne!(answer.header("etag"), etag);

    assert_eq!(node.send(request("DELETE", &other, &[], "")).await.status, 404);
    assert_eq!(node.send(request("DELETE", location, &[], "")).await.status, 200);
    assert_eq!(node.send(request("DELETE", location, &[], "")).await.status, 404);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_refused_and_a_broken_offer_takes_nothing() {
    let node = Running::start("whip-busy", |_| {}).await;
    let first = node.publish("a").await;
    assert_eq!(first.status, 201);
    let second = node.publish("a").await;
    assert_eq!((second.status, second.json()["type"].as_str()), (409, Some("stream-busy")));
    assert_eq!(node.app.sessions.list().len(), 1);
    node.stop().await.unwrap();

    let node = Running::start("whip-replace", |raw| {
        raw.ingest.policy = headwater::config::SecondPublisher::Replace;
    })
    .await;
    let first = node.publish("a").await;
    assert_eq!(node.send(request("POST", "/whip/a", &[SDP], "v=0")).await.status, 400);
    assert_eq!(node.app.sessions.list().len(), 1);
    let second = node.publish("a").await;
    assert_eq!((first.status, second.status), (201, 201));
    let publisher = node.get("/api/v1/streams/a").await.json();
    let session = publisher["publisher"]["id"].as_str().unwrap();
    assert!(first.header("location").ends_with(session), "nobody gives way to one without media");
    let ended = node.send(request("DELETE", second.header("location"), &[], "")).await;
    assert_eq!(ended.status, 200);
    let began = std::time::Instant::now();
    while node.app.sessions.list().len() != 1 {
        assert!(began.elapsed() < crate::support::PATIENCE, "the session that took nothing stays");
        tokio::task::yield_now().await;
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_name_methods_and_headers() {
    let node = Running::start("whip-cors", |_| {}).await;
    for (path, methods) in [
        ("/whip/a", "POST, OPTIONS"),
        ("/whep/a", "POST, OPTIONS"),
        ("/whip/a/-/x", "PATCH, DELETE, OPTIONS"),
        ("/whep/a/-/x", "PATCH, DELETE, OPTIONS"),
        ("/whep/a/-/x/sse", "GET, POST, OPTIONS"),
        ("/whep/a/-/x/sse/active", "GET, DELETE, OPTIONS"),
    ] {
        let answer = node.send(request("OPTIONS", path, &[("Origin", "https://x")], "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{path}");
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(headers, "Authorization, Content-Type, If-Match", "{path}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_has_not_connected_is_a_session_and_no_viewer() {
    let node = Running::start("whep-half", |_| {}).await;
    assert_eq!(node.publish("a").await.status, 201);
    let made = node.send(request("POST", "/whep/a", &[SDP], &offer("recvonly"))).await;
    assert_eq!(made.status, 201);
    assert_eq!(node.get("/api/v1/sessions?stream=a").await.json()["total"], 2);
    assert_eq!(node.get("/api/v1/streams/a").await.json()["viewers"], 0);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_events_is_made_without_a_body_and_ends_with_its_deletion() {
    let node = Running::start("whep-feed", |_| {}).await;
    assert_eq!(node.publish("a").await.status, 201);
    let made = node.send(request("POST", "/whep/a", &[SDP], &offer("recvonly"))).await;
    assert_eq!(made.status, 201);
    let events = format!("{}/sse", made.header("location"));
    let feed = node.send(request("POST", &events, &[], "")).await;
    let location = feed.header("location");
    assert_eq!((feed.status, location), (201, &*format!("{events}/active,inactive,viewercount")));
    let again = node.send(request("POST", &events, &[], "[\"active\"]")).await;
    assert_eq!(again.status, 415, "a body must say what it is");

    assert_eq!(node.send(request("DELETE", location, &[], "")).await.status, 200);
    for method in ["GET", "DELETE"] {
        let gone = node.send(request(method, location, &[], "")).await;
        assert_eq!((gone.status, &gone.json()["type"]), (404, &"feed-not-found".into()));
    }
    assert_eq!(node.send(request("POST", &events, &[], "")).await.status, 201);
    assert_eq!(node.send(request("DELETE", location, &[], "")).await.status, 200);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_answer_503_with_a_time_to_come_back() {
    let node = Running::start("whip-full", |raw| raw.limits.sessions = 1).await;
    assert_eq!(node.publish("a").await.status, 201);
    let full = node.publish("b").await;
    assert_eq!((full.status, full.json()["type"].as_str()), (503, Some("limit-reached")));
    assert!(!full.header("retry-after").is_empty());
    node.stop().await.unwrap();

    let node = Running::start("webrtc-off", |raw| raw.webrtc.enabled = false).await;
    let off = node.publish("a").await;
    assert_eq!((off.status, off.json()["type"].as_str()), (503, Some("webrtc-off")));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_dribbles_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let node = Running::start("whip-body", |raw| {
        raw.limits.http_body_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head = "POST /whip/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n\
        Content-Length: 100\r\n\r\nv=0";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = tokio::time::timeout(crate::support::PATIENCE, stream.read(&mut answer)).await;
    assert!(read.unwrap().unwrap() > 0);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_and_bad_names_are_not() {
    let node = Running::start("pages", |_| {}).await;
    for path in ["/", "/publish/a/b", "/play/a"] {
        let answer = node.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with("text/html"), "{path}");
    }
    assert_eq!(node.get("/play/a//b").await.status, 400);
    assert_eq!(node.get("/assets/nothing.js").await.status, 404);
    node.stop().await.unwrap();
}
