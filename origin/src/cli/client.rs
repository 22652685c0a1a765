//! Finds a running node and asks its API.
//!
//! Not here: what is printed of the answer (`live`).

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::FindArgs;
use crate::config::Config;
use crate::node::{api_url, read_record};

/// Where a node is looked for when nothing says otherwise.
const DEFAULT_API: &str = "http://127.0.0.1:8080";
/// How long a command waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The API's URL: `--api`, else `[http]` of `-c`, else what `--data` records, else the default.
fn find(args: &FindArgs) -> anyhow::Result<String> {
    if let Some(url) = &args.api {
        anyhow::ensure!(
            url.starts_with("http://"),
            "--api: {url:?} is not a URL that begins with http://"
        );
        return Ok(url.trim_end_matches('/').to_owned());
    }
    if args.config.is_some() {
        let config = Config::load(args.config.as_deref(), &[])?;
        let values = config.values();
        anyhow::ensure!(
            values.http.enabled,
            "a node with [http] enabled = false has no API to ask"
        );
        if values.http.listen.port() != 0 {
            return Ok(api_url(values.http.listen));
        }
        // The system chose the port; the node has written down which.
        let data = args.data.as_ref().unwrap_or(&values.general.data);
        return Ok(read_record(data).context("no node seems to run with this file")?.api);
    }
    match &args.data {
        Some(data) => Ok(read_record(data).context("no node seems to run on this folder")?.api),
        None => Ok(DEFAULT_API.to_owned()),
    }
}

/// One request without a body; the answer's JSON (null for an empty body).
///
/// # Errors
/// The node is not reached or refuses; the text is its own.
pub(super) fn ask(args: &FindArgs, method: Method, path: &str) -> anyhow::Result<Value> {
    send(args, method, path, None)
}

/// One request, with a body of JSON where one is given.
///
/// # Errors
/// As [`ask`].
pub(super) fn send(
    args: &FindArgs,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let url = find(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let answer = runtime
        .block_on(async {
            let asking = request(method, format!("{url}{path}"), body);
            tokio::time::timeout(ANSWER_TIMEOUT, asking).await
        })
        .with_context(|| format!("{url} does not answer"))?;
    let (status, body) = answer.with_context(|| format!("cannot reach a node at {url}"))?;
    let json: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).with_context(|| format!("{url} is not a Headwater node"))?
    };
    if status.is_success() {
        return Ok(json);
    }
    let detail = json.get("detail").and_then(Value::as_str);
    anyhow::bail!("{}", detail.unwrap_or(status.as_str()))
}

async fn request(
    method: Method,
    url: String,
    body: Option<&Value>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let mut request = Request::builder().method(method).uri(url);
    let text = body.map(Value::to_string);
    if text.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::<Bytes>::from(text.unwrap_or_default()))?;
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
