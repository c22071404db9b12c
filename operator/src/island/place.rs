//! Plans an island on what is idle.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use api::island::{ComputeIsland, FoundDevice};
use api::names::{Key, OPERATOR};
use api::run::TrainingRun;
use plan::cluster::{Curve, Node};
use plan::planner::{self, IslandPlan};
use plan::request::Execution;
use plan::stability::{self, MoveRules, Speeds, Weighed};
use tracing::Instrument as _;

use super::cards::{self, Idle};
use super::observe::Seen;
use super::reason::{Competitors, Refusal};
use super::standing::Plan;
use super::{Look, planned};
use crate::ledger::Ledger;

/// In which time a move to a better plan has to pay, seconds.
const HORIZON: f64 = 6.0 * 3600.0;
/// Least gain for which a running island moves, a share.
const MIN_GAIN: f64 = 0.1;
/// Seconds in which ranks are deleted and start again.
const RESTART: f64 = 60.0;
/// Seconds before the first byte of state that moves, where nothing was measured.
const LINK_LATENCY: f64 = 1e-3;
/// Bytes of it a second.
const LINK_SPEED: f64 = 1e9;

/// A plan, and the cards that it was made of.
pub(super) struct Placed {
    pub plan: IslandPlan,
    pub devices: Vec<FoundDevice>,
}

/// Plans an island; whoever calls holds `context.planning`.
///
/// # Errors
/// Why there is no plan, and the cards that were looked at.
pub(super) async fn place(look: &Look<'_>) -> Result<Placed, (Refusal, Vec<FoundDevice>)> {
    let Look { context, key, island, seen, now } = *look;
    let request = island.request().map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (Refusal::InvalidSpec(problems.join("; ")), Vec::new())
    })?;
    let Some(run) = seen.request.clone() else {
        return Err((Refusal::InvalidRun(seen.run_key.name.clone()), Vec::new()));
    };
    let idle = {
        let inventory = context.inventory();
        let nodes = context.selections().of(island, &inventory);
        cards::idle(&inventory, &context.ledger(), &nodes, (key, island), now)
    };
    let Idle { nodes, selected, unusable, competitors } = idle;
    let devices = planned::devices(&nodes);
    if selected == 0 {
        return Err((Refusal::NoNodes(unusable), devices));
    }
    let islands = context.islands_of(&seen.run_key).len().max(1);
    let cards = nodes.iter().map(|node| node.cards.len()).sum::<usize>();
    let execution = Execution::Cluster { nodes };
    // The search computes for up to a second: not on a thread that others wait for.
    let planned = tokio::task::spawn_blocking(move || {
        planner::plan_island(&run, islands, &request, &execution)
    });
    match planned.instrument(tracing::info_span!("plan", cards)).await {
        Ok(Ok(plan)) => Ok(Placed { plan, devices }),
        Ok(Err(refusal)) => Err((Refusal::Planner(refusal, competitors), devices)),
        Err(error) => Err((Refusal::PlannerFailed(error.to_string()), devices)),
    }
}

/// An older island that wants some of the same cards and was not looked at yet: of several, the
/// oldest is planned first.
pub(super) fn older(look: &Look<'_>) -> Option<Key> {
    let Look { context, key, island, .. } = *look;
    let islands = context.islands();
    let untried: Vec<&ComputeIsland> = {
        let ledger = context.ledger();
        let all = islands.iter().filter_map(|island| island.0.as_ref().ok());
        all.filter(|other| goes_first(other, island, &ledger)).collect()
    };
    if untried.is_empty() {
        return None;
    }
    let inventory = context.inventory();
    let nodes = context.selections().of(island, &inventory);
    let nodes = cards::selected(&inventory, &nodes, island);
    let is_run = |other: &ComputeIsland| {
        let run = Key::new(Key::of(other).namespace, other.spec.run_ref.name.as_str());
        let run = context.run(&run);
        run.is_some_and(|run| run.0.as_ref().is_ok_and(runs))
    };
    let mut first = untried.into_iter().filter(|other| cards::meet(&nodes, island, other));
    first.find(|other| is_run(other)).map(Key::of).filter(|other| other != key)
}

/// Whether another island is older than this one, and was never looked at.
fn goes_first(other: &ComputeIsland, island: &ComputeIsland, ledger: &Ledger) -> bool {
    let age = |island: &ComputeIsland| {
        let time = island.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (time, Key::of(island))
    };
    let observed = other.status.as_ref().and_then(|status| status.observed_generation);
    !other.spec.suspend
        && observed.is_none()
        && other.metadata.deletion_timestamp.is_none()
        && age(other) < age(island)
        && !ledger.was_tried(&Key::of(other))
}

/// Whether islands of a run are looked after here at all.
fn runs(run: &TrainingRun) -> bool {
    let own = |manager: &String| manager == OPERATOR;
    !run.spec.suspend && run.spec.managed_by.as_ref().is_none_or(own)
}

/// What a running island could have.
pub(super) struct More {
    /// Whether there are more cards than it has, and that was not tried before.
    pub there: bool,
    /// After how long cards that were in use lately count.
    pub settles: Option<Duration>,
}

/// Whether a running island could have more cards than it has.
pub(super) fn has_more(look: &Look<'_>, plan: &Plan) -> More {
    let Look { context, key, island, now, .. } = *look;
    // Not by every island every minute when nothing happens.
    let changes = context.changes();
    if context.ledger().has_seen(key, changes) {
        return More { there: false, settles: None };
    }
    let Idle { nodes, competitors: Competitors { settles, .. }, .. } = {
        let inventory = context.inventory();
        let nodes = context.selections().of(island, &inventory);
        let mut ledger = context.ledger();
        let idle = cards::idle(&inventory, &ledger, &nodes, (key, island), now);
        if idle.competitors.settles.is_none() {
            ledger.see(key, changes);
        }
        idle
    };
    let first = context.ledger().first_look(key, fingerprint(&nodes));
    More { there: usable(island, &nodes) > plan.cards as usize && first, settles }
}

/// Cards of these nodes that an island could use at most.
fn usable(island: &ComputeIsland, nodes: &[Node]) -> usize {
    let most = island
        .request()
        .map_or(0, |request| request.devices.iter().map(|device| device.max as usize).sum());
    let there = nodes.iter().flat_map(|node| &node.cards);
    there.filter(|card| cards::wants(island, &card.product)).count().min(most)
}

/// The same for the same numbers of cards on the same nodes.
fn fingerprint(nodes: &[Node]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for node in nodes {
        (&node.name, node.cards.len()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether to leave a running plan for another.
pub(super) fn weigh(running: &Plan, better: &IslandPlan, seen: &Seen) -> Weighed {
    let parameters = seen.request.as_ref().map_or(0, |run| run.model.parameters());
    weigh_speeds(running.tokens_per_second as f64, better.spec.tokens_per_second, parameters)
}

/// The same by tokens a second, `now` and `then`, of a model with so many parameters.
fn weigh_speeds(now: f64, then: f64, parameters: u64) -> Weighed {
    let link = Curve::linear(LINK_LATENCY, LINK_SPEED);
    let rules = MoveRules {
        horizon_seconds: HORIZON,
        move_seconds: stability::move_seconds(parameters, &link, RESTART),
        min_gain: MIN_GAIN,
    };
    stability::decide(Speeds { now, then }, rules)
}

#[cfg(test)]
mod tests {
    use api::island::{ComputeIslandStatus, PlanPhase};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::super::examples::{self, H100, L4, at, inventory, node};
    use super::*;
    use crate::ledger::{Known, Promise};

    fn aged(name: &str, second: Option<i64>) -> ComputeIsland {
        let mut island = examples::island(&[H100], &json!({}));
        island.metadata.name = Some(name.into());
        island.metadata.creation_timestamp = second.map(|second| Time(at(second)));
        island
    }

    #[test]
    fn of_islands_that_were_never_looked_at_the_oldest_goes_first() {
        let own = aged("lab", Some(50));
        let mut ledger = Ledger::default();
        let first = |other: &ComputeIsland, ledger: &Ledger| goes_first(other, &own, ledger);
        let older = aged("desk", Some(49));
        assert!(first(&older, &ledger));
        assert!(!first(&aged("desk", Some(51)), &ledger));
        assert!(first(&aged("attic", Some(50)), &ledger), "of the same age, by name");
        assert!(!first(&own, &ledger) && !first(&aged("yard", Some(50)), &ledger));
        let change = |change: fn(&mut ComputeIsland)| {
            let mut changed = older.clone();
            change(&mut changed);
            changed
        };
        let suspended = change(|other| other.spec.suspend = true);
        let leaving = change(|other| other.metadata.deletion_timestamp = Some(Time(at(60))));
        let observed = change(|other| {
            let status = ComputeIslandStatus { observed_generation: Some(1), ..Default::default() };
            other.status = Some(status);
        });
        for other in [suspended, leaving, observed] {
            assert!(!first(&other, &ledger), "{other:?}");
        }
        ledger.tried(&Key::of(&older), true);
        assert!(!first(&older, &ledger), "it was looked at, and is waited for no more");
        let planned = aged("shed", Some(1));
        let plan = examples::plan(PlanPhase::Planned, 0);
        let promise = Promise { run: Key::default(), plan, known: Known::Nothing };
        ledger.promise(&Key::of(&planned), promise);
        assert!(!first(&planned, &ledger));
    }

    #[test]
    fn an_island_is_let_first_only_where_its_run_is_looked_after_here() {
        let with = |change: fn(&mut TrainingRun)| {
            let mut run = examples::run();
            change(&mut run);
            runs(&run)
        };
        assert!(with(|_| {}));
        assert!(with(|run| run.spec.managed_by = Some(OPERATOR.into())));
        assert!(!with(|run| run.spec.managed_by = Some("kueue.x-k8s.io/multikueue".into())));
        assert!(!with(|run| run.spec.suspend = true));
    }

    #[test]
    fn an_island_could_use_what_its_devices_name_and_no_more_than_they_say() {
        let inventory = inventory(vec![node("a", H100, 8, false), node("b", L4, 4, false)], vec![]);
        let nodes: Vec<Node> = inventory.nodes().map(|(_, facts)| facts.machine.clone()).collect();
        let of = |devices: serde_json::Value| {
            let mut island = examples::island(&[H100], &json!({}));
            island.spec.devices = serde_json::from_value(devices).expect("devices");
            usable(&island, &nodes)
        };
        assert_eq!(of(json!([{"product": H100, "count": 3}])), 3);
        assert_eq!(of(json!([{"product": H100, "count": {"min": 1, "max": 100}}])), 8);
        assert_eq!(of(json!([{"product": "NVIDIA-A100*", "count": 8}])), 0);
        let both = json!([{"product": H100, "count": 8}, {"product": L4, "count": 8}]);
        assert_eq!(of(both), 12);
        let fewer = vec![Node { cards: vec![], ..nodes[0].clone() }, nodes[1].clone()];
        assert_ne!(fingerprint(&nodes), fingerprint(&fewer));
        assert_eq!(fingerprint(&nodes), fingerprint(&nodes.clone()));
    }

    #[test]
    fn a_running_island_moves_only_for_what_pays_within_hours() {
        let moves = |now, then, parameters| weigh_speeds(now, then, parameters).moves();
        assert!(moves(1000.0, 2000.0, 1 << 30));
        assert!(!moves(1000.0, 1050.0, 1 << 30), "by less than estimates are off");
        assert!(!moves(1000.0, 900.0, 1 << 30));
        assert!(!moves(1000.0, 1200.0, 1 << 50), "moving it would take longer than it gains");
        assert!(!moves(1000.0, f64::NAN, 1 << 30));
    }
}
