//! `--explain`: other layouts that fit, and what each loses by.

use plan::planner::{IslandPlan, RunnerUp};
use plan::shard::Grid;

use super::grid;
use super::table::{STEP, parts, shape};
use super::words::seconds;

/// The runners-up of an island, the best first: a row each, and below it what it loses by.
pub(super) fn table(island: &IslandPlan) -> String {
    if island.runners_up.is_empty() {
        return "  no other layout fits\n".into();
    }
    let heads = ["layout", "sequences", "recompute", "cards"].into_iter().chain(STEP);
    let heads: Vec<String> = heads.map(str::to_owned).collect();
    let rows = island.runners_up.iter().map(row);
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    let mut lines = grid::headed("    ", &rows).into_iter();
    let mut text = String::from("  other layouts that fit, the best first:\n");
    text.extend(lines.next());
    for (line, other) in lines.zip(&island.runners_up) {
        text.push_str(&line);
        let (percent, reason) = (other.loses_percent, &other.reason);
        text.push_str(&format!("      loses {percent:.1}%: {reason}\n"));
    }
    text
}

fn row(other: &RunnerUp) -> Vec<String> {
    let [data, stages, tensor] = other.shape;
    let recompute = match other.recomputed {
        0 => "none".into(),
        all if all == stages => "all stages".into(),
        some => format!("{some} stages"),
    };
    let mut cells = vec![
        shape(&Grid { data, stages, tensor }),
        other.micro_batch_size.to_string(),
        recompute,
        other.cards.to_string(),
    ];
    cells.extend(parts(&other.step).map(seconds));
    cells
}
