//! The words for what happens: which records are worth a line, and how a run and its islands are
//! put in one line each.

use std::collections::BTreeMap;

use contract::event::{IslandState, WorkerEvent};

use super::event::{Begin, Body, IslandBegin, RankEvent, Record, UpEvent};
use super::state::{Activity, Island, RunState};
use crate::plan::words::{self, clip};
use crate::show;

/// The end of a reason that every island gives at every start, and nobody needs to read.
const ROUTINE: &str = " ranks met";
/// The part of a narrow line that an island's name may take.
const OF_NAME: usize = 4;

/// Says the plain lines, each thing once: all islands report the same rounds and losses.
#[derive(Debug, Default)]
pub struct Teller {
    round: Option<u64>,
    evaluation: Option<u64>,
    /// How many times it is known that the run went back.
    rewinds: usize,
    /// The reason that was said last for what each island does, by island.
    reasons: BTreeMap<String, String>,
}

impl Teller {
    /// Lines for a record that `state` already knows; most records have none.
    pub fn lines(&mut self, record: &Record, state: &RunState) -> Vec<String> {
        match &record.body {
            Body::Up(event) => {
                self.note_own(event, state);
                own_lines(event)
            }
            Body::Rank(event) => {
                let rewind = self.rewind_line(state);
                rewind.into_iter().chain(self.rank_line(event, state)).collect()
            }
        }
    }

    fn note_own(&mut self, event: &UpEvent, state: &RunState) {
        match event {
            // Earlier sessions told what happened in them.
            UpEvent::Begin(_) | UpEvent::BeganAgain { .. } | UpEvent::Adopted { .. } => {
                self.rewinds = state.rewinds.len();
            }
            UpEvent::IslandStarted { island, .. } => drop(self.reasons.remove(island)),
            _ => {}
        }
    }

    /// Rounds that are made again are told again.
    fn rewind_line(&mut self, state: &RunState) -> Option<String> {
        let round = state.rewinds.get(self.rewinds..)?.iter().min()?;
        self.rewinds = state.rewinds.len();
        self.round = self.round.filter(|told| told < round);
        self.evaluation = self.evaluation.map(|told| told.min(*round));
        Some(format!("went back to round {round}: no island held a later one"))
    }

    fn rank_line(&mut self, record: &RankEvent, state: &RunState) -> Option<String> {
        let (island, rank) = (&record.island, record.rank);
        match &record.event {
            WorkerEvent::State { state, round, reason } => {
                self.state_line(island, *state, *round, reason)
            }
            WorkerEvent::Step { round, step, skipped: true, .. } => {
                Some(format!("{island}: skipped step {step} of round {round}: it was not finite"))
            }
            WorkerEvent::Round { round, .. } if self.round < Some(*round) => {
                self.round = Some(*round);
                Some(run_line(state))
            }
            WorkerEvent::Evaluation { round, heldout_loss } if self.evaluation < Some(*round) => {
                self.evaluation = Some(*round);
                Some(format!("held-out loss {heldout_loss:.4} at the start of round {round}"))
            }
            WorkerEvent::Checkpoint { round, path } => {
                // The next one that cannot be written is news again.
                self.reasons.remove(island);
                Some(format!("{island}: checkpoint of round {round} in {path}"))
            }
            WorkerEvent::Finished { ending } if rank == 0 => {
                Some(format!("{island}: ended ({ending})"))
            }
            WorkerEvent::Failed { error } => Some(format!("{island}: rank {rank} failed: {error}")),
            WorkerEvent::Warning { message } => {
                Some(format!("{island}: rank {rank} warns: {message}"))
            }
            _ => None,
        }
    }

    /// A line for an island's state, which is worth one where it says why.
    fn state_line(
        &mut self,
        island: &str,
        state: IslandState,
        round: u64,
        reason: &str,
    ) -> Option<String> {
        if reason.is_empty() {
            let fetches = state == IslandState::Syncing;
            return fetches.then(|| format!("{island}: fetching the model of round {round}"));
        }
        if reason.ends_with(ROUTINE) || self.reasons.get(island).is_some_and(|r| r == reason) {
            return None;
        }
        self.reasons.insert(island.to_owned(), reason.to_owned());
        Some(format!("{island}: {reason} (round {round})"))
    }
}

/// `round 12/24  loss 2.345  islands 3  held-out 2.401 (round 12)  12.3k tokens/s  ETA 2:10`.
pub fn run_line(state: &RunState) -> String {
    run_line_within(state, usize::MAX)
}

/// The same in a line of so many columns: what matters least is left out.
pub fn run_line_within(state: &RunState, columns: usize) -> String {
    let total = state.begin.as_ref().map_or(0, |begin| begin.rounds);
    let done = state.committed();
    let newest = state.rounds.last_key_value().map(|(_, round)| round);
    let evaluated = state.heldout.last_key_value();
    let parts = [
        (0, Some(format!("round {done}/{}", total.max(done)))),
        (2, newest.map(|round| format!("loss {:.3}", round.loss))),
        (5, newest.map(|round| format!("islands {}", round.islands))),
        (4, evaluated.map(|(round, loss)| format!("held-out {loss:.3} (round {round})"))),
        (3, state.tokens_per_second().map(|speed| format!("{} tokens/s", show::count(speed)))),
        (1, state.seconds_left().map(|left| format!("ETA {}", show::duration(left)))),
    ];
    let there = parts.into_iter().filter_map(|(order, part)| Some((order, part?)));
    within(there.collect(), columns)
}

/// One island in one line of so many columns; names are padded to `width`, as far as there is room.
pub fn island_line(name: &str, width: usize, island: &Island, columns: usize) -> String {
    let activity = match &island.activity {
        Activity::Pending => "pending",
        Activity::Working(state) => working(*state),
        Activity::Restarting => "restarting",
        Activity::Ended => "ended",
        Activity::GivenUp => "given up",
    };
    let width = width.min(columns / OF_NAME);
    let name = clip(name, width);
    let speed = island.tokens_per_second.map_or_else(|| "-".to_owned(), show::count);
    let (round, step, steps) = (island.round, island.step, island.inner_steps);
    let mfu = island.mfu.map(|mfu| (4, format!("MFU {:.0}%", 100.0 * mfu)));
    let mut parts = vec![
        (0, format!("{name:width$}  {activity:10}  round {round:<4} step {step:>3}/{steps:<3}")),
        (1, format!("{speed:>5} tokens/s")),
        (2, format!("{:>7} sent", show::bytes(island.bytes_sent as f64))),
        (3, format!("[{}]", island.cards)),
    ];
    parts.extend(mfu);
    within(parts, columns)
}

/// Parts in a line of so many columns: those of the highest order are left out first, and what is
/// too long by itself is cut.
fn within(mut parts: Vec<(u8, String)>, columns: usize) -> String {
    loop {
        let line = parts.iter().map(|(_, part)| part.as_str()).collect::<Vec<_>>().join("  ");
        if line.chars().count() <= columns {
            return line;
        }
        let last = (0..parts.len()).max_by_key(|at| parts[*at].0);
        match last.filter(|_| parts.len() > 1) {
            Some(last) => drop(parts.remove(last)),
            None => return clip(&line, columns),
        }
    }
}

fn working(state: IslandState) -> &'static str {
    match state {
        IslandState::Starting => "starting",
        IslandState::Syncing => "syncing",
        IslandState::Training => "training",
        IslandState::Exchanging => "exchanging",
        IslandState::Waiting => "waiting",
    }
}

fn kept(store: &Option<String>) -> String {
    store.as_ref().map_or_else(String::new, |path| format!("; the old store is kept as {path}"))
}

fn own_lines(event: &UpEvent) -> Vec<String> {
    match event {
        UpEvent::Begin(begin) => begin_lines(begin),
        UpEvent::BeganAgain { rounds, tokens, store } => {
            let (plural, tokens) =
                (if *rounds == 1 { "" } else { "s" }, show::count(*tokens as f64));
            vec![format!(
                "no island has a checkpoint: the run begins again from its start, and {rounds} \
                 round{plural} of {tokens} tokens are lost{}",
                kept(store)
            )]
        }
        UpEvent::Adopted { round, tokens, cost, store } => {
            let tokens = show::count(*tokens as f64);
            vec![format!(
                "a new store of the coordinator adopts the checkpoint of round {round}, at \
                 {tokens} tokens: {cost}{}",
                kept(store)
            )]
        }
        UpEvent::CoordinatorStarted { address } => vec![format!("coordinator serves {address}")],
        UpEvent::CoordinatorRestarting { reason, after } => {
            vec![format!("{reason}; it starts again in {after:.1} s")]
        }
        UpEvent::IslandStarted { island, epoch } => {
            vec![format!("{island}: started, epoch {epoch}")]
        }
        UpEvent::IslandRestarting { island, epoch, reason, after } => {
            vec![format!("{island}: {reason}; it starts again in {after:.1} s, epoch {epoch}")]
        }
        UpEvent::IslandGivenUp { island, reason } => vec![format!("{island}: given up: {reason}")],
        UpEvent::Stopping { reason } => vec![format!(
            "{reason}: islands that run offer what they have, write a checkpoint and leave \
             (another Ctrl-C kills them)"
        )],
        UpEvent::Warning { message } => vec![format!("warning: {message}")],
        UpEvent::RankExited { .. } | UpEvent::End { .. } => Vec::new(),
    }
}

fn begin_lines(begin: &Begin) -> Vec<String> {
    let verb = if begin.resumed { "goes on" } else { "starts" };
    let (rounds, tokens) = (begin.rounds, show::count(begin.tokens as f64));
    let parameters = show::count(begin.parameters as f64);
    let run = &begin.run;
    let mut lines: Vec<String> = begin.emulated.clone().into_iter().collect();
    let whole = begin.expected_tokens.map(|tokens| show::count(tokens as f64));
    let whole = whole.filter(|whole| *whole != tokens);
    let whole = whole.map_or_else(String::new, |whole| format!(" that make {whole}"));
    let plural = if rounds == 1 { "" } else { "s" };
    lines.push(format!(
        "run {run} {verb}: {parameters} parameters, {tokens} tokens, about {rounds} round{plural}\
         {whole}"
    ));
    lines.extend(begin.islands.iter().map(|island| {
        let plural = if island.inner_steps == 1 { "" } else { "s" };
        let IslandBegin { name, cards, inner_steps, .. } = island;
        format!("  {name}: {cards}, {inner_steps} inner step{plural} a round")
    }));
    lines.extend(begin.expected_seconds.zip(begin.round_seconds).map(|(seconds, round)| {
        let rest = if begin.resumed { "the rest of it" } else { "it" };
        let (all, round) = (show::about(seconds), words::seconds(round));
        format!(
            "{rest} takes about {all} here by its plan, {round} a round; what is measured then \
                 corrects that"
        )
    }));
    lines
}

#[cfg(test)]
mod told;

#[cfg(test)]
mod tests {
    use super::super::state::Round;
    use super::*;

    #[test]
    fn no_line_of_the_screen_is_longer_than_the_terminal_is_wide() {
        let begin = Begin { rounds: 1_000, tokens: 2_000_000, ..Begin::default() };
        let round = Round { loss: 12.345, islands: 1_024, tokens: 1_000_000, ..Round::default() };
        let mut state = RunState::default();
        state.rounds.insert(998, round);
        state.heldout.insert(998, 12.345);
        state.begin = Some(begin);
        let island = Island {
            cards: "8 × NVIDIA-H100-80GB-HBM3 + 4 × NVIDIA-GeForce-RTX-4090".to_owned(),
            tokens_per_second: Some(123_456.0),
            bytes_sent: 123_456_789,
            inner_steps: 250,
            ..Island::default()
        };
        let name = "a-name-of-an-island-that-is-as-long-as-kubernetes-lets-it-be-63";
        for columns in 0..200 {
            let lines = [run_line_within(&state, columns), island_line(name, 63, &island, columns)];
            for line in &lines {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
            if columns >= 60 {
                assert!(lines[0].starts_with("round 999/1000  loss 12.345"), "{lines:?}");
                assert!(lines[1].contains("pending"), "{lines:?}");
            }
        }
        let whole = island_line("dc", 2, &island, 200);
        assert!(whole.ends_with("RTX-4090]"), "{whole}");
    }
}
