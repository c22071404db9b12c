//! A rank's metrics: what happens in the run, put into Prometheus' terms.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::event::WorkerEvent;
use member::RoundReport;
use telemetry::metrics::{Direction, Peer, Registry, WorkerMetrics};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::events::emit;

/// Shared by the train loop and the server.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    worker: WorkerMetrics,
}

impl Metrics {
    /// Metrics labelled with who speaks.
    pub fn new(run: &str, island: &str, rank: u32) -> Metrics {
        let mut registry = Registry::new(vec![
            ("run", run.to_string()),
            ("island", island.to_string()),
            ("rank", rank.to_string()),
        ]);
        let worker = WorkerMetrics::new(&mut registry);
        Metrics { registry: Arc::new(registry), worker }
    }

    /// An inner step was made.
    pub fn step(&self, round: u64, tokens: u64, loss: f64, seconds: f64) {
        self.worker.round.set(i64::try_from(round).unwrap_or(i64::MAX));
        self.worker.tokens.inc_by(tokens);
        self.worker.loss.set(loss);
        self.worker.step(Duration::from_secs_f64(seconds.max(0.0)));
    }

    /// A step was not finite and changed nothing.
    pub fn skipped_step(&self) {
        self.worker.skipped_steps.inc();
    }

    /// A round was applied.
    pub fn round(&self, report: &RoundReport) {
        self.worker.round.set(i64::try_from(report.round + 1).unwrap_or(i64::MAX));
        self.worker.bytes(Direction::Sent, Peer::Island, report.bytes_sent);
        self.worker.bytes(Direction::Received, Peer::Island, report.bytes_received);
    }

    /// Activations and their gradients went to neighbouring stages.
    pub fn boundary(&self, bytes: u64) {
        self.worker.bytes(Direction::Sent, Peer::Stage, bytes);
    }

    /// Held-out loss was measured.
    pub fn heldout(&self, loss: f64) {
        self.worker.heldout_loss.set(loss);
    }

    /// Serves `/metrics` on threads of its own while the returned runtime lives, at the address
    /// that comes with it. Training does not depend on it: where it is not served, people are told.
    pub fn listen(&self, listen: &str) -> Option<(Runtime, SocketAddr)> {
        let served = self.try_listen(listen);
        let told = |error: &io::Error| {
            let message =
                format!("failed to serve metrics on {listen}: {error}; nobody can see them");
            tracing::warn!("{message}");
            emit(&WorkerEvent::Warning { message });
        };
        served.inspect_err(told).ok()
    }

    fn try_listen(&self, listen: &str) -> io::Result<(Runtime, SocketAddr)> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("metrics")
            .enable_all()
            .build()?;
        runtime.spawn(self.clone().serve(listener));
        Ok((runtime, address))
    }

    /// Answers requests until the runtime ends.
    async fn serve(self, listener: std::net::TcpListener) {
        match TcpListener::from_std(listener) {
            Ok(listener) => telemetry::serve(listener, self.registry, pending()).await,
            Err(error) => tracing::error!(%error, "Metrics cannot be served."),
        }
    }
}

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_without_a_port_for_its_metrics_goes_on_without() {
        let metrics = Metrics::new("run", "island", 0);
        let (runtime, address) = metrics.listen("127.0.0.1:0").expect("a free port");
        assert!(metrics.listen(&address.to_string()).is_none(), "it is taken");
        assert!(metrics.listen("no address").is_none());
        runtime.shutdown_background();
    }
}
