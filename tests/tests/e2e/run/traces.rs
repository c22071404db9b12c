//! The traces that a run exports, as a collector gets them.

use std::collections::BTreeSet;

use test_cluster::Collector;

use super::place::{Place, two_islands};

#[test]
fn a_round_is_one_trace_across_the_coordinator_and_all_islands() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start()).unwrap();

    let place = Place::new();
    place.manifests(2_000, &two_islands());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let (_, code, complaints) = place.up_with(&[], &environment).end();
    assert_eq!(code, 0, "{complaints}");

    let wanted = [
        "heteroloco-coordinator//offer",
        "heteroloco-coordinator//applied",
        "heteroloco-worker/a/train",
        "heteroloco-worker/a/fetch",
        "heteroloco-worker/a/pull",
        "heteroloco-worker/b/train",
        "heteroloco-worker/b/fetch",
        "heteroloco-worker/b/pull",
    ];
    let traces = collector.traces();
    let whole = |spans: &BTreeSet<String>| wanted.iter().all(|span| spans.contains(*span));
    assert!(traces.iter().any(whole), "no trace has {wanted:?}: {traces:#?}");
}
