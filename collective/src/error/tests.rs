//! Tests of what errors say and how they are told apart.

use super::*;

fn all() -> Vec<(CommError, Option<u32>, bool)> {
    let source = || Arc::new(io::Error::other("no"));
    let operation = Operation::Send;
    let text = || String::from("x");
    vec![
        (CommError::Config { detail: text() }, None, true),
        (CommError::Argument { operation, detail: text() }, None, true),
        (CommError::Listen { address: text(), source: source() }, None, false),
        (CommError::Runtime { source: source() }, None, false),
        (CommError::Killed, None, false),
        (CommError::PeerLost { rank: 2 }, Some(2), false),
        (CommError::Timeout { operation, rank: 2 }, Some(2), false),
        (CommError::EpochMismatch { rank: 2, ours: 3, theirs: 4 }, Some(2), false),
        (CommError::Protocol { rank: 2, detail: text() }, Some(2), false),
    ]
}

#[test]
fn only_what_the_same_group_would_meet_again_is_final_and_peers_are_to_blame_for_the_rest() {
    for (error, rank, is_final) in all() {
        assert_eq!((error.rank(), error.is_final()), (rank, is_final), "{error:?}");
        assert!(error.to_string().starts_with("failed "), "{error}");
    }
}

#[test]
fn a_subgroups_ranks_are_called_as_the_group_that_it_is_of_calls_them() {
    for (error, rank, _) in all() {
        let shown = error.to_string();
        let outer = error.clone().renumbered(&[4, 7, 9]);
        assert_eq!(outer.rank(), rank.map(|_| 9), "{error:?}");
        let expected = shown.replace("rank 2", "rank 9");
        assert_eq!(outer.to_string(), expected);
        // Whoever blames a rank that the subgroup has not is quoted.
        assert_eq!(error.renumbered(&[4, 7]).rank(), rank);
    }
}

#[test]
fn an_epoch_that_differs_is_said_from_both_sides() {
    let error = CommError::EpochMismatch { rank: 5, ours: 3, theirs: 4 };
    let said = "failed to join rank 5: it is at epoch 4, this rank at epoch 3";
    assert_eq!(error.to_string(), said);
}
