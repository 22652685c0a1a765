//! Requests that wait with others and are answered in one burst.
//!
//! Not here: the connections that make them (`direct`).

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::direct::Seat;

/// A client's end of a connection, and the server's.
async fn connected() -> (TcpStream, Arc<Seat>, impl Sized) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (read, write) = listener.accept().await.unwrap().0.into_split();
    (client, Arc::new(Seat::new(write)), read)
}

impl Server {
    /// Lets a request wait, if it may.
    fn park(&self, path: &str, seat: &Arc<Seat>) -> Option<Duration> {
        let request = Request::builder().uri(path).body(()).unwrap();
        self.service.park(&request, LOOPBACK, seat)
    }
}

async fn read_answer(client: &mut TcpStream) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    loop {
        assert!(client.read_buf(&mut all).await.unwrap() > 0, "the answer ends too soon");
        let Some(at) = all.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(all[..at].to_vec()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if all.len() - at - 4 == length.unwrap().parse::<usize>().unwrap() {
            return (head, all.split_off(at + 4));
        }
    }
}

#[tokio::test]
async fn what_is_sent_to_all_who_wait_is_what_each_would_have_got() {
    let (server, mut rig) = running().await;
    let playlist = "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2";
    let delta = "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2&_HLS_skip=YES";
    let (part, later) = ("/hls/a/-/video/3.2.m4s", "/hls/a/-/video/index.m3u8?_HLS_msn=4");
    let mut waiting = Vec::new();
    for path in [playlist, playlist, delta, part, later] {
        let (client, seat, read) = connected().await;
        assert!(server.park(path, &seat).is_some(), "{path}");
        waiting.push((path, client, seat, read));
    }
    for _ in 0..6 {
        rig.frame();
    }
    let (_, _client, _seat, _read) = waiting.pop().unwrap();
    for (path, mut client, _seat, _read) in waiting {
        let (head, body) = read_answer(&mut client).await;
        let ordinary = server.get(path).await;
        assert!(body == ordinary.body, "{path}");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for (name, value) in &ordinary.headers {
            let line = format!("{name}: {}", value.to_str().unwrap());
            assert!(head.lines().any(|known| known == line), "{path}: {line} is not in {head}");
        }
    }
}

#[tokio::test]
async fn what_is_there_already_or_is_asked_for_otherwise_does_not_wait_with_others() {
    let (server, _rig) = running().await;
    let (_client, seat, _read) = connected().await;
    for path in [
        "/hls/a/-/video/index.m3u8",
        "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=1",
        "/hls/a/-/video/index.m3u8?_HLS_msn=9",
        "/hls/a/-/video/3.1.m4s",
        "/hls/a/-/video/3.m4s",
        "/hls/a/index.m3u8",
        "/hls/b/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2",
    ] {
        assert!(server.park(path, &seat).is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_node_that_shuts_down_has_all_who_wait_together_answered_in_the_ordinary_way() {
    let (server, _rig) = running().await;
    let next = "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2";
    let (_client, seat, _read) = connected().await;
    assert!(server.park(next, &seat).is_some());
    server.service.close();
    server.settle().await;
    assert!(seat.look().is_some(), "it waits no more");
    assert!(server.park(next, &seat).is_none(), "nobody waits any more");
}
