//! A rank's metrics: what happens in the run, put into Prometheus' terms.

use std::fmt::{self, Write as _};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use contract::event::WorkerEvent;
use member::RoundReport;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::events::emit;

type Number = Gauge<f64, AtomicU64>;

/// Where bytes went to or came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    /// A neighbouring pipeline stage of the same island.
    Stage,
    /// A rank of another island.
    Island,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Sent,
    Received,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Traffic {
    direction: Direction,
    peer: Peer,
}

/// Shared by the train loop and the server.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    tokens: Counter,
    loss: Number,
    heldout_loss: Number,
    round: Gauge,
    skipped_steps: Counter,
    step_seconds: Histogram,
    network: Family<Traffic, Counter>,
}

impl Metrics {
    /// Metrics labelled with who speaks.
    pub fn new(run: &str, island: &str, rank: u32) -> Metrics {
        let registry = Registry::new(vec![
            ("run", run.to_string()),
            ("island", island.to_string()),
            ("rank", rank.to_string()),
        ]);
        let mut metrics = Metrics {
            registry: Arc::default(),
            tokens: Counter::default(),
            loss: Gauge::default(),
            heldout_loss: Gauge::default(),
            round: Gauge::default(),
            skipped_steps: Counter::default(),
            step_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            network: Family::default(),
        };
        metrics.registry = Arc::new(metrics.registered(registry));
        metrics
    }

    fn registered(&self, mut all: Registry) -> Registry {
        let registry = all.register();
        registry.register("tokens", "Tokens trained on", self.tokens.clone());
        registry.register("loss", "Training loss, nats per token", self.loss.clone());
        let help = "Held-out loss, nats per token";
        registry.register("heldout_loss", help, self.heldout_loss.clone());
        registry.register("round", "Round in progress", self.round.clone());
        let help = "Inner steps skipped because loss or gradient was not finite";
        registry.register("skipped_steps", help, self.skipped_steps.clone());
        let help = "Time of an inner step";
        registry.register_with_unit("step", help, Unit::Seconds, self.step_seconds.clone());
        let help = "Bytes on the network";
        registry.register_with_unit("network", help, Unit::Bytes, self.network.clone());
        all
    }

    fn bytes(&self, direction: Direction, peer: Peer, bytes: u64) {
        self.network.get_or_create(&Traffic { direction, peer }).inc_by(bytes);
    }

    /// An inner step was made.
    pub fn step(&self, round: u64, tokens: u64, loss: f64, seconds: f64) {
        self.round.set(i64::try_from(round).unwrap_or(i64::MAX));
        self.tokens.inc_by(tokens);
        self.loss.set(loss);
        self.step_seconds.observe(seconds.max(0.0));
    }

    /// A step was not finite and changed nothing.
    pub fn skipped_step(&self) {
        self.skipped_steps.inc();
    }

    /// A round was applied.
    pub fn round(&self, report: &RoundReport) {
        self.round.set(i64::try_from(report.round + 1).unwrap_or(i64::MAX));
        self.bytes(Direction::Sent, Peer::Island, report.bytes_sent);
        self.bytes(Direction::Received, Peer::Island, report.bytes_received);
    }

    /// Activations and their gradients went to neighbouring stages.
    pub fn boundary(&self, bytes: u64) {
        self.bytes(Direction::Sent, Peer::Stage, bytes);
    }

    /// Held-out loss was measured.
    pub fn heldout(&self, loss: f64) {
        self.heldout_loss.set(loss);
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

impl EncodeLabelValue for Peer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Stage => "stage",
            Self::Island => "island",
        })
    }
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Sent => "sent",
            Self::Received => "received",
        })
    }
}

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_reports_with_its_labels() {
        let metrics = Metrics::new("demo", "a", 2);
        metrics.step(3, 4096, 2.5, 0.03);
        metrics.heldout(2.75);
        metrics.boundary(100);
        metrics.boundary(20);
        let text = metrics.registry.encode();
        let labels = r#"run="demo",island="a",rank="2""#;
        for line in [
            format!("heteroloco_tokens_total{{{labels}}} 4096"),
            format!("heteroloco_loss{{{labels}}} 2.5"),
            format!("heteroloco_heldout_loss{{{labels}}} 2.75"),
            format!("heteroloco_round{{{labels}}} 3"),
            format!("heteroloco_step_seconds_count{{{labels}}} 1"),
            format!("heteroloco_step_seconds_bucket{{{labels},le=\"0.04\"}} 1"),
            format!(
                "heteroloco_network_bytes_total{{{labels},direction=\"sent\",peer=\"stage\"}} 120"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_rank_without_a_port_for_its_metrics_goes_on_without() {
        let metrics = Metrics::new("run", "island", 0);
        let (runtime, address) = metrics.listen("127.0.0.1:0").expect("a free port");
        assert!(metrics.listen(&address.to_string()).is_none(), "it is taken");
        assert!(metrics.listen("no address").is_none());
        runtime.shutdown_background();
    }
}
