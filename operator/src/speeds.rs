//! How fast runs and islands are: tokens over time, from what coordinators say of them.

use std::collections::BTreeMap;

use api::names::Key;
use k8s_openapi::jiff::Timestamp;
use rounds::types::RunView;

/// What was heard of each run.
#[derive(Debug, Default)]
pub(crate) struct Speeds(BTreeMap<Key, Heard>);

#[derive(Debug)]
struct Heard {
    run: Mark,
    /// By island, with the epoch that it is of.
    islands: BTreeMap<String, (u64, Mark)>,
}

/// Tokens when they grew first and last: what was under way when a run was first heard of says
/// nothing of how long it took.
#[derive(Clone, Copy, Debug)]
struct Mark {
    tokens: u64,
    grew: Option<[(Timestamp, u64); 2]>,
}

impl Mark {
    fn new(tokens: u64) -> Self {
        Self { tokens, grew: None }
    }

    /// One that has fewer than before went back, or is another of the same name: it begins anew.
    fn hear(&mut self, now: Timestamp, tokens: u64) {
        if tokens < self.tokens {
            self.grew = None;
        } else if tokens > self.tokens {
            let first = self.grew.map_or((now, tokens), |[first, _]| first);
            self.grew = Some([first, (now, tokens)]);
        }
        self.tokens = tokens;
    }

    /// Tokens a second; `None` before the second round. It does not fade between rounds.
    fn speed(&self) -> Option<f64> {
        let [first, last] = self.grew?;
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        (seconds > 0.0).then(|| last.1.saturating_sub(first.1) as f64 / seconds)
    }
}

impl Speeds {
    /// Takes note of what a run's coordinator said.
    pub(crate) fn hear(&mut self, run: &Key, view: &RunView, now: Timestamp) {
        let heard = self
            .0
            .entry(run.clone())
            .or_insert_with(|| Heard { run: Mark::new(view.tokens), islands: BTreeMap::new() });
        heard.run.hear(now, view.tokens);
        let islands = &mut heard.islands;
        islands.retain(|name, _| view.members.iter().any(|member| member.island == *name));
        for member in &view.members {
            let mark = Mark::new(member.tokens);
            let own = islands.entry(member.island.clone()).or_insert((member.epoch, mark));
            if own.0 == member.epoch {
                own.1.hear(now, member.tokens);
            } else {
                *own = (member.epoch, mark);
            }
        }
    }

    /// Tokens a second of a run since its first round that was heard of.
    pub(crate) fn of_run(&self, run: &Key) -> Option<f64> {
        self.0.get(run)?.run.speed()
    }

    /// Tokens a second of an island since the first round of its epoch, to two digits: status is
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
            tokens: *tokens,
            ..MemberView::default()
        };
        let (phase, members) = (Phase::Training, members.iter().map(member).collect());
        RunView { phase, tokens, members, ..RunView::default() }
    }

    #[test]
    fn an_epoch_s_speed_is_its_own_and_a_run_s_goes_on() {
        let (run, mut speeds) = (Key::new("ml", "run"), Speeds::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!((speeds.of_run(&run), speeds.of_island(&run, "a")), (None, None));
        speeds.hear(&run, &view(1000, &[("a", 1, 600)]), at(-100));
        speeds.hear(&run, &view(2000, &[("a", 1, 1600)]), at(0));
        let none = (speeds.of_run(&run), speeds.of_island(&run, "a"));
        assert_eq!(none, (None, None), "when the first round began is not known");
        speeds.hear(&run, &view(12_000, &[("a", 1, 13_945)]), at(10));
        speeds.hear(&run, &view(12_000, &[("a", 1, 13_945)]), at(15));
        assert_eq!(
            (speeds.of_run(&run), speeds.of_island(&run, "a")),
            (Some(1000.0), Some(1200)),
            "1,234.5 is said in two digits"
        );
        speeds.hear(&run, &view(13_000, &[("a", 2, 13_945)]), at(20));
        assert_eq!(speeds.of_island(&run, "a"), None, "its ranks started again");
        speeds.hear(&run, &view(500, &[]), at(30));
        assert_eq!((speeds.of_run(&run), speeds.of_island(&run, "a")), (None, None));
    }
}
