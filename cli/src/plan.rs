//! What `heteroloco plan` prints.

use std::fmt::Write as _;

use plan::memory::{Place, Term};
use plan::planner::{IslandPlan, RankPlan, RunPlan};
use plan::spec::{DeviceSpec, Precision, RankSpec};

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
    for reason in &plan.reasons {
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
        grouped(plan.round_tokens),
        seconds(plan.round_seconds),
        rounds.quorum_percent,
        seconds(rounds.grace.as_secs_f64()),
        seconds(rounds.deadline.as_secs_f64()),
        bytes(plan.contribution_bytes),
        plan.dense_bytes as f64 / plan.contribution_bytes.max(1) as f64,
    )
}

fn describe(island: &IslandPlan) -> String {
    let mut text = format!(
        "island {}: dp {}, H {}, {} a step, {} tokens/s, {} a round\n",
        island.spec.name,
        island.spec.ranks.len(),
        island.spec.inner_steps,
        seconds(island.step_seconds),
        grouped(island.spec.tokens_per_second as u64),
        seconds(island.round_seconds()),
    );
    for line in table(&groups(island)) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for reason in &island.reasons {
        let _ = writeln!(text, "  why: {reason}");
    }
    text
}

/// Ranks that do and hold the same.
struct Group<'a> {
    first: usize,
    last: usize,
    spec: &'a RankSpec,
    plan: &'a RankPlan,
}

/// Neighbouring ranks of one kind share a column; emulated cards differ in nothing, real ones in
/// their index.
fn groups(island: &IslandPlan) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (rank, (spec, plan)) in island.spec.ranks.iter().zip(&island.ranks).enumerate() {
        match groups.last_mut() {
            Some(group) if group.plan == plan && alike(group.spec, spec) => group.last = rank,
            _ => groups.push(Group { first: rank, last: rank, spec, plan }),
        }
    }
    groups
}

fn alike(a: &RankSpec, b: &RankSpec) -> bool {
    a.product == b.product
        && (a.micro_batches, a.micro_batch_size) == (b.micro_batches, b.micro_batch_size)
}

fn table(groups: &[Group<'_>]) -> Vec<String> {
    let columns: Vec<Vec<String>> = groups.iter().map(column).collect();
    let widths: Vec<_> = columns.iter().map(|cells| width(cells)).collect();
    labels(groups)
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

fn labels(groups: &[Group<'_>]) -> Vec<&'static str> {
    let terms = groups.first().map_or(&[] as &[Term], |group| &group.plan.memory.terms);
    let mut labels = vec!["ranks", "card", "micro-batches", "computes"];
    labels.extend(terms.iter().map(|term| term.kind.name()));
    labels.extend(["needs", "headroom"]);
    labels
}

fn column(group: &Group<'_>) -> Vec<String> {
    let (spec, plan) = (group.spec, group.plan);
    let needs = plan.memory.card();
    let mut cells = vec![
        if group.first == group.last {
            group.first.to_string()
        } else {
            format!("{}–{}", group.first, group.last)
        },
        spec.product.clone(),
        format!("{} of {} sequences", spec.micro_batches, spec.micro_batch_size),
        format!("{} a step, {}", seconds(plan.compute_seconds), computes(spec)),
    ];
    cells.extend(plan.memory.terms.iter().map(|term| match term.place {
        Place::Card => bytes(term.bytes),
        Place::Host => format!("{} (host)", bytes(term.bytes)),
    }));
    cells.push(format!("{} of {}", bytes(needs), bytes(plan.card_bytes)));
    cells.push(bytes(plan.card_bytes.saturating_sub(needs)));
    cells
}

fn computes(spec: &RankSpec) -> String {
    let precision = match spec.device.precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    match spec.device {
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

    fn quickstart() -> RunPlan {
        let text = include_str!("../../examples/quickstart.yaml");
        let manifests = api::load(&[api::Source { name: "quickstart", text }]).expect("right");
        let execution = Execution::Emulated { threads: 1 };
        plan_run(&manifests.run, &manifests.islands, &execution).expect("it fits")
    }

    #[test]
    fn a_plan_names_every_card_its_work_and_its_bytes() {
        let text = render(&quickstart());
        for part in [
            "run mini-llama: 2,496,960 parameters",
            "island dc: dp 1, H 20,",
            "island lab: dp 2, H ",
            "  ranks               0–1\n",
            "  card                NVIDIA-GeForce-RTX-3090\n",
            "f32 at 17% of a CPU thread",
            "  error feedback      4.8 MiB\n",
            " of 24.0 GiB\n",
            "why: H is 20 on the fastest island, as asked",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line == line.trim_end() && line.chars().count() <= 120));
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
