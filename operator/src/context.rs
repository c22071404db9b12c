//! What every reconcile has at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use api::island::ComputeIsland;
use api::names::{Key, MANAGER};
use api::run::TrainingRun;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use rounds::types::RunView;
use tokio::sync::broadcast;

use crate::args::Args;
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::metrics::OperatorMetrics;
use crate::pool::Groupings;
use crate::record::Record;
use crate::selections::Selections;
use crate::speeds::Speeds;

/// An object, or why it was not understood: one that is malformed does not stop the others.
pub(crate) type Guarded<K> = DeserializeGuard<K>;

/// What is to be looked at again.
#[derive(Clone, Debug)]
pub(crate) enum Again {
    Island(Key),
    Run(Key),
}

/// Caches of each watched namespace.
#[derive(Default)]
pub(crate) struct Stores {
    pub islands: Vec<Store<Guarded<ComputeIsland>>>,
    pub runs: Vec<Store<Guarded<TrainingRun>>>,
}

/// A run that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub record: Record,
    /// The run's own uid: another of the same name is another run.
    pub uid: Option<String>,
    /// A hash of the coordinator's objects as they were applied.
    pub objects: u64,
    /// When they were: somebody may delete or change them.
    pub applied: Instant,
    /// `http://host:port` of its coordinator.
    pub coordinator: String,
}

/// Shared by all controllers.
pub(crate) struct Context {
    pub client: Client,
    pub args: Args,
    pub recorder: Recorder,
    pub metrics: OperatorMetrics,
    /// By watched namespace.
    islands: Vec<Store<Guarded<ComputeIsland>>>,
    runs: Vec<Store<Guarded<TrainingRun>>>,
    /// When this operator started.
    pub started: Timestamp,
    /// Caches of islands and runs that were not read yet.
    unread: AtomicUsize,
    inventory: RwLock<Inventory>,
    /// Grows whenever cards came, went or changed hands in the inventory.
    changes: AtomicU64,
    ledger: Mutex<Ledger>,
    selections: Mutex<Selections>,
    groupings: Mutex<Groupings>,
    begun: Mutex<BTreeMap<Key, Arc<Begun>>>,
    views: Mutex<BTreeMap<Key, Arc<RunView>>>,
    speeds: Mutex<Speeds>,
    /// Failures in a row, by kind and object.
    failures: Mutex<BTreeMap<(&'static str, Key), u32>>,
    /// What is to be looked at again.
    again: broadcast::Sender<Again>,
    /// Held while an island is planned: cards are promised one island at a time.
    pub planning: tokio::sync::Mutex<()>,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        args: Args,
        metrics: OperatorMetrics,
        stores: Stores,
        (places, again): (Vec<Option<String>>, broadcast::Sender<Again>),
    ) -> Arc<Self> {
        let reporter = Reporter { controller: MANAGER.into(), instance: None };
        Arc::new(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            args,
            metrics,
            unread: AtomicUsize::new(stores.islands.len() + stores.runs.len()),
            islands: stores.islands,
            runs: stores.runs,
            failures: Mutex::default(),
            started: Timestamp::now(),
            changes: AtomicU64::new(0),
            inventory: RwLock::new(Inventory::new(places)),
            ledger: Mutex::default(),
            selections: Mutex::default(),
            groupings: Mutex::default(),
            begun: Mutex::default(),
            views: Mutex::default(),
            speeds: Mutex::default(),
            again,
            planning: tokio::sync::Mutex::default(),
        })
    }

    /// Whether all that decisions are made of has been read once. Before that nothing is decided: a
    /// run that was not read yet would look like one that is gone.
    pub(crate) fn is_primed(&self) -> bool {
        self.unread.load(Ordering::Acquire) == 0 && self.inventory().is_complete()
    }

    /// A cache of islands or runs was read for the first time. What status promised to islands is
    /// taken note of before anything is promised anew.
    ///
    /// Said by whoever fills the cache: `Store::wait_until_ready` wakes only one of those that
    /// wait, and the controllers do.
    pub(crate) fn read(&self) {
        {
            let (mut ledger, now) = (self.ledger(), Timestamp::now());
            for island in self.islands() {
                if let Ok(island) = &island.0 {
                    ledger.look(&Key::of(island), island, now);
                }
            }
        }
        self.unread.fetch_sub(1, Ordering::Release);
    }

    /// Whether an island is there still, and no other of its name.
    pub(crate) fn has_island(&self, key: &Key, uid: Option<&str>) -> bool {
        find(&self.islands, key).is_some_and(|island| island.meta().uid.as_deref() == uid)
    }

    // A panic while one of these is held ends the task that panicked; what it guards is consistent
    // after each of its methods.

    pub(crate) fn inventory(&self) -> RwLockReadGuard<'_, Inventory> {
        self.inventory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inventory_mut(&self) -> RwLockWriteGuard<'_, Inventory> {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows whenever cards came, went or changed hands in the inventory.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Takes note that cards came, went or changed hands.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn selections(&self) -> MutexGuard<'_, Selections> {
        self.selections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groupings(&self) -> MutexGuard<'_, Groupings> {
        self.groupings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of runs that have begun.
    pub(crate) fn begun(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Begun>>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What coordinators said last.
    pub(crate) fn views(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<RunView>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How fast runs and islands are.
    pub(crate) fn speeds(&self) -> MutexGuard<'_, Speeds> {
        self.speeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an island looked at again. A queue that is full loses nothing for good: everything is
    /// looked at from time to time.
    pub(crate) fn again(&self, key: &Key) {
        // Nobody listens while the operator ends.
        let _ = self.again.send(Again::Island(key.clone()));
    }

    /// Has a run looked at again.
    pub(crate) fn run_again(&self, key: &Key) {
        let _ = self.again.send(Again::Run(key.clone()));
    }

    /// All islands, those that were not understood left out.
    pub(crate) fn islands(&self) -> Vec<Arc<Guarded<ComputeIsland>>> {
        self.islands.iter().flat_map(Store::state).collect()
    }

    /// The islands of a run.
    pub(crate) fn islands_of(&self, run: &Key) -> Vec<Arc<Guarded<ComputeIsland>>> {
        let mut all = self.islands();
        all.retain(|island| {
            island.0.as_ref().is_ok_and(|island| {
                island.metadata.namespace.as_deref() == Some(&run.namespace)
                    && island.spec.run_ref.name == run.name
            })
        });
        all
    }

    /// Islands of which something is promised and that are in no cache any more.
    pub(crate) fn gone_islands(&self) -> Vec<Key> {
        let ledger = self.ledger();
        let all = ledger.plans().map(|(key, _)| key);
        all.filter(|key| find(&self.islands, key).is_none()).cloned().collect()
    }

    /// Forgets a run that is gone.
    pub(crate) fn forget_run(&self, key: &Key) {
        self.begun().remove(key);
        self.views().remove(key);
        self.speeds().forget(key);
    }

    /// A run.
    pub(crate) fn run(&self, key: &Key) -> Option<Arc<Guarded<TrainingRun>>> {
        find(&self.runs, key)
    }

    /// Counts a failure; how many there were in a row.
    pub(crate) fn failed(&self, kind: &'static str, key: Key) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((kind, key)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets failures.
    pub(crate) fn succeeded(&self, kind: &'static str, key: &Key) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failures.is_empty() {
            failures.remove(&(kind, key.clone()));
        }
    }
}

/// An object in the caches of a kind.
fn find<K>(stores: &[Store<Guarded<K>>], key: &Key) -> Option<Arc<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let object = ObjectRef::new(&key.name).within(&key.namespace);
    stores.iter().find_map(|store| store.get(&object))
}
