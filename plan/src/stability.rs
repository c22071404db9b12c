//! The decision on moving a run to a better plan: not for every gain, because moving costs tokens.

use std::fmt;

use crate::cluster::Curve;

/// Bytes that move with each parameter: θ, both of AdamW's moments and the error feedback, in f32.
pub const STATE_BYTES: u64 = 16;

/// The rules by which moving is worth it.
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

/// Tokens a second of the running plan, exchanges included, and of the one in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// The speed of the plan that runs.
    pub now: f64,
    /// The candidate.
    pub then: f64,
}

/// Why a run moves to another plan, or does not; its text is a sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weighed {
    /// A figure is below 0, infinite or not a number.
    NoFigure(f64),
    /// The candidate makes no more.
    NotFaster(Speeds),
    /// It makes more, but by a share below this.
    WithinError(Speeds, f64),
    /// Its gain until the horizon does not cover what is lost while moving.
    CostsMore(Speeds, MoveRules),
    /// Its gain does.
    Pays(Speeds, MoveRules),
}

impl Weighed {
    /// Says whether the candidate takes the running plan's place.
    #[must_use]
    pub fn moves(&self) -> bool {
        matches!(self, Self::Pays(..))
    }
}

impl fmt::Display for Speeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} tokens/s in place of {:.1}", self.then, self.now)
    }
}

impl fmt::Display for Weighed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFigure(figure) => {
                write!(f, "kept: {figure} is no figure to decide by; measure or set it again")
            }
            Self::NotFaster(speeds) => write!(f, "kept: a new plan would make {speeds}"),
            Self::WithinError(speeds, share) => {
                let least = share * 100.0;
                write!(f, "kept: a new plan would make {speeds}, less than {least:.1} % more")
            }
            Self::CostsMore(speeds, rules) => {
                let pays = rules.account(speeds);
                write!(f, "kept: a new plan would make {speeds}, which gains {pays}")
            }
            Self::Pays(speeds, rules) => {
                write!(f, "moved: {speeds} gains {}", rules.account(speeds))
            }
        }
    }
}

impl MoveRules {
    /// The tokens gained until the horizon and those lost, for people.
    fn account(&self, Speeds { now, then }: &Speeds) -> String {
        let gained = (then - now) * (self.horizon_seconds - self.move_seconds).max(0.0);
        let (horizon, lost) = (self.horizon_seconds, now * self.move_seconds);
        format!("{gained:.0} tokens in {horizon:.0} s; moving costs {lost:.0}")
    }
}

/// Seconds in which nothing is trained while `parameters` move over `link` and ranks start again.
pub fn move_seconds(parameters: u64, link: &Curve, restart_seconds: f64) -> f64 {
    match parameters {
        0 => restart_seconds,
        some => restart_seconds + link.seconds(some as f64 * STATE_BYTES as f64),
    }
}

/// Decides whether to move from the running plan to the candidate, and says why.
///
/// A plan is left only for one that is better by `min_gain`, and whose gain until the horizon is
/// above what is lost while moving. With the same figures it so never moves back. Figures that are
/// none (below 0, infinite, not a number) move nothing.
#[must_use]
pub fn decide(speeds: Speeds, rules: MoveRules) -> Weighed {
    let Speeds { now, then } = speeds;
    let MoveRules { horizon_seconds: horizon, move_seconds: moving, min_gain } = rules;
    if let Some(figure) = [now, then, horizon, moving, min_gain].into_iter().find(|f| !sound(*f)) {
        return Weighed::NoFigure(figure);
    }
    if then <= now {
        return Weighed::NotFaster(speeds);
    }
    // Nothing is the base of no share: any gain over it is enough.
    if now > 0.0 && (then - now) / now < min_gain {
        return Weighed::WithinError(speeds, min_gain);
    }
    // Not gained > lost, which rounding could make true both ways.
    if then * (horizon - moving) > now * horizon {
        Weighed::Pays(speeds, rules)
    } else {
        Weighed::CostsMore(speeds, rules)
    }
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

    fn check(now: f64, then: f64, rules: MoveRules, moves: bool, words: &str) {
        let reason = decide(Speeds { now, then }, rules);
        assert!(reason.moves() == moves && reason.to_string().contains(words), "{reason}");
    }

    #[test]
    fn a_plan_is_left_where_the_gain_pays_for_moving() {
        let better = "moved: 110.0 tokens/s in place of 100.0 gains 35400 tokens in 3600 s; \
                      moving costs 6000";
        check(100.0, 110.0, RULES, true, better);
        check(100.0, 104.9, RULES, false, "less than 5.0 % more");
        check(100.0, 100.0, RULES, false, "kept: a new plan would make 100.0");
        check(100.0, 90.0, RULES, false, "90.0 tokens/s in place of 100.0");
        let dear = MoveRules { move_seconds: 400.0, ..RULES };
        let kept = "gains 32000 tokens in 3600 s; moving costs 40000";
        check(100.0, 110.0, dear, false, kept);
        let endless = MoveRules { move_seconds: 4000.0, ..RULES };
        check(100.0, 1000.0, endless, false, "gains 0 tokens");
        check(0.0, 1.0, RULES, true, "moved");
    }

    #[test]
    fn figures_that_are_none_move_nothing() {
        for none in [f64::NAN, -1.0, f64::INFINITY] {
            check(1.0, none, RULES, false, "no figure");
            check(none, 1.0, RULES, false, "no figure");
            let rules = MoveRules { move_seconds: none, ..RULES };
            check(1.0, 9.0, rules, false, "no figure");
            let rules = MoveRules { horizon_seconds: none, ..RULES };
            check(1.0, 9.0, rules, false, "no figure");
            let rules = MoveRules { min_gain: none, ..RULES };
            check(1.0, 9.0, rules, false, "no figure");
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

    proptest! {
        #[test]
        fn a_run_that_moved_does_not_move_back(
            a in any_figure(),
            b in any_figure(),
            horizon_seconds in any_figure(),
            move_seconds in prop_oneof![any_figure(), Just(0.0)],
            min_gain in prop_oneof![any_figure(), Just(0.0)],
        ) {
            let rules = MoveRules { horizon_seconds, move_seconds, min_gain };
            let moves = |now, then| decide(Speeds { now, then }, rules).moves();
            prop_assert!(!(moves(a, b) && moves(b, a)));
        }
    }
}
