//! Laws of what becomes of an island, over all ends of its ranks in all orders.

use contract::event::Ending;
use contract::exit::{EXIT_CONFIG, EXIT_DIVERGED, EXIT_FAILED, EXIT_LOST, EXIT_MEMORY};
use contract::fate::{Cause, End, Epoch, Exit, Fate, Why, fate};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::cases;

/// Codes of a rank's own, of a panic, of a shell, and of nobody.
const CODES: [i32; 10] =
    [0, EXIT_FAILED, EXIT_CONFIG, EXIT_LOST, EXIT_MEMORY, EXIT_DIVERGED, 101, 127, -1, i32::MAX];

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        4 => select(CODES.to_vec()).prop_map(Exit::Code),
        1 => select(vec![2, 6, 9, 11, 15]).prop_map(Exit::Signal),
        1 => select(vec![Exit::NoMemory, Exit::Removed, Exit::Unknown]),
    ]
}

fn ending() -> impl Strategy<Value = Option<Ending>> {
    option::of(select(vec![Ending::Complete, Ending::Missed, Ending::Stopped]))
}

/// Ends of distinct ranks of a world, in the order in which they came.
fn ends() -> impl Strategy<Value = (u32, Vec<End>)> {
    (1..6_u32).prop_flat_map(|world| {
        let ranks: Vec<u32> = (0..world).collect();
        let ranks = (Just(ranks).prop_shuffle(), 0..=world as usize);
        let said = select(vec!["", "no room", "no peer"]);
        let ends = proptest::collection::vec((exit(), said), world as usize);
        (Just(world), ranks, ends).prop_map(|(world, (ranks, gone), ends)| {
            let ends = ranks.into_iter().zip(ends).take(gone);
            let end =
                |(rank, (exit, said)): (u32, (Exit, &str))| End { rank, exit, said: said.into() };
            (world, ends.map(end).collect())
        })
    })
}

/// The kind of a fate, and why.
fn kind(fate: &Fate) -> (&'static str, Option<Why>) {
    match fate {
        Fate::Goes => ("goes", None),
        Fate::Waits(cause) => ("waits", Some(cause.why)),
        Fate::Broken(cause) => ("broken", Some(cause.why)),
        Fate::Done => ("done", None),
    }
}

fn decided(world: u32, leader: Option<Ending>, ends: &[End]) -> Fate {
    fate(&Epoch { world, leader, ends })
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn the_order_in_which_ranks_end_never_changes_what_becomes_of_them(
        (world, ends) in ends(), leader in ending(), seed in any::<prop::sample::Index>(),
    ) {
        let mut other = ends.clone();
        if !other.is_empty() {
            let at = seed.index(other.len());
            other.rotate_left(at);
            other.reverse();
        }
        let (one, two) = (decided(world, leader, &ends), decided(world, leader, &other));
        prop_assert_eq!(kind(&one), kind(&two));
    }

    #[test]
    fn the_more_ranks_have_ended_the_more_is_known(
        (world, ends) in ends(), leader in ending(),
    ) {
        let mut before = decided(world, leader, &[]);
        for gone in 1..=ends.len() {
            let after = decided(world, leader, &ends[..gone]);
            let ((was, why), (is, worse)) = (kind(&before), kind(&after));
            let kinds = ["goes", "waits", "broken", "done"];
            let order = |kind| kinds.iter().position(|it| *it == kind);
            prop_assert!(order(is) >= order(was), "{} became {}", was, is);
            prop_assert!(worse >= why, "{:?} became {:?}", why, worse);
            before = after;
        }
    }

    #[test]
    fn the_cause_is_that_of_the_first_rank_that_ended_worst(
        (world, ends) in ends(), leader in ending(),
    ) {
        let causes: Vec<Cause> = ends.iter().filter_map(Cause::of).collect();
        let worst = causes.iter().map(|cause| cause.why).max();
        let expected = causes.iter().find(|cause| Some(cause.why) == worst);
        let (Fate::Waits(cause) | Fate::Broken(cause)) = decided(world, leader, &ends) else {
            // Nothing is wrong, or nothing that is wrong matters.
            let fine = matches!(leader, Some(Ending::Complete | Ending::Missed));
            prop_assert!(fine || (expected.is_none() && ends.len() < world as usize));
            return Ok(());
        };
        match cause.why {
            Why::Stopped => {
                prop_assert_eq!(leader, Some(Ending::Stopped));
                prop_assert!(worst <= Some(Why::Lost));
            }
            Why::Wordless => prop_assert_eq!(expected, None),
            _ => prop_assert_eq!(Some(&cause), expected),
        }
    }

    #[test]
    fn ranks_that_run_are_waited_for_only_where_their_word_could_matter(
        (world, ends) in ends(), leader in ending(),
    ) {
        match decided(world, leader, &ends) {
            Fate::Waits(cause) => {
                prop_assert!(ends.len() < world as usize && !cause.why.lasts());
            }
            Fate::Broken(cause) => {
                prop_assert!(ends.len() >= world as usize || cause.why.lasts());
            }
            Fate::Goes => prop_assert!(ends.iter().all(|end| end.exit == Exit::Code(0))),
            Fate::Done => {
                prop_assert!(matches!(leader, Some(Ending::Complete | Ending::Missed)));
            }
        }
    }
}

#[test]
fn only_a_ranks_own_word_makes_a_break_last() {
    let lasting: Vec<i32> = (-300..300)
        .filter(|code| {
            let end = End { rank: 0, exit: Exit::Code(*code), said: String::new() };
            Cause::of(&end).is_some_and(|cause| cause.why.lasts())
        })
        .collect();
    assert_eq!(lasting, [EXIT_CONFIG, EXIT_MEMORY, EXIT_DIVERGED]);
    // Neither a panic nor the kernel says that it happens again.
    for exit in [Exit::Code(101), Exit::Signal(9), Exit::NoMemory, Exit::Removed, Exit::Unknown] {
        let cause = Cause::of(&End { rank: 0, exit, said: String::new() }).unwrap();
        assert!(!cause.why.lasts(), "{exit:?}");
    }
}

#[test]
fn an_end_is_told_with_its_rank_and_what_it_said() {
    let table = [
        (Exit::Code(0), "", "rank 2 ended"),
        (Exit::Code(3), "", "rank 2 ended with code 3"),
        (Exit::Code(2), "no data", "rank 2 ended with code 2: no data"),
        (Exit::Signal(9), "", "rank 2 was killed by signal 9"),
        (Exit::NoMemory, "", "rank 2 was killed: the memory that it was given is full"),
        (Exit::Removed, "", "rank 2 was ended from outside"),
        (Exit::Unknown, "no such file", "rank 2 could not be run: no such file"),
    ];
    for (exit, said, expected) in table {
        let end = End { rank: 2, exit, said: said.into() };
        assert_eq!(end.to_string(), expected);
        let Some(cause) = Cause::of(&end) else { continue };
        assert_eq!(cause.what, expected);
        assert_eq!(cause.sentence(), if said.is_empty() { expected } else { said });
    }
}

#[test]
fn an_island_that_somebody_else_stopped_comes_back_unless_a_rank_says_that_it_breaks_again() {
    let stopped = |exits: &[Exit]| {
        let ends = exits.iter().zip(0..);
        let ends: Vec<End> =
            ends.map(|(exit, rank)| End { rank, exit: *exit, said: String::new() }).collect();
        kind(&decided(2, Some(Ending::Stopped), &ends))
    };
    let (well, lost) = (Exit::Code(0), Exit::Code(EXIT_LOST));
    assert_eq!(stopped(&[]), ("goes", None));
    assert_eq!(stopped(&[well]), ("goes", None));
    assert_eq!(stopped(&[well, well]), ("broken", Some(Why::Stopped)));
    assert_eq!(stopped(&[lost]), ("waits", Some(Why::Stopped)));
    assert_eq!(stopped(&[well, Exit::Signal(9)]), ("broken", Some(Why::Failed)));
    assert_eq!(stopped(&[Exit::Code(EXIT_CONFIG)]), ("broken", Some(Why::Configuration)));
}
