//! Tests of the metrics' names, labels and values.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rounds::types::{Commit, Digest, MemberView};

use super::*;

#[test]
fn a_worker_reports_with_its_labels() {
    let mut registry = Registry::new(vec![("run", "demo".to_owned()), ("island", "a".to_owned())]);
    let metrics = WorkerMetrics::new(&mut registry);
    metrics.tokens.inc_by(4096);
    metrics.loss.set(2.5);
    metrics.heldout_loss.set(2.75);
    metrics.round.set(3);
    metrics.step(Duration::from_millis(30));
    metrics.bytes(Direction::Sent, Peer::Island, 100);
    metrics.bytes(Direction::Sent, Peer::Island, 20);
    let text = registry.encode();
    for line in [
        r#"heteroloco_tokens_total{run="demo",island="a"} 4096"#,
        r#"heteroloco_loss{run="demo",island="a"} 2.5"#,
        r#"heteroloco_heldout_loss{run="demo",island="a"} 2.75"#,
        r#"heteroloco_round{run="demo",island="a"} 3"#,
        r#"heteroloco_step_seconds_count{run="demo",island="a"} 1"#,
        r#"heteroloco_step_seconds_bucket{run="demo",island="a",le="0.04"} 1"#,
        concat!(
            r#"heteroloco_network_bytes_total{run="demo",island="a","#,
            r#"direction="sent",peer="island"} 120"#,
        ),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

fn view(phase: Phase, states: &[MemberState]) -> RunView {
    let member = |&state: &MemberState| MemberView {
        island: "a".to_owned(),
        epoch: 1,
        state,
        ..MemberView::default()
    };
    RunView {
        phase,
        round: 9,
        tokens: 12_345,
        members: states.iter().map(member).collect(),
        commits: vec![Commit {
            round: 8,
            set: Vec::new(),
            record_hash: Digest([0; 32]),
            tokens: 0,
            samples: 0,
        }],
        ..RunView::default()
    }
}

#[test]
fn the_coordinator_reports_the_newest_view() {
    let mut registry = Registry::new(vec![]);
    let metrics = CoordinatorMetrics::new(&mut registry);
    metrics.observe(&view(Phase::Waiting, &[MemberState::Syncing]));
    metrics.observe(&view(Phase::Training, &[MemberState::Active, MemberState::Active]));
    let text = registry.encode();
    for line in [
        "heteroloco_round 9",
        "heteroloco_committed_tokens 12345",
        "heteroloco_contributions 0",
        r#"heteroloco_members{state="syncing"} 0"#,
        r#"heteroloco_members{state="active"} 2"#,
        r#"heteroloco_phase{phase="waiting"} 0"#,
        r#"heteroloco_phase{phase="training"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

/// Names of metrics in a text, as they are registered.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split(|c| !word(c)).filter(|name| name.starts_with("heteroloco_"));
    let end = |name: &str| {
        let ends = ["_bucket", "_sum", "_count", "_total"];
        let short = ends.iter().find_map(|end| name.strip_suffix(end));
        short.unwrap_or(name).to_owned()
    };
    names.map(end).collect()
}

#[test]
fn what_the_chart_asks_prometheus_for_is_there() {
    let mut registry = Registry::new(vec![]);
    // A metric with labels is there once it was counted.
    WorkerMetrics::new(&mut registry).bytes(Direction::Sent, Peer::Island, 1);
    CoordinatorMetrics::new(&mut registry).observe(&view(Phase::Waiting, &[MemberState::Active]));
    let operator = OperatorMetrics::new(&mut registry);
    operator.reconciled("island", Duration::from_millis(1), Some("api"));
    operator.islands([("running", 1)].into_iter());
    let there = named(&registry.encode());
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/heteroloco");
    let files = ["dashboards", "templates"].map(|folder| fs::read_dir(chart.join(folder)));
    let files = files.into_iter().flat_map(|files| files.expect("a folder"));
    let mut asked = BTreeSet::new();
    for file in files.map(|file| file.expect("a file").path()).filter(|path| path.is_file()) {
        asked.extend(named(&fs::read_to_string(file).expect("text")));
    }
    assert!(asked.len() > 10, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {there:?}");
}
