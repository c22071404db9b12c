//! Whether a run moves to a better plan: not for every gain, because moving costs tokens.

use crate::cluster::Curve;

/// Bytes that move with each parameter: θ, both of AdamW's moments and the error feedback, in f32.
pub const STATE_BYTES: u64 = 16;

/// What a plan gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Tokens a second, exchanges included.
    pub tokens_per_second: f64,
    /// Whether the cards that it needs are there.
    pub still_possible: bool,
}

/// When moving is worth it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoveRules {
    /// Seconds, from now, in which moving has to pay.
    pub horizon_seconds: f64,
    /// Seconds in which nothing is trained because of moving: see [`move_seconds`].
    pub move_seconds: f64,
    /// Least gain as a share of what the running plan makes, such as 0.05: less is within the error
    /// of the estimate.
    pub min_gain: f64,
}

/// Whether to move, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the candidate takes the running plan's place.
    pub move_: bool,
    /// Why, a sentence.
    pub reason: String,
}

/// Seconds in which nothing is trained while `parameters` move over `link` and ranks start again.
pub fn move_seconds(parameters: u64, link: &Curve, restart_seconds: f64) -> f64 {
    match parameters {
        0 => restart_seconds,
        some => restart_seconds + link.seconds(some as f64 * STATE_BYTES as f64),
    }
}

/// Whether to move from the running plan to the candidate.
///
/// A plan that is not possible any more is left for one that is. Else a plan is left only for one
/// that is better by `min_gain`, and whose gain until the horizon is above what is lost while
/// moving. With the same figures it so never moves back. Figures that are none (below 0, infinite,
/// not a number) move nothing that is possible.
pub fn decide(running: &Standing, candidate: &Standing, rules: &MoveRules) -> Decision {
    match (running.still_possible, candidate.still_possible) {
        (true, true) => weigh(running.tokens_per_second, candidate.tokens_per_second, rules),
        (false, true) => go("moved: the running plan's cards are not all there any more".into()),
        (true, false) => stay("kept: the new plan's cards are not all there".into()),
        (false, false) => {
            stay("kept: neither plan's cards are all there; wait for cards or plan anew".into())
        }
    }
}

/// Tokens a second `now` against those of a candidate, `then`.
fn weigh(now: f64, then: f64, rules: &MoveRules) -> Decision {
    let MoveRules { horizon_seconds: horizon, move_seconds: moving, min_gain } = *rules;
    if let Some(figure) = [now, then, horizon, moving, min_gain].into_iter().find(|f| !sound(*f)) {
        return stay(format!("kept: {figure} is no figure to decide by; measure or set it again"));
    }
    let what = format!("{then:.1} tokens/s in place of {now:.1}");
    if then <= now {
        return stay(format!("kept: a new plan would make {what}"));
    }
    // Nothing is the base of no share: any gain over it is enough.
    if now > 0.0 && (then - now) / now < min_gain {
        let least = min_gain * 100.0;
        return stay(format!("kept: a new plan would make {what}, less than {least:.1} % more"));
    }
    let (gained, lost) = ((then - now) * (horizon - moving).max(0.0), now * moving);
    let pays = format!("{gained:.0} tokens in {horizon:.0} s; moving costs {lost:.0}");
    // Not gained > lost, which rounding could make true both ways.
    if then * (horizon - moving) > now * horizon {
        go(format!("moved: {what} gains {pays}"))
    } else {
        stay(format!("kept: a new plan would make {what}, which gains {pays}"))
    }
}

fn go(reason: String) -> Decision {
    Decision { move_: true, reason }
}

fn stay(reason: String) -> Decision {
    Decision { move_: false, reason }
}

fn sound(figure: f64) -> bool {
    figure.is_finite() && figure >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const RULES: MoveRules =
        MoveRules { horizon_seconds: 3600.0, move_seconds: 60.0, min_gain: 0.05 };

    fn makes(tokens_per_second: f64) -> Standing {
        Standing { tokens_per_second, still_possible: true }
    }

    fn gone(tokens_per_second: f64) -> Standing {
        Standing { tokens_per_second, still_possible: false }
    }

    fn check(running: Standing, candidate: Standing, rules: MoveRules, move_: bool, words: &str) {
        let decision = decide(&running, &candidate, &rules);
        assert!(decision.move_ == move_ && decision.reason.contains(words), "{decision:?}");
    }

    #[test]
    fn a_plan_is_left_where_the_gain_pays_for_moving() {
        let better = "moved: 110.0 tokens/s in place of 100.0 gains 35400 tokens in 3600 s; \
                      moving costs 6000";
        check(makes(100.0), makes(110.0), RULES, true, better);
        check(makes(100.0), makes(104.9), RULES, false, "less than 5.0 % more");
        check(makes(100.0), makes(100.0), RULES, false, "kept: a new plan would make 100.0");
        check(makes(100.0), makes(90.0), RULES, false, "90.0 tokens/s in place of 100.0");
        let dear = MoveRules { move_seconds: 400.0, ..RULES };
        let kept = "gains 32000 tokens in 3600 s; moving costs 40000";
        check(makes(100.0), makes(110.0), dear, false, kept);
        let endless = MoveRules { move_seconds: 4000.0, ..RULES };
        check(makes(100.0), makes(1000.0), endless, false, "gains 0 tokens");
        check(makes(0.0), makes(1.0), RULES, true, "moved");
    }

    #[test]
    fn a_plan_without_its_cards_is_left_whatever_it_costs() {
        let dear = MoveRules { move_seconds: 1e9, ..RULES };
        check(gone(100.0), makes(1.0), dear, true, "not all there any more");
        check(gone(100.0), makes(f64::NAN), dear, true, "not all there any more");
        check(makes(1.0), gone(100.0), RULES, false, "the new plan's cards are not all there");
        check(gone(1.0), gone(100.0), RULES, false, "neither plan");
    }

    #[test]
    fn figures_that_are_none_move_nothing() {
        for none in [f64::NAN, -1.0, f64::INFINITY] {
            check(makes(1.0), makes(none), RULES, false, "no figure");
            check(makes(none), makes(1.0), RULES, false, "no figure");
            let rules = MoveRules { move_seconds: none, ..RULES };
            check(makes(1.0), makes(9.0), rules, false, "no figure");
            let rules = MoveRules { horizon_seconds: none, ..RULES };
            check(makes(1.0), makes(9.0), rules, false, "no figure");
            let rules = MoveRules { min_gain: none, ..RULES };
            check(makes(1.0), makes(9.0), rules, false, "no figure");
        }
    }

    #[test]
    fn moving_takes_a_restart_and_sixteen_bytes_for_each_parameter() {
        let link = Curve::linear(0.5, 1e9);
        assert!((move_seconds(1_000_000_000, &link, 30.0) - 46.5).abs() < 1e-6);
        assert_eq!(move_seconds(0, &link, 30.0), 30.0);
        assert!(move_seconds(u64::MAX, &link, 30.0).is_finite());
    }

    fn any_figure() -> impl Strategy<Value = f64> {
        prop_oneof![prop::num::f64::ANY, 0.0..1e6_f64, 0.999..1.001_f64, Just(1.0)]
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        (any_figure(), any::<bool>()).prop_map(|(tokens_per_second, still_possible)| Standing {
            tokens_per_second,
            still_possible,
        })
    }

    proptest! {
        #[test]
        fn a_run_that_moved_does_not_move_back(
            a in any_standing(),
            b in any_standing(),
            horizon_seconds in any_figure(),
            move_seconds in prop_oneof![any_figure(), Just(0.0)],
            min_gain in prop_oneof![any_figure(), Just(0.0)],
        ) {
            let rules = MoveRules { horizon_seconds, move_seconds, min_gain };
            prop_assert!(!(decide(&a, &b, &rules).move_ && decide(&b, &a, &rules).move_));
        }
    }
}
