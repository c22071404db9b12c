//! Properties of the rounds of any islands.

use proptest::prelude::*;

use super::*;

fn any_island() -> impl Strategy<Value = Participant> {
    let bits = prop::option::of((1e3..1e11, 1e3..1e11));
    (1e-3..1e4_f64, 1..1_000_000_u64, bits).prop_map(|(step_seconds, step_tokens, bits)| {
        let uplink = bits.map(|(up, down)| Bandwidth { up, down });
        Participant { name: "island".into(), step_seconds, step_tokens, uplink }
    })
}

fn any_steps() -> impl Strategy<Value = InnerSteps> {
    prop_oneof![Just(AUTO), (1..u32::MAX).prop_map(InnerSteps::Fixed)]
}

proptest! {
    #[test]
    fn a_round_holds_every_island_and_keeps_what_was_asked(
        islands in prop::collection::vec(any_island(), 1..12),
        inner_steps in any_steps(),
        contribution_bytes in 0..1_u64 << 40,
        deadline_seconds in 1.0..1e6_f64,
    ) {
        let asked = OuterRequest {
            contribution_bytes, deadline_seconds, ..request(&islands, inner_steps)
        };
        let plan = plan_rounds(&asked).expect("sound figures");
        let fastest = islands.iter().map(|i| i.step_seconds).fold(f64::INFINITY, f64::min);
        let time = f64::from(plan.reference_steps) * fastest * (1.0 + 1e-6);
        for (island, round) in islands.iter().zip(&plan.islands) {
            prop_assert!((1..=plan.reference_steps).contains(&round.inner_steps));
            prop_assert!(round.compute_seconds <= time || round.inner_steps == 1);
            // One step more would not fit.
            prop_assert!(round.compute_seconds + island.step_seconds >= time * (1.0 - 1e-5));
            prop_assert!(round.round_seconds <= plan.round_seconds * (1.0 + 1e-9));
            prop_assert!(round.utilisation > 0.0 && round.utilisation <= 1.0);
        }
        prop_assert!(plan.utilisation > 0.0 && plan.utilisation <= 1.0 + 1e-9);
        match inner_steps {
            InnerSteps::Fixed(steps) => prop_assert_eq!(plan.reference_steps, steps),
            InnerSteps::Auto => prop_assert!(plan.reference_steps <= INNER_STEPS_MAX),
        }
        let one = plan_rounds(&OuterRequest { inner_steps: InnerSteps::Fixed(1), ..asked.clone() });
        let possible = one.expect("sound figures").round_seconds <= 0.8 * deadline_seconds;
        let late = plan.round_seconds > deadline_seconds;
        prop_assert!(inner_steps != AUTO || !possible || !late);
        let warned = late || (inner_steps == AUTO && !possible);
        prop_assert_eq!(says(&plan, "raise it to at least"), warned);
        for slowing in &plan.slowing {
            prop_assert!(slowing.without > slowing.with);
        }
    }

    #[test]
    fn no_figure_makes_it_panic(
        seconds in prop::num::f64::ANY,
        tokens in any::<u64>(),
        bits in prop::num::f64::ANY,
        bytes in any::<u64>(),
        deadline in prop::num::f64::ANY,
        steps in any::<u32>(),
    ) {
        let uplink = Some(Bandwidth { up: bits, down: 1e9 });
        let name = "odd".into();
        let odd = Participant { name, step_seconds: seconds, step_tokens: tokens, uplink };
        for inner_steps in [AUTO, InnerSteps::Fixed(steps)] {
            let request = OuterRequest {
                islands: vec![odd.clone(), island("even", 1.0, LINE)],
                contribution_bytes: bytes,
                dense_bytes: bytes,
                inner_steps,
                deadline_seconds: deadline,
            };
            if let Ok(plan) = plan_rounds(&request) {
                prop_assert!(plan.tokens_per_second().is_finite() && plan.utilisation > 0.0);
            }
        }
    }
}
