//! Islands that are slower than the others: nobody waits for work that cannot count, and none is
//! lost.

use std::sync::Arc;
use std::time::Duration;

use rounds::config::RunConfig;
use sparseloco::outer::Rule;

use super::assert_identical;
use super::toy::{Cluster, Gate, Island, Running, Script};

fn rules(grace: Duration) -> RunConfig {
    RunConfig {
        name: "toy".into(),
        islands: 2,
        minimum: 2,
        quorum_percent: 50,
        grace_ms: grace.as_millis() as u64,
        deadline_ms: 60_000,
        fetch_deadline_ms: 10_000,
        lease_ms: 5_000,
        tokens: 400,
        max_members: 16,
        go_back_after_ms: 10_000,
        go_back: false,
    }
}

#[test]
fn an_offer_that_comes_too_late_goes_back_into_the_residual() {
    let mut cluster = Cluster::with(rules(Duration::from_millis(200)));
    // Under this rule the residual changes by what is sent, and by nothing else.
    cluster.rule = Rule::Paper;
    // The other does not run away meanwhile.
    let gate = Gate::at(3);
    let (opens, waits) = (Some(Arc::clone(&gate)), Some(gate));
    let late = Script { opens, slow: Some((2, Duration::from_millis(500))), ..Script::default() };
    let steady = Script { waits, ..Script::default() };
    let islands =
        [cluster.island_with("late", 2, 1, late), cluster.island_with("steady", 1, 1, steady)];
    let islands: Vec<Island> = islands.into_iter().map(Running::finish).collect();
    assert_identical(&islands);
    let (late, steady) = (&islands[0], &islands[1]);
    assert_eq!([&late.ended[..], &steady.ended[..]], ["finished"; 2]);
    assert!(late.vain.contains_key(&2), "{:?}", late.vain);
    for (round, differs) in &late.vain {
        assert_eq!(steady.sets.get(round), Some(&1), "round {round} closed without it");
        assert!(*differs < 1e-5, "{differs} of what it had to send in round {round} was lost");
    }
    assert!(steady.vain.is_empty(), "what counted is not reported as vain: {:?}", steady.vain);
    assert!(late.sets.values().any(|islands| *islands == 2), "later rounds had both");
}

#[test]
fn an_island_that_is_too_slow_for_the_round_hands_in_what_it_has() {
    let cluster = Cluster::with(rules(Duration::from_secs(4)));
    let slow = Script { slow: Some((1, Duration::from_millis(1_200))), ..Script::default() };
    let islands = [cluster.island_with("slow", 1, 1, slow), cluster.island("quick", 1)];
    let islands: Vec<Island> = islands.into_iter().map(Running::finish).collect();
    assert_identical(&islands);
    assert!(islands[0].steps[&1] < islands[1].steps[&1], "it made fewer steps");
    assert_eq!(islands[0].sets.get(&1), Some(&2), "and they count");
    assert!(islands[0].vain.is_empty());
}
