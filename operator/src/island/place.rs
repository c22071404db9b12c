//! Plans an island on what is idle.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use api::island::{ComputeIsland, FoundDevice, PlanStatus};
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Curve;
use plan::planner::{self, IslandPlan, Reason};
use plan::request::Execution;
use plan::stability::{self, MoveRules, Speeds, Weighed};
use plan::words::named;
use tracing::Instrument as _;

use super::cards::{self, Idle};
use super::observe::Seen;
use super::planned;
use super::status::Refused;
use crate::context::Context;
use crate::names::Key;

/// In which time a move to a better plan has to pay, seconds.
const HORIZON: f64 = 6.0 * 3600.0;
/// Least gain for which a running island moves, a share.
const MIN_GAIN: f64 = 0.1;
/// Seconds in which ranks are deleted and start again.
const RESTART: f64 = 60.0;
/// What state moves over where nothing was measured: seconds before the first byte, bytes a second.
const LINK: (f64, f64) = (1e-3, 1e9);
/// Islands that a sentence names.
const NAMED: usize = 3;

/// A plan, and the cards that it was made of.
pub(super) struct Placed {
    pub plan: IslandPlan,
    pub devices: Vec<FoundDevice>,
}

/// Plans an island; whoever calls holds `context.planning`.
///
/// # Errors
/// Why there is no plan, and the cards that were looked at.
pub(super) async fn place(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    seen: &Seen,
    now: Timestamp,
) -> Result<Placed, (Refused, Vec<FoundDevice>)> {
    let refuse = |reason, why, for_cards| (Refused { reason, why, for_cards }, Vec::new());
    let request = island.request().map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        refuse("InvalidSpec", problems.join("; "), false)
    })?;
    let Some(run) = seen.request.clone() else {
        let name = &seen.run_key.name;
        return Err(refuse("InvalidRun", format!("see TrainingRun {name}"), false));
    };
    let idle = {
        let inventory = context.inventory();
        let nodes = context.selections().of(island, &inventory);
        cards::idle(&inventory, &context.ledger(), &nodes, (key, island), now)
    };
    let devices = planned::devices(&idle.nodes);
    if idle.selected == 0 {
        let why = match &idle.unusable {
            Some(why) => format!("no card can be used: {why}"),
            None => "no node with GPUs matches nodeSelector and tolerations: see `kubectl get \
                     nodes --show-labels`"
                .to_owned(),
        };
        return Err((Refused { reason: "NoNodes", why, for_cards: true }, devices));
    }
    let islands = context.islands_of(&seen.run_key).len().max(1);
    let cards = idle.nodes.iter().map(|node| node.cards.len()).sum::<usize>();
    let execution = Execution::Cluster { nodes: idle.nodes.clone() };
    // The search computes for up to a second: not on a thread that others wait for.
    let planned = tokio::task::spawn_blocking(move || {
        planner::plan_island(&run, islands, &request, &execution)
    });
    match planned.instrument(tracing::info_span!("plan", cards)).await {
        Ok(Ok(plan)) => Ok(Placed { plan, devices }),
        Ok(Err(refusal)) => {
            let for_cards = matches!(
                refusal.reason,
                Reason::NotEnoughCards | Reason::BelowMinimumMemory | Reason::ModelTooLarge
            );
            let reason = refusal.reason.name();
            let mut why = format!("{}: {}", refusal.message, refusal.remedy);
            if for_cards {
                why += &others(&idle);
            }
            Err((Refused { reason, why, for_cards }, devices))
        }
        Err(error) => {
            let why = format!("the planner ended without a plan: {error}");
            Err((Refused { reason: "PlannerFailed", why, for_cards: false }, devices))
        }
    }
}

/// Who has cards that an island waits for.
fn others(idle: &Idle) -> String {
    let mut who = Vec::new();
    if !idle.holders.is_empty() {
        let holders: Vec<_> = idle.holders.iter().map(ToString::to_string).collect();
        who.push(format!("island {}", named(&holders, NAMED)));
    }
    if idle.foreign > 0 {
        who.push(format!("other pods ({} cards)", idle.foreign));
    }
    let mut text = String::new();
    if !who.is_empty() {
        text = format!("; it waits for cards of {}", who.join(" and of "));
    }
    if let Some(settles) = idle.settles {
        text += &format!("; cards that were freed lately count in {} s", settles.as_secs().max(1));
    }
    text
}

/// An older island that wants some of the same cards and was not looked at yet: of several, the
/// oldest is planned first.
pub(super) fn older(context: &Context, key: &Key, island: &ComputeIsland) -> Option<Key> {
    let age = |island: &ComputeIsland| {
        let time = island.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (time, island.metadata.namespace.clone(), island.metadata.name.clone())
    };
    let own = age(island);
    let islands = context.islands();
    let untried: Vec<&ComputeIsland> = {
        let ledger = context.ledger();
        let all = islands.iter().filter_map(|island| island.0.as_ref().ok());
        let untried = |other: &&ComputeIsland| {
            let observed = other.status.as_ref().and_then(|status| status.observed_generation);
            !other.spec.suspend
                && observed.is_none()
                && other.metadata.deletion_timestamp.is_none()
                && age(other) < own
                && !ledger.was_tried(&key_of(other))
        };
        all.filter(untried).collect()
    };
    if untried.is_empty() {
        return None;
    }
    let inventory = context.inventory();
    let nodes = context.selections().of(island, &inventory);
    let nodes = cards::selected(&inventory, &nodes, island);
    let runs = |other: &ComputeIsland| {
        let namespace = other.metadata.namespace.clone().unwrap_or_default();
        let run = context.run(&Key::new(namespace, other.spec.run_ref.name.as_str()));
        run.is_some_and(|run| {
            run.0.as_ref().is_ok_and(|run| {
                let own = |manager: &String| manager == crate::run::MANAGED_BY;
                !run.spec.suspend && run.spec.managed_by.as_ref().is_none_or(own)
            })
        })
    };
    let first = untried.into_iter().find(|other| cards::meet(&nodes, island, other) && runs(other));
    first.map(key_of).filter(|other| other != key)
}

pub(crate) fn key_of(island: &ComputeIsland) -> Key {
    let namespace = island.metadata.namespace.clone().unwrap_or_default();
    Key::new(namespace, island.metadata.name.clone().unwrap_or_default())
}

/// Whether a running island could have more cards than it has, and that was not tried before.
/// And after how long cards that were in use lately count.
pub(super) fn has_more(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    plan: &PlanStatus,
    now: Timestamp,
) -> (bool, Option<Duration>) {
    // Not by every island every minute when nothing happens.
    let changes = context.changes();
    if context.ledger().has_seen(key, changes) {
        return (false, None);
    }
    let idle = {
        let inventory = context.inventory();
        let nodes = context.selections().of(island, &inventory);
        let mut ledger = context.ledger();
        let idle = cards::idle(&inventory, &ledger, &nodes, (key, island), now);
        if idle.settles.is_none() {
            ledger.see(key, changes);
        }
        idle
    };
    let most = island
        .request()
        .map_or(0, |request| request.devices.iter().map(|device| device.max as usize).sum());
    let there = idle.nodes.iter().flat_map(|node| &node.cards);
    let count = there.filter(|card| cards::wants(island, &card.product)).count().min(most);
    let mut hasher = DefaultHasher::new();
    for node in &idle.nodes {
        (&node.name, node.cards.len()).hash(&mut hasher);
    }
    let first = context.ledger().first_look(key, hasher.finish());
    (count > plan.cards as usize && first, idle.settles)
}

/// Whether to leave a running plan for another.
pub(super) fn weigh(running: &PlanStatus, better: &IslandPlan, seen: &Seen) -> Weighed {
    let parameters = seen.request.as_ref().map_or(0, |run| run.model.parameters());
    let link = Curve::linear(LINK.0, LINK.1);
    let rules = MoveRules {
        horizon_seconds: HORIZON,
        move_seconds: stability::move_seconds(parameters, &link, RESTART),
        min_gain: MIN_GAIN,
    };
    let now = running.tokens_per_second as f64;
    stability::decide(Speeds { now, then: better.spec.tokens_per_second }, rules)
}
