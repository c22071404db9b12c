//! What a rank holds for others: pieces of contributions of the last rounds, and θ of its span.
//!
//! Contributions are kept for `ROUNDS_KEPT` rounds, so that a member that is one round behind can
//! still fetch them; older ones are dropped when a newer round begins. Nobody is served what
//! belongs to a round that is open: whoever sees the others' work before its own is due could copy
//! it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rounds::types::{Contribution, Digest, Phase, RunView};
use tonic::codegen::Bytes;

/// Rounds whose contributions are kept: the one in progress and the one before it.
pub(crate) const ROUNDS_KEPT: u64 = 2;

/// Whose contribution to which round.
type Key = (u64, String);

/// One island's contribution, as far as this rank holds it.
#[derive(Clone, Debug)]
struct Held {
    /// blake3 over the digests.
    root: Digest,
    /// blake3 of every piece of the layout, by piece.
    digests: Arc<[Digest]>,
    /// Pieces by index.
    pieces: BTreeMap<u32, Bytes>,
}

/// θ at the start of a round, for the rank's span of the canonical order.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The round; `None` while a commit is being applied.
    pub round: Option<u64>,
    /// Canonical values of the span.
    pub values: Vec<f32>,
    /// The round at whose start these are the digests of all pieces of θ, of all ranks.
    digests: Option<(u64, Arc<[Digest]>)>,
}

/// Why a rank does not serve what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotServed {
    /// It has nothing of it.
    #[error("it is not here")]
    NotHere,
    /// Its round is open, as far as this rank knows.
    #[error("its round is not closed with it yet, as far as this rank knows")]
    NotYet,
}

/// Shared between the train loop, the tasks that fetch, and the exchange server.
#[derive(Debug)]
pub(crate) struct Store {
    run: String,
    span: Range<u32>,
    contributions: Mutex<BTreeMap<Key, Held>>,
    /// What was closed or committed, by what was offered.
    public: Mutex<BTreeMap<Key, Digest>>,
    anchor: RwLock<Anchor>,
}

/// The digest that stands for all pieces: blake3 over their digests. It is what an island offers,
/// and the hash of θ.
pub(crate) fn root_digest(digests: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for digest in digests {
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of one encoded piece.
pub(crate) fn piece_digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

impl Store {
    /// An empty store of a rank that holds the pieces `span`.
    pub(crate) fn new(run: String, span: Range<u32>) -> Store {
        let anchor = Anchor { round: None, values: Vec::new(), digests: None };
        Store {
            run,
            span,
            contributions: Mutex::default(),
            public: Mutex::default(),
            anchor: RwLock::new(anchor),
        }
    }

    /// The run it serves.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// The pieces that this rank holds.
    pub(crate) fn span(&self) -> Range<u32> {
        self.span.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        // A panic while the lock is held leaves whole entries behind, never half of one.
        self.contributions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an island's digests and pieces, next to what is held of it already.
    pub(crate) fn insert(
        &self,
        round: u64,
        island: &str,
        digests: &Arc<[Digest]>,
        pieces: impl IntoIterator<Item = (u32, Bytes)>,
    ) {
        let mut all = self.lock();
        all.retain(|(kept, _), _| *kept + ROUNDS_KEPT > round);
        let anew = || Held {
            root: root_digest(digests),
            digests: Arc::clone(digests),
            pieces: BTreeMap::new(),
        };
        let held = all.entry((round, island.to_string())).or_insert_with(anew);
        if !Arc::ptr_eq(&held.digests, digests) && held.digests != *digests {
            // The island offered anew (a later epoch): the older pieces belong to nothing now.
            *held = anew();
        }
        held.pieces.extend(pieces);
    }

    /// Forgets contributions of `round` and later ones: the run went back, and they belong to what
    /// is taken back.
    pub(crate) fn forget_from(&self, round: u64) {
        self.lock().retain(|(kept, _), _| *kept < round);
    }

    /// The digests of an island's contribution, if this rank has them under the digest `offered`.
    pub(crate) fn digests(
        &self,
        round: u64,
        island: &str,
        offered: Digest,
    ) -> Option<Arc<[Digest]>> {
        let all = self.lock();
        let held = all.get(&(round, island.to_string())).filter(|held| held.root == offered)?;
        Some(Arc::clone(&held.digests))
    }

    /// One piece of an island's contribution.
    pub(crate) fn piece(&self, round: u64, island: &str, index: u32) -> Option<Bytes> {
        self.lock().get(&(round, island.to_string()))?.pieces.get(&index).cloned()
    }

    /// Pieces of the rank's span that are not held under the digest `offered`.
    pub(crate) fn missing(&self, round: u64, island: &str, offered: Digest) -> Vec<u32> {
        let all = self.lock();
        match all.get(&(round, island.to_string())) {
            Some(held) if held.root == offered => {
                self.span().filter(|index| !held.pieces.contains_key(index)).collect()
            }
            _ => self.span().collect(),
        }
    }

    /// Lets others have what the view shows as closed or committed, and nothing else.
    pub(crate) fn publish(&self, view: &RunView) {
        let closed = (view.phase == Phase::Fetching).then_some((view.round, &view.closed));
        let commits = view.commits.iter().map(|commit| (commit.round, &commit.set));
        let key = |round, c: &Contribution| ((round, c.island.clone()), c.digest);
        let sets = commits.chain(closed);
        let public = sets.flat_map(|(round, set)| set.iter().map(move |c| key(round, c)));
        *self.public.lock().unwrap_or_else(PoisonError::into_inner) = public.collect();
    }

    fn public<T>(
        &self,
        round: u64,
        island: &str,
        read: impl FnOnce(&Held) -> Option<T>,
    ) -> Result<T, NotServed> {
        let key = (round, island.to_string());
        let public = self.public.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let all = self.lock();
        let held = all.get(&key).ok_or(NotServed::NotHere)?;
        if public != Some(held.root) {
            return Err(NotServed::NotYet);
        }
        read(held).ok_or(NotServed::NotHere)
    }

    /// The digests of an island's contribution, for others.
    pub(crate) fn public_digests(
        &self,
        round: u64,
        island: &str,
    ) -> Result<Arc<[Digest]>, NotServed> {
        self.public(round, island, |held| Some(Arc::clone(&held.digests)))
    }

    /// One piece of an island's contribution, for others.
    pub(crate) fn public_piece(
        &self,
        round: u64,
        island: &str,
        index: u32,
    ) -> Result<Bytes, NotServed> {
        self.public(round, island, |held| held.pieces.get(&index).cloned())
    }

    /// Replaces θ; without a round nobody is served yet.
    pub(crate) fn set_anchor(&self, round: Option<u64>, values: Vec<f32>) {
        *self.anchor.write().unwrap_or_else(PoisonError::into_inner) =
            Anchor { round, values, digests: None };
    }

    /// Keeps the digests of all pieces of θ at the start of `round`, those of other ranks included.
    pub(crate) fn set_theta_digests(&self, round: u64, digests: Vec<Digest>) {
        self.with_anchor_mut(|anchor| anchor.digests = Some((round, digests.into())));
    }

    /// The digests of all pieces of θ at the start of `round`.
    pub(crate) fn theta_digests(&self, round: u64) -> Option<Arc<[Digest]>> {
        self.with_anchor(|anchor| {
            let of_round = anchor.digests.as_ref().filter(|(of, _)| *of == round);
            of_round.filter(|_| anchor.round == Some(round)).map(|(_, digests)| Arc::clone(digests))
        })
    }

    /// Reads θ.
    pub(crate) fn with_anchor<T>(&self, read: impl FnOnce(&Anchor) -> T) -> T {
        read(&self.anchor.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes θ; readers wait meanwhile, so keep it to one piece.
    pub(crate) fn with_anchor_mut<T>(&self, change: impl FnOnce(&mut Anchor) -> T) -> T {
        change(&mut self.anchor.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
