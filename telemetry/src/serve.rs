//! Serves `/metrics` to Prometheus, `/healthz` and `/readyz` to whoever watches the process.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::metrics::Registry;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CONNECTIONS_MAX: usize = 16;
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// A connection is closed after this time, whatever it does.
const CONNECTION_WAIT: Duration = Duration::from_secs(60);
/// After an accept that failed, for example for want of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Answers `GET /metrics` and `GET /healthz` until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    shutdown: impl Future<Output = ()>,
) {
    serve_ready(listener, registry, Arc::new(AtomicBool::new(true)), shutdown).await;
}

/// Answers `GET /readyz` besides: 200 where `ready`, else 503.
pub async fn serve_ready(
    listener: TcpListener,
    registry: Arc<Registry>,
    ready: Arc<AtomicBool>,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (registry, ready) = (Arc::clone(&registry), Arc::clone(&ready));
                    tokio::spawn(async move {
                        connection(stream, registry, ready).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "A connection for metrics was not accepted.");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

async fn connection(stream: TcpStream, registry: Arc<Registry>, ready: Arc<AtomicBool>) {
    let answer = service_fn(|request| {
        let ready = ready.load(Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(respond(&request, &registry, ready)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .serve_connection(TokioIo::new(stream), answer);
    // A peer that goes away or is too slow is no concern of the process.
    let _ = timeout(CONNECTION_WAIT, connection).await;
}

fn respond(request: &Request<Incoming>, registry: &Registry, ready: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, OPEN_METRICS, registry.encode()),
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET, "/readyz") if ready => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET, "/readyz") => {
            (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned())
        }
        (_, "/metrics" | "/healthz" | "/readyz") => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "see /metrics and /healthz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
