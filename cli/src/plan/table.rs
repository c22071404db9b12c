//! A plan as tables for people: the run, then every island with what each of its cards does and
//! holds, and why.

use std::fmt::Write as _;

use plan::outer::{IslandRound, Transfer};
use plan::planner::{IslandPlan, RunPlan, StepTime, Usage};
use plan::shard::Grid;

use super::words::{clip, grouped, percent, seconds};
use super::{View, column, explain, grid};
use crate::show;

/// The widest name of an island in the table of rounds.
const NAME_MAX: usize = 32;

/// The parts of a step and its whole, by the names of their columns.
pub(super) const STEP: [&str; 6] =
    ["compute", "tensor", "bubble", "all-reduce", "optimizer", "step"];

/// Seconds, in the order of [`STEP`].
pub(super) fn parts(step: &StepTime) -> [f64; 6] {
    [step.compute, step.tensor, step.bubble, step.all_reduce, step.optimizer, step.total()]
}

pub(super) fn render(view: &View, explained: bool) -> String {
    let mut text = String::new();
    if let Some(line) = view.basis.line() {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(&run(&view.plan));
    for island in &view.plan.islands {
        text.push('\n');
        text.push_str(&describe(island, view.plan.emulated));
        if explained {
            text.push_str(&explain::table(island));
        }
    }
    text
}

fn run(plan: &RunPlan) -> String {
    let (rules, outer) = (&plan.rounds, &plan.outer);
    let mut text = format!(
        "run {}: {} parameters, {} tokens\n\
         rounds: {} of {} tokens, {} each; quorum {}%, grace {}, deadline {}\n\
         exchange: {} of a round; about {} from each island to each other, {:.0} × less than dense \
         f32\n\
         speed: {} tokens/s, exchanges included; utilisation {}\n\
         cards: {}\n\n",
        plan.run.name,
        grouped(plan.dense_bytes / 4),
        grouped(plan.run.tokens),
        grouped(plan.run.total_rounds),
        grouped(outer.round_tokens),
        seconds(outer.round_seconds),
        rules.quorum_percent,
        seconds(rules.grace.as_secs_f64()),
        seconds(rules.deadline.as_secs_f64()),
        seconds(outer.exchange_seconds),
        show::bytes(plan.contribution_bytes as f64),
        plan.dense_bytes as f64 / plan.contribution_bytes.max(1) as f64,
        grouped(outer.tokens_per_second() as u64),
        percent(outer.utilisation),
        used(&plan.usage()),
    );
    let heads = ["island", "H", "steps", "up", "down", "round", "utilisation"].map(str::to_owned);
    let rows = outer.islands.iter().map(|island| round(island).to_vec());
    let rows: Vec<_> = std::iter::once(heads.to_vec()).chain(rows).collect();
    text.extend(grid::headed("  ", &rows));
    for reason in &outer.reasons {
        let _ = writeln!(text, "  why: {reason}");
    }
    text
}

/// How many of the cards are used, and their share of the speed of all.
fn used(usage: &Usage) -> String {
    let Usage { used, given, .. } = usage;
    format!("{used} of {given} used, {} of the speed of all", percent(usage.speed()))
}

fn round(island: &IslandRound) -> [String; 7] {
    [
        clip(&island.name, NAME_MAX),
        island.inner_steps.to_string(),
        seconds(island.compute_seconds),
        transfer(&island.upload),
        transfer(&island.download),
        seconds(island.round_seconds),
        percent(island.utilisation),
    ]
}

fn transfer(transfer: &Transfer) -> String {
    let bytes = show::bytes(transfer.bytes as f64);
    match transfer.seconds {
        _ if transfer.bytes == 0 => "nothing".into(),
        Some(taken) => format!("{bytes} in {}", seconds(taken)),
        None => format!("{bytes} in ?"),
    }
}

fn describe(island: &IslandPlan, emulated: bool) -> String {
    // The share of peaks that a CPU in a card's place reaches says nothing.
    let mfu = if emulated { String::new() } else { format!(", MFU {}", percent(island.mfu)) };
    let mut text = format!(
        "island {}: {}, H {}, {} a step, {} tokens/s{mfu}\n",
        island.spec.name,
        shape(&Grid::of(&island.spec)),
        island.spec.inner_steps,
        seconds(island.step_seconds()),
        grouped(island.spec.tokens_per_second as u64),
    );
    if island.usage.used < island.usage.given {
        let _ = writeln!(text, "  cards: {}", used(&island.usage));
    }
    text.push_str(&step(island));
    text.push('\n');
    text.push_str(&column::table(island));
    for reason in &island.reasons {
        let _ = writeln!(text, "  why: {reason}");
    }
    text
}

/// The table of a step's time by its parts.
fn step(island: &IslandPlan) -> String {
    let all = parts(&island.step);
    let share = |part: f64| percent(part / island.step_seconds());
    let row = |label: &str, cells: [String; 6]| {
        std::iter::once(label.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let rows = [
        row("time of a step", STEP.map(str::to_owned)),
        row("", all.map(seconds)),
        row("", all.map(share)),
    ];
    grid::headed("  ", &rows).concat()
}

/// `dp 2`, or `dp 1 × pp 2 × tp 2` of split replicas.
pub(super) fn shape(grid: &Grid) -> String {
    match grid {
        Grid { data, stages: 1, tensor: 1 } => format!("dp {data}"),
        Grid { data, stages, tensor } => format!("dp {data} × pp {stages} × tp {tensor}"),
    }
}
