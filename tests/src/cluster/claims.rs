//! Claims that cost nothing: an offer by WHIP whose peer never connects, and the session's end.
//!
//! Not here: media.
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::member::LOOK;
use crate::conformance::client::{Answer, Client};

/// An offer to send one video, which nobody will ever send.
#[must_use]
pub fn offer() -> String {
    let transport = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=rtcp-mux\r\n";
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtpmap:96 VP8/90000\r\n{transport}"
    )
}

/// Asks to publish a stream by WHIP.
///
/// # Errors
/// The connection failed.
pub async fn claim(client: &Client, stream: &str) -> Result<Answer, String> {
    let request =
        Request::post(format!("/whip/{stream}")).header("content-type", "application/sdp");
    client.send(request, Bytes::from(offer())).await
}

/// Ends the session of a claim that was granted.
pub async fn end(client: &Client, granted: &Answer) {
    let session = granted.headers.get("location").and_then(|value| value.to_str().ok());
    if let Some(session) = session {
        // The node may be gone by now.
        let _ = client.send(Request::delete(session), Bytes::new()).await;
    }
}

/// Claims new names until one is granted; gives the time that this took.
///
/// # Errors
/// None is within `patience`; the last answer.
pub async fn until_granted(
    client: &Client,
    prefix: &str,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for n in 0.. {
        let answer = claim(client, &format!("{prefix}/{n}")).await;
        if let Ok(granted) = answer.as_ref()
            && granted.status == 201
        {
            let took = began.elapsed();
            end(client, granted).await;
            return Ok(took);
        }
        anyhow::ensure!(began.elapsed() < patience, "no claim is granted: {answer:?}");
        tokio::time::sleep(LOOK).await;
    }
    anyhow::bail!("unreachable: the loop does not end")
}
