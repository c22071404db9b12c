//! What `heteroloco plan` prints.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use plan::memory::{Place, Term};
use plan::planner::{CardPlan, IslandPlan, RunPlan};
use plan::shard::{Grid, Position};
use plan::spec::{BatchSpec, CardSpec, DeviceSpec, Precision};

/// Columns of the names on the left.
const LABELS: usize = 18;

/// The plan as tables for people: the run, then every island with what each of its cards does and
/// holds, and why.
pub fn render(plan: &RunPlan) -> String {
    let mut text = run(plan);
    for island in &plan.islands {
        text.push('\n');
        text.push_str(&describe(island));
    }
    text.push('\n');
    for reason in &plan.outer.reasons {
        let _ = writeln!(text, "why: {reason}");
    }
    text
}

fn run(plan: &RunPlan) -> String {
    let rounds = &plan.rounds;
    format!(
        "run {}: {} parameters, {} tokens\n\
         rounds: {} of {} tokens, {} each; quorum {}%, grace {}, deadline {}\n\
         exchange: about {} from each island in a round, {:.0} × less than dense f32\n",
        plan.run.name,
        grouped(plan.dense_bytes / 4),
        grouped(plan.run.tokens),
        plan.run.total_rounds,
        grouped(plan.outer.round_tokens),
        seconds(plan.outer.round_seconds),
        rounds.quorum_percent,
        seconds(rounds.grace.as_secs_f64()),
        seconds(rounds.deadline.as_secs_f64()),
        bytes(plan.contribution_bytes),
        plan.dense_bytes as f64 / plan.contribution_bytes.max(1) as f64,
    )
}

fn describe(island: &IslandPlan) -> String {
    let mut text = format!(
        "island {}: {}, H {}, {} a step, {} tokens/s, {} a round\n",
        island.spec.name,
        shape(&Grid::of(&island.spec)),
        island.spec.inner_steps,
        seconds(island.step_seconds()),
        grouped(island.spec.tokens_per_second as u64),
        seconds(island.round_seconds()),
    );
    for line in table(island, &groups(island)) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for reason in &island.reasons {
        let _ = writeln!(text, "  why: {reason}");
    }
    text
}

/// `dp 2`, or `dp 1 × pp 2 × tp 2` of split replicas.
fn shape(grid: &Grid) -> String {
    match grid {
        Grid { data, stages: 1, tensor: 1 } => format!("dp {data}"),
        Grid { data, stages, tensor } => format!("dp {data} × pp {stages} × tp {tensor}"),
    }
}

/// Ranks that do and hold the same.
struct Group<'a> {
    ranks: Vec<u32>,
    at: Position,
    card: &'a CardSpec,
    batch: &'a BatchSpec,
    plan: &'a CardPlan,
}

/// Ranks of one kind share a column; emulated cards differ in nothing, real ones in their index.
fn groups(island: &IslandPlan) -> Vec<Group<'_>> {
    let grid = Grid::of(&island.spec);
    let mut groups: Vec<Group<'_>> = Vec::new();
    let cards = island.spec.ranks.iter().flat_map(|rank| &rank.devices);
    for (rank, (card, plan)) in (0..).zip(cards.zip(&island.cards)) {
        let at = grid.position(rank);
        let batch = &island.spec.batches[at.data as usize];
        let alike = |group: &&mut Group<'_>| {
            group.at.stage == at.stage
                && group.plan == plan
                && group.card.product == card.product
                && group.batch == batch
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.ranks.push(rank),
            None => groups.push(Group { ranks: vec![rank], at, card, batch, plan }),
        }
    }
    groups
}

/// Rows of a table: a label, and a cell for each group.
fn table(island: &IslandPlan, groups: &[Group<'_>]) -> Vec<String> {
    let columns: Vec<Vec<String>> = groups.iter().map(|group| column(island, group)).collect();
    let widths: Vec<_> = columns.iter().map(|cells| width(cells)).collect();
    labels(island, groups)
        .into_iter()
        .enumerate()
        .map(|(row, label)| {
            let mut line = format!("  {label:<LABELS$}");
            for (cells, width) in columns.iter().zip(&widths) {
                let _ = write!(line, "  {:<width$}", cells[row]);
            }
            line
        })
        .collect()
}

fn width(cells: &[String]) -> usize {
    cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default()
}

fn labels(island: &IslandPlan, groups: &[Group<'_>]) -> Vec<&'static str> {
    let terms = groups.first().map_or(&[] as &[Term], |group| &group.plan.memory.terms);
    let mut labels = vec!["ranks", "card"];
    labels.extend(places(island).map(|(label, _)| label));
    labels.extend(["micro-batches", "computes"]);
    labels.extend(terms.iter().map(|term| term.kind.name()));
    labels.extend(["needs", "headroom"]);
    labels
}

fn column(island: &IslandPlan, group: &Group<'_>) -> Vec<String> {
    let Group { ranks, card, batch, plan, .. } = group;
    let needs = plan.memory.card();
    let mut cells = vec![ranges(ranks), card.product.clone()];
    cells.extend(places(island).map(|(_, cell)| cell(island, group)));
    cells.extend([
        format!("{} of {} sequences", batch.micro_batches, batch.micro_batch_size),
        format!("{} a step, {}", seconds(plan.compute_seconds), computes(card)),
    ]);
    cells.extend(plan.memory.terms.iter().map(|term| match term.place {
        Place::Card => bytes(term.bytes),
        Place::Host => format!("{} (host)", bytes(term.bytes)),
    }));
    cells.push(format!("{} of {}", bytes(needs), bytes(plan.card_bytes)));
    cells.push(bytes(plan.card_bytes.saturating_sub(needs)));
    cells
}

/// A cell of a group's column.
type Cell = fn(&IslandPlan, &Group<'_>) -> String;

/// The rows that say where split replicas lie; whole ones need none.
fn places(island: &IslandPlan) -> impl Iterator<Item = (&'static str, Cell)> {
    let Grid { stages, tensor, .. } = Grid::of(&island.spec);
    let rows: [(bool, &'static str, Cell); 4] = [
        (stages > 1, "stage", |_, group| group.at.stage.to_string()),
        (stages > 1, "layers", layers),
        (tensor > 1, "tp", |island, group| indices(island, group, |at| at.tensor)),
        (stages * tensor > 1, "dp", |island, group| indices(island, group, |at| at.data)),
    ];
    let shown = rows.into_iter().filter(|(shown, ..)| *shown);
    shown.map(|(_, label, cell)| (label, cell))
}

/// `0–11, recompute`.
fn layers(island: &IslandPlan, group: &Group<'_>) -> String {
    let stages = &island.spec.sharding.stages;
    let (before, own) = (&stages[..group.at.stage as usize], stages[group.at.stage as usize]);
    let first: u32 = before.iter().map(|stage| stage.layers).sum();
    let recompute = if own.recompute { ", recompute" } else { "" };
    format!("{}{recompute}", ranges(&(first..first + own.layers).collect::<Vec<_>>()))
}

/// The places of a group's ranks along one side of the grid.
fn indices(island: &IslandPlan, group: &Group<'_>, side: fn(Position) -> u32) -> String {
    let grid = Grid::of(&island.spec);
    let places: BTreeSet<u32> = group.ranks.iter().map(|rank| side(grid.position(*rank))).collect();
    ranges(&places.into_iter().collect::<Vec<_>>())
}

/// Ascending numbers, as `0–3, 8`.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}–{last}"),
        _ => run[0].to_string(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn computes(card: &CardSpec) -> String {
    let precision = match card.device.precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    match card.device {
        DeviceSpec::Cuda { .. } => precision.to_owned(),
        DeviceSpec::Cpu { speed, .. } => {
            format!("{precision} at {:.0}% of a CPU thread", speed * 100.0)
        }
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use plan::planner::plan_run;
    use plan::request::Execution;

    use super::*;

    fn emulated(text: &str) -> RunPlan {
        let manifests = api::load(&[api::Source { name: "example", text }]).expect("right");
        let execution = Execution::Emulated { threads: 1 };
        plan_run(&manifests.run, &manifests.islands, &execution).expect("it fits")
    }

    fn check(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        let tables = text.lines().filter(|line| !line.contains("why: "));
        assert!(tables.map(|line| line.chars().count()).all(|width| width <= 120), "{text}");
    }

    #[test]
    fn a_plan_names_every_card_its_work_and_its_bytes() {
        let text = render(&emulated(include_str!("../../examples/quickstart.yaml")));
        let parts = [
            "run mini-llama: 2,496,960 parameters",
            "island dc: dp 1, H 20,",
            "island lab: dp 2, H ",
            "  ranks               0–1\n",
            "  card                NVIDIA-GeForce-RTX-3090\n",
            "f32 at 17% of a CPU thread",
            "  error feedback      4.8 MiB\n",
            " of 24.0 GiB\n",
            "why: H is 20 on dc, the fastest island, as asked",
        ];
        check(&text, &parts);
        assert!(!text.contains("stage"), "no word of what whole replicas do not have: {text}");
    }

    #[test]
    fn cards_too_small_for_the_model_are_planned_as_two_stages_of_two() {
        let plan = emulated(include_str!("../../examples/small-cards.yaml"));
        let shapes: Vec<_> = plan.islands.iter().map(|island| Grid::of(&island.spec)).collect();
        let whole = Grid { data: 1, stages: 1, tensor: 1 };
        assert_eq!(shapes, [whole, Grid { stages: 2, tensor: 2, ..whole }]);
        let parts = [
            "island dc: dp 1, H 20,",
            "island desk: dp 1 × pp 2 × tp 2, H ",
            "  why: a replica is split pp 2 × tp 2: the model needs ",
            "; of the ways that fit this is the fastest\n",
        ];
        check(&render(&plan), &parts);
        let table = table(&plan.islands[1], &groups(&plan.islands[1]));
        let row = |label: &str| {
            let line = table.iter().find_map(|line| line.trim_start().strip_prefix(label));
            line.map(|cells| cells.split_whitespace().collect::<Vec<_>>()).unwrap_or_default()
        };
        let rows = [row("ranks"), row("stage"), row("layers"), row("tp"), row("dp")];
        let cells = [["0–1", "2–3"], ["0", "1"], ["0–1", "2–3"], ["0–1", "0–1"], ["0", "0"]];
        assert_eq!(rows, cells);
    }

    #[test]
    fn numbers_in_a_row_are_shown_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 4, 7, 8]), "0–2, 4, 7–8");
        assert_eq!(ranges(&[3]), "3");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(80 << 30), "80.0 GiB");
        assert_eq!(seconds(0.0421), "42 ms");
        assert_eq!(seconds(5400.0), "90.0 min");
        assert_eq!(grouped(72_747_327_488), "72,747,327,488");
        assert_eq!(grouped(100), "100");
    }
}
