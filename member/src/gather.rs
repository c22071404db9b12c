//! What is fetched in the background, on the network's threads, while the train loop goes on.

use std::sync::Arc;
use std::time::Duration;

use rounds::types::{Contribution, Digest, MemberView};
use sparseloco::FrameId;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use crate::fetch::{Fetcher, Parts, Wanted};
use crate::hold::{Holding, Reach};
use crate::sources::{self, Progress};
use crate::store::Store;

/// While something is fetched, the ranks tell each other so often how far they are.
pub(crate) const FETCH_EVERY: Duration = Duration::from_millis(100);

/// Tasks that fetch, until this is dropped.
struct Tasks {
    members: watch::Sender<Vec<MemberView>>,
    tasks: JoinSet<()>,
}

impl Tasks {
    fn new(members: Vec<MemberView>) -> Tasks {
        Tasks { members: watch::channel(members).0, tasks: JoinSet::new() }
    }

    fn spawn(
        &mut self,
        runtime: &Handle,
        (fetcher, span): (&Arc<Fetcher>, &Span),
        wanted: Wanted,
    ) -> Arc<Progress> {
        let progress = Arc::new(Progress::new());
        let (fetcher, members) = (Arc::clone(fetcher), self.members.subscribe());
        let shared = Arc::clone(&progress);
        let task = async move { sources::fetch(&fetcher, &wanted, members, &shared).await };
        self.tasks.spawn_on(task.instrument(span.clone()), runtime);
        progress
    }

    /// Says who the members are now.
    fn tell(&self, members: &[MemberView]) {
        self.members.send_if_modified(|known| {
            let differs = known != members;
            if differs {
                *known = members.to_vec();
            }
            differs
        });
    }

    /// Waits until nothing is left to fetch, at most so long.
    async fn wait(&mut self, at_most: Duration) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(at_most, ended).await;
    }
}

/// What the tasks of a rank need.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) runtime: &'a Handle,
    pub(crate) fetcher: &'a Arc<Fetcher>,
    pub(crate) span: &'a Span,
}

/// The contributions of a set, on their way to the store.
pub(crate) struct Gather {
    round: u64,
    set: Vec<(Contribution, Arc<Progress>)>,
    tasks: Tasks,
}

impl Gather {
    pub(crate) fn start(
        means: Means<'_>,
        id: FrameId,
        set: &[Contribution],
        members: &[MemberView],
    ) -> Gather {
        means.fetcher.peers.retain(members);
        let mut tasks = Tasks::new(members.to_vec());
        let set = set.iter().map(|offered| {
            let id = id.for_island(&offered.island);
            let wanted = Wanted::Contribution { id, offered: offered.clone() };
            (offered.clone(), tasks.spawn(means.runtime, (means.fetcher, means.span), wanted))
        });
        Gather { round: id.round, set: set.collect(), tasks }
    }

    /// Whether all of `set` is being fetched.
    pub(crate) fn covers(&self, round: u64, set: &[Contribution]) -> bool {
        let is_wanted = |c: &Contribution| self.set.iter().any(|(w, _)| is_same(w, c));
        self.round == round && set.iter().all(is_wanted)
    }

    pub(crate) fn tell(&self, members: &[MemberView]) {
        self.tasks.tell(members);
    }

    pub(crate) async fn wait(&mut self, at_most: Duration) {
        self.tasks.wait(at_most).await;
    }

    /// How far this rank is with `set`.
    pub(crate) fn holding(&self, store: &Store, set: &[Contribution]) -> Holding {
        let mut holding = Holding::default();
        for contribution in set {
            let Contribution { island, digest, .. } = contribution;
            let missing = store.missing(self.round, island, *digest).len();
            holding.pieces += (store.span().len() - missing) as u64;
            if missing == 0 {
                holding.have.insert(island.clone());
            } else if let Some(rejection) =
                self.progress(contribution).and_then(Progress::rejection)
            {
                holding.rejected.insert(island.clone(), rejection);
            }
        }
        holding
    }

    /// Whether what is missing here of `set`, for which it was `waited` so long, is worth waiting
    /// for; see [`Reach::of`].
    pub(crate) fn reach(
        &self,
        store: &Store,
        set: &[Contribution],
        (stall, waited): (Duration, Duration),
        is_dropped: bool,
    ) -> Reach {
        let is_missing =
            |c: &&Contribution| !store.missing(self.round, &c.island, c.digest).is_empty();
        let missing = set.iter().filter(is_missing).filter_map(|c| self.progress(c));
        let mut reaches = missing.map(|progress| {
            let cause = progress.rejection().map(|rejection| rejection.cause);
            Reach::of(cause, (progress.silent_for().min(waited), stall), is_dropped)
        });
        reaches.find(|reach| *reach != Reach::Coming).unwrap_or(Reach::Coming)
    }

    fn progress(&self, contribution: &Contribution) -> Option<&Progress> {
        let found = self.set.iter().find(|(wanted, _)| is_same(wanted, contribution));
        found.map(|(_, progress)| &**progress)
    }
}

fn is_same(a: &Contribution, b: &Contribution) -> bool {
    (&a.island, a.digest) == (&b.island, b.digest)
}

/// θ of a round, on its way here. What has come is kept while nobody fetches.
pub(crate) struct Snapshot {
    round: u64,
    hash: Digest,
    parts: Arc<Parts>,
    tasks: Option<Tasks>,
}

impl Snapshot {
    pub(crate) fn new(round: u64, hash: Digest) -> Snapshot {
        Snapshot { round, hash, parts: Arc::default(), tasks: None }
    }

    pub(crate) fn is_of(&self, round: u64, hash: Digest) -> bool {
        (self.round, self.hash) == (round, hash)
    }

    /// Fetches for at most so long, and then in the background; true when all is here.
    pub(crate) fn fetch(
        &mut self,
        means: Means<'_>,
        members: &[MemberView],
        at_most: Duration,
    ) -> bool {
        let wanted =
            Wanted::Theta { round: self.round, hash: self.hash, parts: Arc::clone(&self.parts) };
        let tasks = self.tasks.get_or_insert_with(|| {
            means.fetcher.peers.retain(members);
            let mut tasks = Tasks::new(members.to_vec());
            tasks.spawn(means.runtime, (means.fetcher, means.span), wanted.clone());
            tasks
        });
        tasks.tell(members);
        means.runtime.block_on(tasks.wait(at_most));
        wanted.missing(means.fetcher).is_empty()
    }

    /// Stops to fetch.
    pub(crate) fn pause(&mut self) {
        self.tasks = None;
    }

    /// The values of the rank's span, once all is here.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.parts.values()
    }
}

#[cfg(test)]
mod tests;
