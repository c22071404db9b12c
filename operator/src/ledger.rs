//! Which cards are promised to which island, and what was last written of each.
//!
//! The API server's cache may be older than our own writes: an island of which it says less than
//! stands here is as it stands here. A new operator begins with what the islands' status says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::island::ComputeIsland;
use api::names::Key;
use api::occupancy::{self, is_held};
use contract::worker::WorkerSpec;
use k8s_openapi::jiff::Timestamp;
use plan::spec::IslandSpec;

use crate::island::{self, Plan};

/// What is promised to an island.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub run: Key,
    pub plan: Plan,
    pub known: Known,
}

/// What is known of a plan beyond its status.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Nothing: what its ranks are told has to be read from the epoch's ConfigMap.
    Nothing,
    /// What the planner answered.
    Planned(Arc<IslandSpec>),
    /// What the ranks of its epoch are told.
    Told(Arc<WorkerSpec>),
}

impl Known {
    /// The island's layout over its cards.
    pub(crate) fn layout(&self) -> Option<&IslandSpec> {
        match self {
            Self::Nothing => None,
            Self::Planned(spec) => Some(spec),
            Self::Told(told) => Some(&told.island),
        }
    }
}

/// All promises.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    promises: BTreeMap<Key, Promise>,
    /// Cards by node and island.
    cards: BTreeMap<String, BTreeMap<Key, u32>>,
    /// Islands that were planned, or refused, since the operator started.
    tried: BTreeSet<Key>,
    /// Islands that wait for cards.
    waiting: BTreeSet<Key>,
    /// A hash of the idle cards that a running island last looked at.
    looks: BTreeMap<Key, u64>,
    /// Grows whenever cards are promised or given back.
    changes: u64,
    /// Changes of the inventory and of this that a running island has seen.
    seen: BTreeMap<Key, (u64, u64)>,
    /// Since when islands let older ones go first.
    queued: BTreeMap<Key, Instant>,
}

impl Ledger {
    /// What stands of an island: what was written last, or its status where nothing was.
    pub(crate) fn look(
        &mut self,
        key: &Key,
        island: &ComputeIsland,
        now: Timestamp,
    ) -> Option<Promise> {
        let told = island.status.as_ref().and_then(|status| status.plan.as_ref());
        if let Some(told) = told
            && self.promises.get(key).is_none_or(|own| own.plan.epoch < island::epoch(told))
        {
            let run = Key::new(key.namespace.as_str(), island.spec.run_ref.name.as_str());
            let plan = Plan::read(told, now);
            self.promise(key, Promise { run, plan, known: Known::Nothing });
        }
        self.promises.get(key).cloned()
    }

    /// Promises an island its plan's cards, in place of what was promised before.
    pub(crate) fn promise(&mut self, key: &Key, promise: Promise) {
        let same = self.promises.get(key).is_some_and(|before| {
            let (before, now) = (&before.plan, &promise.plan);
            is_held(before.phase) == is_held(now.phase) && before.ranks == now.ranks
        });
        self.changes += u64::from(!same);
        self.take_back(key);
        for (node, cards) in occupancy::promised(promise.plan.phase, &promise.plan.ranks) {
            self.cards.entry(node.to_owned()).or_default().insert(key.clone(), cards);
        }
        self.promises.insert(key.clone(), promise);
    }

    /// Takes note of what was written of an island that has a promise. The islands that wait for
    /// cards, where it gave some back.
    pub(crate) fn remember(&mut self, key: &Key, plan: Option<Plan>) -> Vec<Key> {
        let Some(promise) = self.get(key) else { return vec![] };
        let held = is_held(promise.plan.phase);
        let now = plan.as_ref().is_some_and(|plan| is_held(plan.phase));
        match plan {
            Some(plan) => self.promise(key, Promise { plan, ..promise }),
            None => self.unplan(key),
        }
        if held && !now { self.waiting.iter().cloned().collect() } else { vec![] }
    }

    /// What stands of an island.
    pub(crate) fn get(&self, key: &Key) -> Option<Promise> {
        self.promises.get(key).cloned()
    }

    /// Gives an island's cards back, and forgets its plan.
    fn unplan(&mut self, key: &Key) {
        self.changes += 1;
        self.take_back(key);
        self.promises.remove(key);
    }

    /// How long an island has let older ones go first.
    pub(crate) fn queued(&mut self, key: &Key) -> Duration {
        self.queued.entry(key.clone()).or_insert_with(Instant::now).elapsed()
    }

    /// Whether nothing was promised or given back, and nothing of the inventory changed, since an
    /// island has seen all cards; `inventory` grows with its changes.
    pub(crate) fn has_seen(&self, key: &Key, inventory: u64) -> bool {
        self.seen.get(key) == Some(&(inventory, self.changes))
    }

    /// Takes note that an island has seen all cards.
    pub(crate) fn see(&mut self, key: &Key, inventory: u64) {
        self.seen.insert(key.clone(), (inventory, self.changes));
    }

    /// Whether an island did not see these idle cards before.
    pub(crate) fn first_look(&mut self, key: &Key, cards: u64) -> bool {
        self.looks.insert(key.clone(), cards) != Some(cards)
    }

    /// Forgets an island.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.changes += 1;
        self.seen.remove(key);
        self.take_back(key);
        self.promises.remove(key);
        self.tried.remove(key);
        self.waiting.remove(key);
        self.looks.remove(key);
        self.queued.remove(key);
    }

    fn take_back(&mut self, key: &Key) {
        let Some(before) = self.promises.get(key) else { return };
        for rank in &before.plan.ranks {
            if let Some(on) = self.cards.get_mut(&rank.node) {
                on.remove(key);
                if on.is_empty() {
                    self.cards.remove(&rank.node);
                }
            }
        }
    }

    /// Cards of a node that are promised.
    pub(crate) fn promised(&self, node: &str) -> impl Iterator<Item = (&Key, u32)> {
        let on = self.cards.get(node).into_iter().flatten();
        on.map(|(island, cards)| (island, *cards))
    }

    /// Takes note that an island was planned or refused; whether it waits for cards.
    pub(crate) fn tried(&mut self, key: &Key, waits: bool) {
        self.queued.remove(key);
        self.tried.insert(key.clone());
        if waits {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
    }

    /// Whether an island was ever planned or refused.
    pub(crate) fn was_tried(&self, key: &Key) -> bool {
        self.tried.contains(key) || self.promises.contains_key(key)
    }

    /// Islands that wait for cards.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.waiting.iter()
    }

    /// All plans.
    pub(crate) fn plans(&self) -> impl Iterator<Item = (&Key, &Plan)> {
        self.promises.iter().map(|(key, promise)| (key, &promise.plan))
    }

    /// The plans of a run's islands.
    pub(crate) fn of_run(&self, run: &Key) -> impl Iterator<Item = (&Key, &Plan)> {
        let own = self.promises.iter().filter(move |(_, promise)| promise.run == *run);
        own.map(|(key, promise)| (key, &promise.plan))
    }

    /// The lowest place among a run's islands that no other has.
    pub(crate) fn place(&self, run: &Key, key: &Key) -> u32 {
        let others = self.of_run(run).filter(|(other, _)| *other != key);
        let taken: BTreeSet<u32> = others.map(|(_, plan)| plan.index).collect();
        let own = self.promises.get(key).map(|promise| promise.plan.index);
        if let Some(own) = own.filter(|own| !taken.contains(own)) {
            return own;
        }
        (0..).find(|index| !taken.contains(index)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use api::island::{ComputeIslandStatus, PlanPhase};
    use serde_json::json;

    use super::*;
    use crate::island::examples::{self, at, held};

    fn promise(run: &str, index: u32, phase: PlanPhase, on: &[(&str, u32)]) -> Promise {
        let ranks = on.iter().map(|(node, count)| held(node, *count)).collect();
        let plan = Plan { index, ranks, ..examples::plan(phase, 0) };
        Promise { run: Key::new("ml", run), plan, known: Known::Nothing }
    }

    #[test]
    fn what_was_written_counts_before_a_cache_that_is_older() {
        let mut ledger = Ledger::default();
        let key = Key::new("ml", "lab");
        let mut island = examples::island(&[examples::L4], &json!({}));
        assert!(ledger.look(&key, &island, at(0)).is_none());
        let mut told = |epoch: u64, phase: PlanPhase| {
            let plan = Plan { epoch, ..examples::plan(phase, 0) };
            let status = ComputeIslandStatus { plan: Some(plan.written()), ..Default::default() };
            island.status = Some(status);
            let stands = ledger.look(&key, &island, at(0)).expect("a promise").plan;
            (stands.epoch, stands.phase)
        };
        assert_eq!(told(4, PlanPhase::Starting), (4, PlanPhase::Starting));
        assert_eq!(told(4, PlanPhase::Planned), (4, PlanPhase::Starting));
        assert_eq!(told(3, PlanPhase::Running), (4, PlanPhase::Starting));
        assert_eq!(told(5, PlanPhase::Running), (5, PlanPhase::Running));
        assert_eq!(ledger.promised("a").collect::<Vec<_>>(), [(&key, 2)], "its cards are its own");
    }

    #[test]
    fn promised_cards_are_given_back_when_the_plan_changes_or_rests() {
        let mut ledger = Ledger::default();
        let (a, b) = (Key::new("ml", "a"), Key::new("ml", "b"));
        ledger.promise(&a, promise("r", 0, PlanPhase::Running, &[("n", 2), ("n", 1), ("m", 1)]));
        ledger.promise(&b, promise("r", 1, PlanPhase::Planned, &[("n", 4)]));
        assert_eq!(ledger.promised("n").collect::<Vec<_>>(), [(&a, 3), (&b, 4)]);
        ledger.promise(&a, promise("r", 0, PlanPhase::Running, &[("m", 1)]));
        assert_eq!(ledger.promised("n").collect::<Vec<_>>(), [(&b, 4)]);
        ledger.promise(&b, promise("r", 1, PlanPhase::Waiting, &[("n", 4)]));
        assert_eq!(ledger.promised("n").count(), 0);
        ledger.forget(&a);
        assert_eq!(ledger.promised("m").count(), 0);
    }

    #[test]
    fn who_has_seen_all_cards_looks_again_when_some_changed_hands() {
        let mut ledger = Ledger::default();
        let (a, b) = (Key::new("ml", "a"), Key::new("ml", "b"));
        ledger.promise(&a, promise("r", 0, PlanPhase::Running, &[("n", 2)]));
        assert!(!ledger.has_seen(&a, 7));
        ledger.see(&a, 7);
        assert!(ledger.has_seen(&a, 7) && !ledger.has_seen(&a, 8) && !ledger.has_seen(&b, 7));
        // What is written again and again changes nothing.
        ledger.promise(&a, promise("r", 0, PlanPhase::Running, &[("n", 2)]));
        assert!(ledger.has_seen(&a, 7));
        ledger.promise(&b, promise("r", 1, PlanPhase::Planned, &[("n", 4)]));
        assert!(!ledger.has_seen(&a, 7), "cards were promised");
        ledger.see(&a, 7);
        ledger.promise(&b, promise("r", 1, PlanPhase::Waiting, &[("n", 4)]));
        assert!(!ledger.has_seen(&a, 7), "cards were given back");
        ledger.see(&a, 7);
        ledger.forget(&b);
        assert!(!ledger.has_seen(&a, 7));
    }

    #[test]
    fn an_island_gets_the_lowest_place_that_is_free_and_keeps_it() {
        let mut ledger = Ledger::default();
        let key = |name: &str| Key::new("ml", name);
        let run = key("r");
        ledger.promise(&key("a"), promise("r", 0, PlanPhase::Running, &[]));
        ledger.promise(&key("c"), promise("r", 2, PlanPhase::Running, &[]));
        ledger.promise(&key("d"), promise("other", 1, PlanPhase::Running, &[]));
        assert_eq!(ledger.place(&run, &key("b")), 1);
        assert_eq!(ledger.place(&run, &key("a")), 0);
    }
}
