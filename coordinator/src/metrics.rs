//! The coordinator's figures for Prometheus: always those of the newest view.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rounds::types::{MemberState, Phase, RunView};
use telemetry::metrics::{Name, Registry};

/// What is told of a view.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorMetrics {
    round: Gauge,
    tokens: Gauge,
    contributions: Gauge,
    members: Family<StateLabel, Gauge>,
    phase: Family<PhaseLabel, Gauge>,
}

impl CoordinatorMetrics {
    /// Adds the metrics to the registry.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            round: Gauge::default(),
            tokens: Gauge::default(),
            contributions: Gauge::default(),
            members: Family::default(),
            phase: Family::default(),
        };
        let registry = registry.register();
        registry.register("round", "Round in progress", metrics.round.clone());
        let help = "Tokens of all committed rounds";
        registry.register("committed_tokens", help, metrics.tokens.clone());
        let help = "Islands in the round committed last";
        registry.register("contributions", help, metrics.contributions.clone());
        registry.register("members", "Islands by state", metrics.members.clone());
        let help = "1 for the phase that the run is in, 0 for the others";
        registry.register("phase", help, metrics.phase.clone());
        metrics
    }

    /// Shows a view.
    pub(crate) fn observe(&self, view: &RunView) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.round.set(signed(view.round));
        self.tokens.set(signed(view.tokens));
        let last = view.commits.last().map_or(0, |commit| commit.set.len());
        self.contributions.set(signed(last as u64));
        for state in [MemberState::Syncing, MemberState::Ready, MemberState::Active] {
            let members = view.members.iter().filter(|member| member.state == state).count();
            let state = StateLabel { state: Name(state_name(state)) };
            self.members.get_or_create(&state).set(signed(members as u64));
        }
        for phase in [Phase::Waiting, Phase::Training, Phase::Fetching, Phase::Done] {
            let label = PhaseLabel { phase: Name(phase_name(phase)) };
            self.phase.get_or_create(&label).set(i64::from(view.phase == phase));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: Name,
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Syncing => "syncing",
        MemberState::Ready => "ready",
        MemberState::Active => "active",
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Training => "training",
        Phase::Fetching => "fetching",
        Phase::Done => "done",
    }
}

#[cfg(test)]
mod tests {
    use rounds::types::{Commit, Digest, MemberView};

    use super::*;

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
}
