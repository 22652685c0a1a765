//! A small HTTP/1.1 client for the reader: connections are kept and reused, answers are timed.
//!
//! Not here: what is asked for (`follow`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// No answer of a server may take longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    base: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When its last byte was there.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8, or the status is not 200.
    pub fn text(&self) -> Result<&str, String> {
        let text = std::str::from_utf8(&self.body).map_err(|error| error.to_string())?;
        if self.status == 200 { Ok(text) } else { Err(format!("status {}: {text}", self.status)) }
    }
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn new(base: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector), base: base.into() }
    }

    /// Gets `path`.
    ///
    /// # Errors
    /// The connection failed, or no answer came in a minute.
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// Sends a request, whose URI is a path, with a body.
    ///
    /// # Errors
    /// The connection failed, or no answer came in a minute.
    pub async fn send(&self, request: Builder, body: Bytes) -> Result<Answer, String> {
        let began = Instant::now();
        let mut request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let path = request.uri().to_string();
        let uri = format!("{}{path}", self.base).parse::<Uri>();
        *request.uri_mut() = uri.map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            let (at, took) = (Instant::now(), began.elapsed());
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, at, took })
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        let answer: Result<Answer, String> = answer.unwrap_or_else(|_| Err("no answer".into()));
        answer.map_err(|why| format!("{path}: {why}"))
    }
}
