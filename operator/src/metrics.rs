//! The operator's figures for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
use telemetry::metrics::{Name, Registry};

/// What the operator reports.
#[derive(Clone, Debug)]
pub(crate) struct OperatorMetrics {
    reconciles: Family<Reconciled, Counter>,
    durations: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    errors: Family<Erred, Counter>,
    islands: Family<StateLabel, Gauge>,
    leader: Gauge,
}

impl OperatorMetrics {
    /// Adds the metrics to the registry.
    #[must_use]
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 16))
            }),
            errors: Family::default(),
            islands: Family::default(),
            leader: Gauge::default(),
        };
        let registry = registry.register();
        registry.register("reconciles", "Reconciles by outcome", metrics.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("reconcile_errors", "Errors by class", metrics.errors.clone());
        registry.register("islands", "Islands by state", metrics.islands.clone());
        registry.register("leader", "1 while this replica works", metrics.leader.clone());
        metrics
    }

    /// A reconcile ended: after how long, and with which class of error where it failed.
    pub(crate) fn reconciled(
        &self,
        controller: &'static str,
        time: std::time::Duration,
        error: Option<&'static str>,
    ) {
        let controller = Name(controller);
        let outcome = Name(if error.is_some() { "error" } else { "success" });
        self.reconciles.get_or_create(&Reconciled { controller, outcome }).inc();
        let durations = self.durations.get_or_create(&ControllerLabel { controller });
        durations.observe(time.as_secs_f64());
        if let Some(class) = error {
            self.errors.get_or_create(&Erred { controller, class: Name(class) }).inc();
        }
    }

    /// How many islands are in each state.
    pub(crate) fn islands(&self, states: impl Iterator<Item = (&'static str, usize)>) {
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.islands.get_or_create(&StateLabel { state: Name(state) }).set(count);
        }
    }

    /// Sets whether this replica works.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    controller: Name,
    outcome: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Erred {
    controller: Name,
    class: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: Name,
}
