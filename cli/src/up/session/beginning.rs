//! The beginning of a resumed session: the coordinator's store and the checkpoints say different
//! things where one of them was lost. A decision over what was found, with its reason.

use contract::coordinator::Standing;
use rounds::types::Digest;
use rounds::whereabouts::Adopted;

use super::whole::Kept;

/// The findings that decide on it.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The coordinator's account of its store.
    pub(super) store: &'a Standing,
    /// The newest checkpoint; where it is to be adopted, the newest whole one.
    pub(super) newest: Option<&'a Kept>,
    /// The newest checkpoint that was ever told of: the round that it resumes at.
    pub(super) told: Option<u64>,
    /// Rounds on record, and their tokens.
    pub(super) rounds: u64,
    pub(super) tokens: u64,
    /// Hash of θ at the start of the newest checkpoint's round, where it is on record.
    pub(super) theta_hash: Option<Digest>,
}

/// The point at which a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// At the round that the store says.
    GoOn,
    /// At round 0, with an empty store: no checkpoint was made yet.
    Again {
        /// Rounds that are lost.
        rounds: u64,
        /// Their tokens.
        tokens: u64,
    },
    /// At a checkpoint's round, with an empty store.
    Adopt(Adopted),
}

impl Beginning {
    /// Tokens of the run when the session begins; `recorded` are on record.
    pub(super) fn tokens(&self, recorded: u64) -> u64 {
        match self {
            Self::GoOn => recorded,
            Self::Again { .. } => 0,
            Self::Adopt(adopt) => adopt.tokens,
        }
    }
}

/// Why a session does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBeginning {
    /// The store does not know what the checkpoints hold.
    #[error(
        "failed to resume: {store}, but there is a checkpoint of round {round} in {folder}; put \
         the store back, or have a new one adopt the checkpoint by --resume --adopt: {lost}, and \
         the old store is kept beside the new one"
    )]
    StoreLost {
        /// The problem of the store.
        store: String,
        /// The round that the newest checkpoint resumes at.
        round: u64,
        /// Its folder.
        folder: String,
        /// The cost of adopting it.
        lost: String,
    },
    /// The run would train all of its rounds again.
    #[error(
        "failed to resume: committed rounds are on record ({rounds}) and a checkpoint of round \
         {told} was made, but there is no complete checkpoint of any of its islands; put the \
         checkpoints back, or start anew in another folder by --run-dir"
    )]
    CheckpointsGone {
        /// Rounds on record.
        rounds: u64,
        /// The round that the newest of them resumed at.
        told: u64,
    },
    /// Nothing is lost.
    #[error(
        "failed to adopt a checkpoint: the coordinator's store is whole and at round {round}; go \
         on by --resume alone"
    )]
    NothingLost {
        /// The store's round.
        round: u64,
    },
    /// There is nothing to begin with.
    #[error(
        "failed to adopt a checkpoint: none of the run's islands has a whole one; --resume alone \
         says what can be done"
    )]
    NothingToAdopt,
}

/// Decides where a session begins; `adopt` is the user's word that a checkpoint replaces the store.
///
/// # Errors
/// When that is not the session's to decide, or not what the user believes.
pub(super) fn decide(found: &Found<'_>, adopt: bool) -> Result<Beginning, NoBeginning> {
    let Some(newest) = found.newest else {
        return if adopt { Err(NoBeginning::NothingToAdopt) } else { without_checkpoint(found) };
    };
    let knows = |highest: u64| highest >= newest.round;
    match found.store {
        Standing::Whole { highest, .. } if knows(*highest) && !adopt => Ok(Beginning::GoOn),
        Standing::Whole { highest, round, .. } if knows(*highest) => {
            Err(NoBeginning::NothingLost { round: *round })
        }
        _ if adopt => Ok(Beginning::Adopt(Adopted {
            round: newest.round,
            theta_hash: found.theta_hash,
            tokens: newest.tokens,
            samples: newest.samples,
        })),
        store => Err(NoBeginning::StoreLost {
            store: what_is_wrong(store),
            round: newest.round,
            folder: newest.folder.display().to_string(),
            lost: cost(found.rounds, newest.round),
        }),
    }
}

/// Rounds that are in no checkpoint are trained again from the seed; checkpoints that were there
/// once are not given up so.
fn without_checkpoint(found: &Found<'_>) -> Result<Beginning, NoBeginning> {
    let (round, tokens, told) = match found.store {
        Standing::Whole { round, tokens, checkpoint, .. } => (*round, *tokens, *checkpoint),
        Standing::Missing | Standing::Damaged { .. } => (0, 0, None),
    };
    let rounds = found.rounds.max(round);
    match found.told.max(told) {
        Some(told) if rounds > 0 => Err(NoBeginning::CheckpointsGone { rounds, told }),
        _ if rounds == 0 && !matches!(found.store, Standing::Damaged { .. }) => Ok(Beginning::GoOn),
        _ => Ok(Beginning::Again { rounds, tokens: found.tokens.max(tokens) }),
    }
}

fn what_is_wrong(store: &Standing) -> String {
    match store {
        Standing::Missing => "the coordinator's store is gone".to_owned(),
        Standing::Damaged { reason } => format!("the coordinator's store is damaged ({reason})"),
        Standing::Whole { highest, .. } => {
            format!("the coordinator's store is an old one, which knows {highest} rounds")
        }
    }
}

/// The cost, for a run of so many rounds, of going on from the start of `round`.
pub(super) fn cost(rounds: u64, round: u64) -> String {
    match rounds.saturating_sub(round) {
        0 => "no round on record is lost".to_owned(),
        1 => format!("round {round} is trained again"),
        _ => format!("rounds {round} to {} are trained again", rounds - 1),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::whole;
    use super::*;

    fn kept(folder: &Path) -> Kept {
        whole::tests::write(folder, 4, 400);
        whole::all(folder, "r").unwrap().remove(0)
    }

    fn whole_store(round: u64, highest: u64, checkpoint: Option<u64>) -> Standing {
        Standing::Whole { run: "r".to_owned(), round, highest, tokens: 100 * round, checkpoint }
    }

    fn damaged() -> Standing {
        Standing::Damaged { reason: "cut".to_owned() }
    }

    #[test]
    fn with_a_checkpoint_a_store_that_does_not_know_it_is_only_replaced_on_the_users_word() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(folder.path());
        let decided = |store: &Standing, adopt: bool| {
            let theta_hash = Some(Digest([0xab; 32]));
            let found = Found {
                store,
                newest: Some(&kept),
                told: Some(4),
                rounds: 6,
                tokens: 600,
                theta_hash,
            };
            decide(&found, adopt)
        };
        for known in [whole_store(6, 6, Some(4)), whole_store(4, 4, None), whole_store(2, 6, None)]
        {
            assert_eq!(decided(&known, false), Ok(Beginning::GoOn));
            let error = decided(&known, true).unwrap_err();
            assert!(matches!(error, NoBeginning::NothingLost { .. }), "{error}");
        }
        let theta_hash = Some(Digest([0xab; 32]));
        let adopt = Adopted { round: 4, theta_hash, tokens: 400, samples: 0 };
        for (lost, word) in [
            (Standing::Missing, "store is gone"),
            (damaged(), "is damaged (cut)"),
            (whole_store(3, 3, Some(2)), "is an old one, which knows 3 rounds"),
        ] {
            assert_eq!(decided(&lost, true), Ok(Beginning::Adopt(adopt.clone())));
            let error = decided(&lost, false).unwrap_err().to_string();
            for expected in [word, "by --resume --adopt: rounds 4 to 5 are trained again"] {
                assert!(error.contains(expected), "no {expected:?} in: {error}");
            }
        }
    }

    #[test]
    fn without_any_checkpoint_a_run_begins_again_unless_one_was_made() {
        let decided = |store: &Standing, told: Option<u64>, rounds: u64| {
            let tokens = 100 * rounds;
            let found = Found { store, newest: None, told, rounds, tokens, theta_hash: None };
            let adopted = decide(&found, true).unwrap_err();
            assert_eq!(adopted, NoBeginning::NothingToAdopt);
            decide(&found, false)
        };
        let again = |rounds| Ok(Beginning::Again { rounds, tokens: 100 * rounds });
        let gone = |rounds| Err(NoBeginning::CheckpointsGone { rounds, told: 2 });
        let table = [
            (whole_store(0, 0, None), None, 0, Ok(Beginning::GoOn)),
            (Standing::Missing, None, 0, Ok(Beginning::GoOn)),
            (damaged(), None, 0, again(0)),
            (whole_store(1, 1, None), None, 1, again(1)),
            // The last round was committed, and nobody could take a note of it.
            (whole_store(2, 2, None), None, 1, again(2)),
            (Standing::Missing, None, 3, again(3)),
            (damaged(), None, 3, again(3)),
            (whole_store(3, 3, None), Some(2), 3, gone(3)),
            (whole_store(3, 3, Some(2)), None, 3, gone(3)),
            (Standing::Missing, Some(2), 3, gone(3)),
        ];
        for (store, told, rounds, expected) in table {
            assert_eq!(decided(&store, told, rounds), expected, "{store:?} {told:?} {rounds}");
        }
    }
}
