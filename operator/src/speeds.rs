//! How fast runs and islands are: tokens over time, from what coordinators say of them.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use rounds::types::RunView;

use crate::names::Key;

/// What was heard of each run.
#[derive(Debug, Default)]
pub(crate) struct Speeds(BTreeMap<Key, Heard>);

#[derive(Debug)]
struct Heard {
    run: Mark,
    /// By island, with the epoch that it is of.
    islands: BTreeMap<String, (u64, Mark)>,
}

/// Tokens at two times.
#[derive(Clone, Copy, Debug)]
struct Mark {
    first: (Timestamp, u64),
    last: (Timestamp, u64),
}

impl Mark {
    fn new(now: Timestamp, tokens: u64) -> Self {
        Self { first: (now, tokens), last: (now, tokens) }
    }

    /// Moves the end to when tokens last grew: between rounds nothing can be said. One that has
    /// fewer than before went back, or is another of the same name, and begins anew.
    fn hear(&mut self, now: Timestamp, tokens: u64) {
        if tokens < self.last.1 {
            *self = Self::new(now, tokens);
        } else if tokens > self.last.1 {
            self.last = (now, tokens);
        }
    }

    /// Tokens a second; `None` before the first round.
    fn speed(&self) -> Option<f64> {
        let seconds = self.last.0.duration_since(self.first.0).as_secs_f64();
        let tokens = self.last.1.saturating_sub(self.first.1);
        (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
    }
}

impl Speeds {
    /// Takes note of what a run's coordinator said.
    pub(crate) fn hear(&mut self, run: &Key, view: &RunView, now: Timestamp) {
        let heard = self.0.entry(run.clone()).or_insert_with(|| Heard {
            run: Mark::new(now, view.tokens),
            islands: BTreeMap::new(),
        });
        heard.run.hear(now, view.tokens);
        let islands = &mut heard.islands;
        islands.retain(|name, _| view.members.iter().any(|member| member.island == *name));
        for member in &view.members {
            let mark = Mark::new(now, member.tokens);
            let own = islands.entry(member.island.clone()).or_insert((member.epoch, mark));
            if own.0 == member.epoch {
                own.1.hear(now, member.tokens);
            } else {
                *own = (member.epoch, mark);
            }
        }
    }

    /// Tokens a second of a run since it was first heard of.
    pub(crate) fn of_run(&self, run: &Key) -> Option<f64> {
        self.0.get(run)?.run.speed()
    }

    /// Tokens a second of an island since its epoch was first heard of, to two digits: status is
    /// not written for less.
    pub(crate) fn of_island(&self, run: &Key, island: &str) -> Option<i64> {
        let speed = self.0.get(run)?.islands.get(island)?.1.speed()?;
        let digit = 10_f64.powf(speed.log10().floor() - 1.0).max(1.0);
        Some(((speed / digit).round() * digit) as i64)
    }

    /// Forgets a run.
    pub(crate) fn forget(&mut self, run: &Key) {
        self.0.remove(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rounds::types::{MemberState, MemberView, Phase};

    fn view(tokens: u64, members: &[(&str, u64, u64)]) -> RunView {
        let member = |(island, epoch, tokens): &(&str, u64, u64)| MemberView {
            island: (*island).into(),
            epoch: *epoch,
            state: MemberState::Active,
            ranks: vec![],
            round: 0,
            offered: false,
            tokens: *tokens,
        };
        RunView {
            version: 1,
            phase: Phase::Training,
            round: 0,
            theta_hash: None,
            tokens,
            members: members.iter().map(member).collect(),
            closed: vec![],
            commits: vec![],
            traceparent: String::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn an_epoch_s_speed_is_its_own_and_a_run_s_goes_on() {
        let (run, mut speeds) = (Key::new("ml", "run"), Speeds::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!((speeds.of_run(&run), speeds.of_island(&run, "a")), (None, None));
        speeds.hear(&run, &view(1000, &[("a", 1, 600)]), at(0));
        assert_eq!((speeds.of_run(&run), speeds.of_island(&run, "a")), (None, None));
        speeds.hear(&run, &view(11_000, &[("a", 1, 12_945)]), at(10));
        // Nothing new was committed: the speed does not fade between rounds.
        speeds.hear(&run, &view(11_000, &[("a", 1, 12_945)]), at(15));
        assert_eq!(
            (speeds.of_run(&run), speeds.of_island(&run, "a")),
            (Some(1000.0), Some(1200)),
            "1,234.5 is said in two digits"
        );
        speeds.hear(&run, &view(12_000, &[("a", 2, 12_945)]), at(20));
        assert_eq!(speeds.of_island(&run, "a"), None, "its ranks started again");
        speeds.hear(&run, &view(500, &[]), at(30));
        assert_eq!((speeds.of_run(&run), speeds.of_island(&run, "a")), (None, None));
    }
}
