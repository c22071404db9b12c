//! The summary of a run: figures over [`RunState`], as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use plan::calibration::Calibration;
use serde::{Deserialize, Deserializer, Serialize};

use super::heldout;
use super::state::{Island, Report, Round, RunState};
use crate::show;

/// The figures of all sessions of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// Whether the cards were emulated by CPU processes.
    pub emulated: bool,
    /// Committed rounds.
    pub rounds: u64,
    /// Tokens of all committed rounds.
    pub tokens: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// The first held-out loss measured, and the round at whose start.
    #[serde(default, deserialize_with = "null_is_nan")]
    pub heldout_first: Option<(u64, f64)>,
    /// The last one.
    #[serde(default, deserialize_with = "null_is_nan")]
    pub heldout_last: Option<(u64, f64)>,
    /// The lowest one.
    #[serde(default)]
    pub heldout_lowest: Option<(u64, f64)>,
    /// True where after each round all islands held the same θ; absent before the first round.
    pub replicas_identical: Option<bool>,
    /// Rounds after which they did not.
    pub differing_rounds: Vec<u64>,
    /// Traffic on the wire.
    pub wire: Wire,
    /// Seconds of all sessions.
    pub wall_seconds: f64,
    /// Islands by name.
    pub islands: BTreeMap<String, IslandSummary>,
    /// Folder of the newest complete checkpoint of the first island that has one.
    pub checkpoint: Option<String>,
}

/// JSON has no NaN: the loss of a model that diverged is written as null.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(u64, f64)>, D::Error> {
    let pair: Option<(u64, Option<f64>)> = Option::deserialize(deserializer)?;
    Ok(pair.map(|(round, loss)| (round, loss.unwrap_or(f64::NAN))))
}

/// Traffic on the wire between islands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wire {
    /// Bytes that left islands' processes for other islands, a round, all islands together; copies
    /// of θ aside.
    pub bytes_per_round: f64,
    /// Bytes of one contribution, on average.
    pub contribution_bytes: f64,
    /// Bits received for each kept value that had to come from another island.
    pub bits_per_value: Option<f64>,
    /// How many times more bytes the same exchange takes as dense f32.
    pub ratio_to_f32: Option<f64>,
    /// Bytes of copies of θ that islands fetched which came late, or came back.
    #[serde(default)]
    pub copies_bytes: u64,
}

/// One island's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IslandSummary {
    /// Its cards, for people.
    pub cards: String,
    /// Contributions that are in a committed set.
    pub contributions: u64,
    /// Bytes that left it for other islands.
    pub bytes_sent: u64,
    /// Seconds in inner steps.
    pub compute_seconds: f64,
    /// Seconds compressing, fetching, aggregating.
    pub exchange_seconds: f64,
    /// Seconds waiting for other islands.
    pub waiting_seconds: f64,
    /// The device that came nearest to its plan, or went beyond: bytes measured and planned.
    #[serde(default)]
    pub fullest: Option<(u64, u64)>,
    /// The seconds that its steps took beside those that were planned.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Bytes between its pipeline stages.
    #[serde(default)]
    pub boundary_bytes: u64,
    /// Inner steps that were not finite and changed nothing.
    #[serde(default)]
    pub skipped_steps: u64,
    /// Times that it was started again after it broke.
    pub restarts: u64,
    /// Its newest complete checkpoint.
    pub checkpoint: Option<String>,
}

impl Summary {
    /// The summary of `state`.
    pub fn of(state: &RunState) -> Self {
        let begin = state.begin.clone().unwrap_or_default();
        let differing: Vec<u64> =
            state.rounds.iter().filter(|(_, r)| !r.is_identical()).map(|(n, _)| *n).collect();
        let pair = |(round, loss): (&u64, &f64)| (*round, *loss);
        Self {
            run: begin.run,
            emulated: begin.emulated.is_some(),
            rounds: state.committed(),
            tokens: state.tokens,
            parameters: begin.parameters,
            heldout_first: state.heldout.first_key_value().map(pair),
            heldout_last: state.heldout.last_key_value().map(pair),
            heldout_lowest: heldout::lowest(&state.heldout),
            replicas_identical: (!state.rounds.is_empty()).then_some(differing.is_empty()),
            differing_rounds: differing,
            wire: Wire::of(state, begin.parameters),
            wall_seconds: state.wall,
            islands: state.islands.iter().map(|(n, i)| (n.clone(), of(n, i))).collect(),
            checkpoint: newest_checkpoint(state),
        }
    }

    /// Some lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let devices = if self.emulated { " (on emulated cards)" } else { "" };
        writeln!(out, "run {}{devices}", self.run)?;
        let (rounds, tokens) = (self.rounds, show::count(self.tokens as f64));
        let wall = show::duration(self.wall_seconds);
        writeln!(out, "  rounds        {rounds}, {tokens} tokens, in {wall}")?;
        if let (Some((first_round, first)), Some((last_round, last))) =
            (self.heldout_first, self.heldout_last)
        {
            write!(out, "  held-out loss {first:.4} (round {first_round}) → ")?;
            writeln!(out, "{last:.4} (round {last_round}) nats per token")?;
            if let Some((round, lowest)) =
                self.heldout_lowest.filter(|low| last.is_nan() || low.1 < last)
            {
                writeln!(out, "                {lowest:.4} at its lowest (round {round})")?;
            }
        }
        self.write_wire(out)?;
        match (self.replicas_identical, self.differing_rounds.as_slice()) {
            (Some(true), _) => writeln!(out, "  replicas      identical after every round")?,
            (Some(false), rounds) => {
                writeln!(out, "  replicas      DIFFERENT after rounds {rounds:?}")?;
            }
            (None, _) => {}
        }
        self.write_islands(out)?;
        match &self.checkpoint {
            Some(path) => writeln!(out, "  checkpoint    {path}"),
            None => writeln!(out, "  checkpoint    none"),
        }
    }

    fn write_wire(&self, out: &mut String) -> std::fmt::Result {
        let (Some(bits), Some(ratio)) = (self.wire.bits_per_value, self.wire.ratio_to_f32) else {
            return Ok(());
        };
        let round = show::bytes(self.wire.bytes_per_round);
        let one = show::bytes(self.wire.contribution_bytes);
        writeln!(out, "  wire          {round} a round, {one} a contribution:")?;
        writeln!(out, "                {ratio:.0} × less than f32, {bits:.2} bits a kept value")?;
        if self.wire.copies_bytes > 0 {
            let copies = show::bytes(self.wire.copies_bytes as f64);
            writeln!(out, "                (and {copies} of θ, for islands that came back)")?;
        }
        Ok(())
    }

    fn write_islands(&self, out: &mut String) -> std::fmt::Result {
        let width = self.islands.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, island) in &self.islands {
            let (compute, exchange, waiting) = island.shares();
            write!(
                out,
                "  island {name:width$}  compute {compute:.0}%, exchange {exchange:.0}%, "
            )?;
            write!(out, "waiting {waiting:.0}%, {} sent", show::bytes(island.bytes_sent as f64))?;
            let counted = [("restart", island.restarts), ("skipped step", island.skipped_steps)];
            for (what, times) in counted.into_iter().filter(|(_, times)| *times > 0) {
                write!(out, ", {times} {what}{}", if times == 1 { "" } else { "s" })?;
            }
            writeln!(out, "  [{}]", island.cards)?;
            island.write_devices(out, width)?;
            island.write_calibration(out, width)?;
        }
        Ok(())
    }
}

impl IslandSummary {
    /// How full its devices were, and what its stages sent each other.
    fn write_devices(&self, out: &mut String, width: usize) -> std::fmt::Result {
        let Some((peak, planned)) = self.fullest else { return Ok(()) };
        let percent = 100.0 * peak as f64 / planned.max(1) as f64;
        let (peak, planned) = (show::bytes(peak as f64), show::bytes(planned as f64));
        write!(out, "         {:width$}  memory at most {peak} of {planned} planned", "")?;
        write!(out, " ({percent:.0}%)")?;
        if self.boundary_bytes > 0 {
            write!(out, ", {} between stages", show::bytes(self.boundary_bytes as f64))?;
        }
        writeln!(out)
    }

    /// How far its plan was from what its steps took.
    fn write_calibration(&self, out: &mut String, width: usize) -> std::fmt::Result {
        let Some(found) = &self.calibration else { return Ok(()) };
        let Calibration { planned_seconds, measured_seconds, .. } = found;
        write!(out, "         {:width$}  a step took {measured_seconds:.3} s, ", "")?;
        writeln!(out, "planned {planned_seconds:.3} ({:+.0}%)", found.error_percent())
    }

    /// Percent of its time in compute, exchange, waiting.
    fn shares(&self) -> (f64, f64, f64) {
        let all = self.compute_seconds + self.exchange_seconds + self.waiting_seconds;
        let percent = |seconds: f64| if all > 0.0 { 100.0 * seconds / all } else { 0.0 };
        (
            percent(self.compute_seconds),
            percent(self.exchange_seconds),
            percent(self.waiting_seconds),
        )
    }
}

fn of(name: &str, island: &Island) -> IslandSummary {
    let planned = island.planned;
    let calibration = planned.and_then(|(seconds, correction)| {
        Calibration::of(name, seconds, correction, &island.steps)
    });
    IslandSummary {
        cards: island.cards.clone(),
        contributions: island.contributions,
        bytes_sent: island.bytes_sent,
        compute_seconds: island.compute,
        exchange_seconds: island.exchange,
        waiting_seconds: island.waiting,
        fullest: island.fullest,
        calibration,
        boundary_bytes: island.boundary_bytes,
        skipped_steps: island.skipped_steps,
        restarts: island.restarts,
        checkpoint: island.checkpoint.as_ref().map(|(_, path)| path.clone()),
    }
}

impl Wire {
    /// The traffic of a run. Where nothing had to travel (one island), the contributions' own size
    /// takes the place of what was received.
    fn of(state: &RunState, parameters: u64) -> Self {
        let islands = || state.islands.values();
        let contributed: u64 = islands().map(|i| i.contribution_bytes).sum();
        let kept: u64 = islands().map(|i| i.contribution_values).sum();
        let contributions: u64 = islands().map(|i| i.contributions).sum();
        let sent: u64 = islands().map(|i| i.bytes_sent).sum();
        // Bytes were sent for rounds as well that the run went back behind.
        let rounds = || state.rounds.values().chain(&state.abandoned);
        let came = rounds().fold(Came::default(), Came::and);
        let dense = |contributions: u64| contributions as f64 * parameters as f64 * 4.0;
        let (bytes, values, dense) = match came.values {
            0 => (contributed, kept, dense(contributions)),
            values => (came.bytes, values, dense(came.contributions)),
        };
        let over = |a: f64, b: u64| (b > 0).then(|| a / b as f64);
        let of_rounds = sent.saturating_sub(came.copies) as f64;
        Self {
            bytes_per_round: over(of_rounds, rounds().count() as u64).unwrap_or(0.0),
            contribution_bytes: over(contributed as f64, contributions).unwrap_or(0.0),
            bits_per_value: over(8.0 * bytes as f64, values),
            ratio_to_f32: over(dense, bytes),
            copies_bytes: came.copies,
        }
    }
}

/// Bytes that came to islands that applied rounds, as far as all who contributed have told of them.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    /// Contributions that had to come.
    contributions: u64,
    /// Values kept in them.
    values: u64,
    /// Bytes that came where nothing else did.
    bytes: u64,
    /// Bytes beyond contributions: copies of θ.
    copies: u64,
}

impl Came {
    /// Where islands received more than this many times the bytes that had to come, something else
    /// came too: the frames around contributions are a few in a hundred.
    const FRAMED: u64 = 2;

    /// Adds a round: an island that applied it needed what all the others had kept. Where one that
    /// is in the set has not told of it, nobody knows how much that was.
    fn and(mut self, round: &Round) -> Self {
        let all = round.reports.values();
        let own = |report: &Report| (u64::from(report.values > 0), report.values, report.bytes);
        let total = all.clone().map(own).fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        if total.0 != u64::from(round.islands) {
            return self;
        }
        for report in all {
            let own = own(report);
            let needed = total.2 - own.2;
            if report.received > Self::FRAMED * needed {
                self.copies += report.received - needed;
                continue;
            }
            self.contributions += total.0 - own.0;
            self.values += total.1 - own.1;
            self.bytes += report.received;
        }
        self
    }
}

fn newest_checkpoint(state: &RunState) -> Option<String> {
    let all = state.islands.values().filter_map(|island| island.checkpoint.as_ref());
    let newest = all.clone().map(|(round, _)| *round).max()?;
    all.into_iter().find(|(round, _)| *round == newest).map(|(_, path)| path.clone())
}

#[cfg(test)]
mod tests;
