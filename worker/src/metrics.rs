//! A rank's metrics: what happens in the run, put into Prometheus' terms.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use member::RoundReport;
use telemetry::metrics::{Direction, Peer, Registry, WorkerMetrics};
use tokio::net::TcpListener;

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

    /// Answers requests until the runtime ends.
    pub async fn serve(self, listener: std::net::TcpListener) {
        match TcpListener::from_std(listener) {
            Ok(listener) => telemetry::serve(listener, self.registry, pending()).await,
            Err(error) => tracing::error!(%error, "Metrics cannot be served."),
        }
    }
}
