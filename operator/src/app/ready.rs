//! Asks whether an operator is ready: for `helm test`, in an image without other programs.

use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_MAX: u64 = 4096;

/// # Errors
/// When the answer is not 200.
pub(super) async fn check(url: &http::Uri) -> anyhow::Result<()> {
    let asked = tokio::time::timeout(PATIENCE, ask(url)).await;
    let answer = asked.with_context(|| format!("failed to ask {url}: no answer in time"))??;
    let code = answer.split_whitespace().nth(1).unwrap_or("none");
    anyhow::ensure!(code == "200", "{url} is not ready: it answers {code}");
    println!("{url} is ready");
    Ok(())
}

async fn ask(url: &http::Uri) -> anyhow::Result<String> {
    let host = url.host().context("failed to ask: the URL has no host")?;
    let plain = url.scheme_str().is_none_or(|scheme| scheme == "http");
    anyhow::ensure!(plain, "failed to ask {url}: only http is spoken here");
    let port = url.port_u16().unwrap_or(80);
    let connected = TcpStream::connect((host, port)).await;
    let mut stream = connected.with_context(|| format!("failed to connect to {host}:{port}"))?;
    let path = url.path();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("failed to ask")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await.context("failed to read the answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
