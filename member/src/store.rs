//! What a rank holds for others: pieces of contributions of the last rounds, and θ of its span.
//!
//! Contributions are kept for `ROUNDS_KEPT` rounds, so that a member that is one round behind can
//! still fetch them; older ones are dropped when a newer round begins.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use rounds::types::Digest;
use tonic::codegen::Bytes;

/// Rounds whose contributions are kept: the one in progress and the one before it.
pub(crate) const ROUNDS_KEPT: u64 = 2;

/// One island's contribution, as far as this rank holds it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// blake3 of every piece of the layout, by piece.
    pub digests: Vec<Digest>,
    /// Pieces by index.
    pub pieces: BTreeMap<u32, Bytes>,
}

/// θ at the start of a round, for the rank's span of the canonical order.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The round; `None` while a commit is being applied.
    pub round: Option<u64>,
    /// Canonical values of the span.
    pub values: Vec<f32>,
}

/// Shared between the train loop and the exchange server.
#[derive(Debug)]
pub(crate) struct Store {
    run: String,
    span: Range<u32>,
    contributions: Mutex<BTreeMap<(u64, String), Held>>,
    anchor: RwLock<Anchor>,
}

/// The digest that an island offers: blake3 over its pieces' digests.
pub(crate) fn contribution_digest(digests: &[Digest]) -> Digest {
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
        let anchor = RwLock::new(Anchor { round: None, values: Vec::new() });
        Store { run, span, contributions: Mutex::new(BTreeMap::new()), anchor }
    }

    /// The run it serves.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// The pieces that this rank holds.
    pub(crate) fn span(&self) -> Range<u32> {
        self.span.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, String), Held>> {
        // A panic while the lock is held leaves whole entries behind, never half of one.
        self.contributions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an island's digests and pieces, next to what is held of it already.
    pub(crate) fn insert(
        &self,
        round: u64,
        island: &str,
        digests: Vec<Digest>,
        pieces: Vec<(u32, Bytes)>,
    ) {
        let mut all = self.lock();
        all.retain(|(kept, _), _| *kept + ROUNDS_KEPT > round);
        let held = all
            .entry((round, island.to_string()))
            .or_insert_with(|| Held { digests: digests.clone(), pieces: BTreeMap::new() });
        if held.digests != digests {
            // The island offered anew (a later epoch): the older pieces belong to nothing now.
            *held = Held { digests, pieces: BTreeMap::new() };
        }
        held.pieces.extend(pieces);
    }

    /// Forgets contributions of `round` and later ones: the run went back, and they belong to what
    /// is taken back.
    pub(crate) fn forget_from(&self, round: u64) {
        self.lock().retain(|(kept, _), _| *kept < round);
    }

    /// The digests of an island's contribution, if this rank has them.
    pub(crate) fn digests(&self, round: u64, island: &str) -> Option<Vec<Digest>> {
        self.lock().get(&(round, island.to_string())).map(|held| held.digests.clone())
    }

    /// One piece of an island's contribution.
    pub(crate) fn piece(&self, round: u64, island: &str, index: u32) -> Option<Bytes> {
        self.lock().get(&(round, island.to_string()))?.pieces.get(&index).cloned()
    }

    /// Pieces of `wanted` that are not held under the digest `offered`.
    pub(crate) fn missing(
        &self,
        round: u64,
        island: &str,
        offered: Digest,
        wanted: Range<u32>,
    ) -> Vec<u32> {
        let all = self.lock();
        match all.get(&(round, island.to_string())) {
            Some(held) if contribution_digest(&held.digests) == offered => {
                wanted.filter(|index| !held.pieces.contains_key(index)).collect()
            }
            _ => wanted.collect(),
        }
    }

    /// Replaces θ; without a round nobody is served yet.
    pub(crate) fn set_anchor(&self, round: Option<u64>, values: Vec<f32>) {
        *self.anchor.write().unwrap_or_else(PoisonError::into_inner) = Anchor { round, values };
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
mod tests {
    use super::*;

    #[test]
    fn contributions_older_than_the_kept_rounds_are_dropped() {
        let store = Store::new("run".into(), 0..2);
        let digests = vec![piece_digest(b"x"), piece_digest(b"y")];
        for round in 0..4 {
            store.insert(round, "a", digests.clone(), vec![(0, Bytes::from_static(b"x"))]);
        }
        assert!(store.piece(1, "a", 0).is_none());
        assert!(store.piece(2, "a", 0).is_some());
        assert!(store.piece(3, "a", 0).is_some());
    }

    #[test]
    fn contributions_of_rounds_that_are_taken_back_are_forgotten() {
        let store = Store::new("run".into(), 0..1);
        for round in [4, 5] {
            let digests = vec![piece_digest(b"x")];
            store.insert(round, "a", digests, vec![(0, Bytes::from_static(b"x"))]);
        }
        store.forget_from(5);
        assert!(store.piece(4, "a", 0).is_some());
        assert!(store.piece(5, "a", 0).is_none());
    }

    #[test]
    fn pieces_of_another_digest_do_not_count_as_held() {
        let store = Store::new("run".into(), 0..2);
        let digests = vec![piece_digest(b"x"), piece_digest(b"y")];
        let offered = contribution_digest(&digests);
        assert_eq!(store.missing(0, "a", offered, 0..2), vec![0, 1]);
        store.insert(0, "a", digests, vec![(0, Bytes::from_static(b"x"))]);
        assert_eq!(store.missing(0, "a", offered, 0..2), vec![1]);
        assert_eq!(store.missing(0, "a", piece_digest(b"other"), 0..2), vec![0, 1]);
        let renewed = vec![piece_digest(b"z"), piece_digest(b"y")];
        store.insert(0, "a", renewed.clone(), vec![]);
        assert_eq!(store.missing(0, "a", contribution_digest(&renewed), 0..2), vec![0, 1]);
    }
}
