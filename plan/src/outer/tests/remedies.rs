//! What reasons say to change is tried: it has to do what they say. And islands that join.

use proptest::prelude::*;

use super::*;

fn any_island() -> impl Strategy<Value = Participant> {
    let bits = prop::option::of((1e5..1e10, 1e5..1e10));
    (1e-2..1e3_f64, 1..1_000_000_u64, bits).prop_map(|(step_seconds, step_tokens, bits)| {
        let uplink = bits.map(|(up, down)| Bandwidth { up, down });
        Participant { name: "island".into(), step_seconds, step_tokens, uplink }
    })
}

/// The number that follows some words in any of the reasons.
fn figure(plan: &OuterPlan, words: &str) -> Option<f64> {
    let mut rests = plan.reasons.iter().filter_map(|reason| reason.split_once(words));
    let (_, rest) = rests.next()?;
    let number = rest.split([' ', ',', ':']).next()?;
    Some(number.parse().expect("a number"))
}

proptest! {
    #[test]
    fn every_remedy_does_what_it_says(
        islands in prop::collection::vec(any_island(), 1..8),
        inner_steps in prop_oneof![Just(AUTO), (1..2000_u32).prop_map(InnerSteps::Fixed)],
        contribution_bytes in 0..1_u64 << 34,
        deadline_seconds in 1.0..1e5_f64,
    ) {
        let asked =
            OuterRequest { contribution_bytes, deadline_seconds, ..request(&islands, inner_steps) };
        let planned = |request: &OuterRequest| plan_rounds(request).expect("sound figures");
        let plan = planned(&asked);
        if let Some(deadline_seconds) = figure(&plan, "raise it to at least ") {
            // A deadline of more than 30 days is none.
            if deadline_seconds <= 30.0 * 86_400.0 {
                let later = planned(&OuterRequest { deadline_seconds, ..asked.clone() });
                prop_assert!(!says(&later, "raise it to at least"), "{later:#?}");
                prop_assert!(later.round_seconds <= deadline_seconds);
            }
        }
        if let Some(steps) = figure(&plan, "or lower sparseLoCo.innerSteps to ") {
            let inner_steps = InnerSteps::Fixed(steps as u32);
            let fewer = planned(&OuterRequest { inner_steps, ..asked.clone() });
            prop_assert!(fewer.reference_steps < plan.reference_steps);
            prop_assert!(!says(&fewer, "raise it to at least"), "{fewer:#?}");
        }
        if let Some(steps) = figure(&plan, "of a round: raise sparseLoCo.innerSteps to ") {
            let inner_steps = InnerSteps::Fixed(steps as u32);
            let more = planned(&OuterRequest { inner_steps, ..asked.clone() });
            prop_assert!(more.utilisation > plan.utilisation, "{} after {}", more.utilisation,
                plan.utilisation);
            prop_assert!(more.round_seconds <= 0.8 * deadline_seconds);
        }
        // Whoever is said to slow the run is left out, those before it, too.
        let mut left = asked.clone();
        left.inner_steps = InnerSteps::Fixed(plan.reference_steps);
        for slowing in &plan.slowing {
            prop_assert!(slowing.without > slowing.with * 1.01);
        }
        if let [first, ..] = &plan.slowing[..] {
            prop_assert!((first.with / plan.tokens_per_second() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn an_island_that_joins_makes_the_steps_that_it_has_in_the_plan(
        islands in prop::collection::vec(any_island(), 1..8),
        steps in 1..2000_u32,
    ) {
        let plan = plan_rounds(&request(&islands, InnerSteps::Fixed(steps))).expect("sound");
        let fastest = islands.iter().map(|it| it.step_seconds).fold(f64::INFINITY, f64::min);
        let window = f64::from(steps) * fastest;
        for (island, round) in islands.iter().zip(&plan.islands) {
            let joined = joining_steps(plan.compute_seconds(), island.step_seconds);
            // A single step that is longer than the window leaves room for more of the others'.
            prop_assert!(joined >= round.inner_steps);
            if plan.compute_seconds() <= window * (1.0 + 1e-9) {
                prop_assert_eq!(joined, round.inner_steps);
            }
        }
    }

    #[test]
    fn no_figures_make_a_round_of_no_steps_or_of_too_many(
        compute in prop::num::f64::ANY,
        step in prop::num::f64::ANY,
    ) {
        prop_assert!((1..=100_000).contains(&joining_steps(compute, step)));
    }
}

#[test]
fn whole_steps_are_not_lost_to_rounding_where_an_island_joins() {
    // 43 × 0.1 is 4.300000000000001, and 3 × 0.7 is 2.0999999999999996.
    for step in [0.1, 0.2, 0.3, 0.7, 1.1, 1.3] {
        for steps in 1..=1000_u32 {
            assert_eq!(joining_steps(f64::from(steps) * step, step), steps, "{step}");
        }
    }
    assert_eq!(joining_steps(10.0, 3.0), 3);
    assert_eq!(joining_steps(1.0, 3.0), 1, "a step in any case");
    assert_eq!(joining_steps(1e9, 1e-3), 100_000);
}

/// 200 steps of the fast one hold two of the slow one, and 250 hold no third: the exchange is a
/// smaller share of a longer round, in which the one that gives most waits longer.
#[test]
fn more_steps_are_not_advised_where_they_leave_more_of_the_round_empty() {
    let heavy = Participant { step_tokens: 1_000_000, ..island("heavy", 100.0, LINE) };
    let light = Participant { step_tokens: 1, ..island("light", 1.0, LINE) };
    let with = |steps| {
        let request = OuterRequest {
            contribution_bytes: 1_250_000_000,
            ..request(&[heavy.clone(), light.clone()], InnerSteps::Fixed(steps))
        };
        plan_rounds(&request).expect("sound figures")
    };
    let (plan, longer) = (with(200), with(250));
    assert!(plan.utilisation < 0.8 && longer.utilisation < plan.utilisation);
    assert!(!says(&plan, "raise sparseLoCo.innerSteps"), "{plan:#?}");
    assert!(says(&plan, "faster uplinks, fewer islands"), "{plan:#?}");
}

#[test]
fn an_island_by_itself_exchanges_nothing_and_nobody_tells_it_of_uplinks() {
    let alone = plan(&[island("a", 1.0, None)], AUTO);
    assert_eq!((alone.exchange_seconds, alone.utilisation), (0.0, 1.0));
    assert_eq!(alone.islands[0].upload.bytes, 0);
    assert_eq!(alone.reasons.len(), 1, "{alone:#?}");
    assert_eq!(alone.slowing, []);
}

#[test]
fn the_edges_of_what_a_round_is_planned_from() {
    let with = |change: &dyn Fn(&mut OuterRequest)| {
        let mut request = request(&[island("a", 1.0, LINE), island("b", 1.0, LINE)], AUTO);
        change(&mut request);
        plan_rounds(&request)
    };
    let month = 30.0 * 86_400.0;
    assert!(with(&|it| it.deadline_seconds = month).is_ok());
    assert_eq!(
        with(&|it| it.deadline_seconds = month + 1.0),
        Err(OuterError::Deadline(month + 1.0))
    );
    assert!(with(&|it| it.islands[0].step_seconds = 1e-6).is_ok());
    assert!(with(&|it| it.islands[0].step_seconds = 9e-7).is_err());
    assert!(with(&|it| it.islands[0].step_seconds = month).is_ok());
    assert!(with(&|it| it.islands[1].uplink = Some(Bandwidth { up: 1.0, down: 1e18 })).is_ok());
    assert!(with(&|it| it.islands[1].uplink = Some(Bandwidth { up: 0.9, down: 1.0 })).is_err());
    let many = |count| vec![island("a", 1.0, None); count];
    assert!(with(&|it| it.islands = many(ISLANDS_MAX)).is_ok());
    let refused = with(&|it| it.islands = many(ISLANDS_MAX + 1));
    assert_eq!(refused, Err(OuterError::TooManyIslands(ISLANDS_MAX + 1)));
}
