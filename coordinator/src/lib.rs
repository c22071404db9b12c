//! The coordinator of a run: a gRPC server around the pure decisions of `rounds`, and its store.

pub mod app;
mod engine;
mod keeper;
mod meet;
mod metrics;
mod service;
pub mod spec;
pub mod standing;
mod status;
pub mod store;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::coordinator_server::CoordinatorServer;
use proto::{Keepalive, MESSAGE_BYTES_MAX};
use rounds::config::Config;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub use engine::EngineError;
use engine::{Engine, Handle};
use metrics::CoordinatorMetrics;
use service::Service;
use store::Store;

/// Calls that one connection may have open.
const CONNECTION_STREAMS_MAX: u32 = 256;
/// The largest call: a join of an island with many ranks.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// After the engine's end, connections that do not close are dropped.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// The sockets on which a coordinator is reached.
#[derive(Debug)]
pub struct Listeners {
    /// The socket for members.
    pub members: TcpListener,
    /// The socket for Prometheus, where wanted.
    pub metrics: Option<TcpListener>,
}

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run's state cannot be kept.
    #[error("failed to coordinate the run")]
    Engine(#[from] EngineError),
    /// The server failed.
    #[error("failed to serve members")]
    Serve(#[from] tonic::transport::Error),
}

/// Coordinates the run of `config`, which `store` may know from before, until `shutdown` completes.
///
/// # Errors
/// The store is another run's, or the store or the server fails.
pub async fn run(
    listeners: Listeners,
    config: Config,
    store: Store,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let (name, lease_ms) = (config.name.clone(), config.lease_ms);
    let (engine, handle) = Engine::new(config, store)?;
    let metrics = listeners
        .metrics
        .map(|listener| tokio::spawn(serve_metrics(listener, handle.clone(), name.clone())));
    let (ended, end) = oneshot::channel::<()>();
    let service = CoordinatorServer::new(Service::new(handle, name, lease_ms))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let keepalive = Keepalive::default();
    let incoming = keepalive.incoming(TcpIncoming::from(listeners.members));
    let server = keepalive
        .server(Server::builder())
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, async {
            // An engine that fails drops the sender, which is the end as well.
            let _ = end.await;
        });
    let server = tokio::spawn(server);
    let coordinated = engine.run(shutdown).await;
    drop(ended);
    let served = tokio::time::timeout(DRAIN_WAIT, server).await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    coordinated?;
    match served {
        Ok(Ok(served)) => Ok(served?),
        Ok(Err(error)) => Err(EngineError::Lost(error).into()),
        Err(_) => {
            tracing::warn!("Connections of members did not close in time.");
            Ok(())
        }
    }
}

/// Serves metrics of the newest view until the engine is gone.
async fn serve_metrics(listener: TcpListener, engine: Handle, run: String) {
    let mut registry = Registry::new(vec![("run", run)]);
    let metrics = CoordinatorMetrics::new(&mut registry);
    let mut views = engine.views();
    let observe = async move {
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            metrics.observe(&view);
            if views.changed().await.is_err() {
                return;
            }
        }
    };
    telemetry::serve(listener, Arc::new(registry), observe).await;
}

/// Binds an address.
///
/// # Errors
/// It is not free or not an address of this machine.
pub async fn listen(address: &str) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address: address.to_string(), source })
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on {address}{}",
    if source.kind() == io::ErrorKind::AddrInUse { ": another program has the port" } else { "" }
)]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// Why.
    pub source: io::Error,
}
