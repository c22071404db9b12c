//! Real pools of cards against what people do by hand.

use plan::planner::{IslandPlan, plan_run};
use plan::request::{Parallelism, RunRequest};

use super::requests::{self, Pool};

/// Sequences of an inner step: Covenant-72B's.
const SEQUENCES: u32 = 192;
/// Share of the ideal under which an entry is explained.
const EXPLAINED: f64 = 0.6;

const B200: &str = "NVIDIA-B200";
const H200: &str = "NVIDIA-H200";
const H100: &str = "NVIDIA-H100-80GB-HBM3";
const A100: &str = "NVIDIA-A100-SXM4-80GB";
const A100_40: &str = "NVIDIA-A100-SXM4-40GB";
const L40S: &str = "NVIDIA-L40S";
const RTX4090: &str = "NVIDIA-GeForce-RTX-4090";
const RTX3090: &str = "NVIDIA-GeForce-RTX-3090";
const A6000: &str = "NVIDIA-RTX-A6000";

/// Ten pools as they stand in data centres, laboratories and at home.
const POOLS: [(&[(&str, u32)], f64); 10] = [
    (&[(B200, 8)], FABRIC),
    (&[(H100, 8)], FABRIC),
    (&[(H200, 16)], FABRIC),
    (&[(H100, 32)], FABRIC),
    (&[(A100_40, 4), (RTX3090, 8)], LAN),
    (&[(RTX4090, 16)], LAN),
    (&[(H100, 2), (RTX4090, 6), (RTX3090, 8)], LAN),
    (&[(A100, 8), (L40S, 8)], FABRIC),
    (&[(H100, 8), (A100, 16), (RTX4090, 32)], LAN),
    (&[(A6000, 4), (RTX3090, 4)], LAN),
];

/// Bytes a second between nodes: 10 Gb/s Ethernet.
const LAN: f64 = 1.25e9;
/// The bandwidth that gRPC reaches over 100 Gb/s and more, bytes a second.
const FABRIC: f64 = 2.5e9;

/// Prints the table.
pub(crate) fn table() -> anyhow::Result<()> {
    println!("| pool | model | plan | tokens/s | MFU | equal split | fastest only | of ideal |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut explained = Vec::new();
    for (cards, network) in POOLS {
        for preset in ["llama-1b", "llama-8b", "covenant-72b"] {
            entry((cards, network), preset, &mut explained)?;
        }
    }
    println!();
    for line in explained {
        println!("{line}");
    }
    Ok(())
}

fn entry(
    (cards, network): (&[(&str, u32)], f64),
    preset: &str,
    explained: &mut Vec<String>,
) -> anyhow::Result<()> {
    let run = requests::run(preset, SEQUENCES)?;
    let names: Vec<String> =
        cards.iter().map(|(product, count)| format!("{count} × {}", short(product))).collect();
    let name = names.join(" + ");
    let ours = match plan(&run, &requests::pool(cards, network)) {
        Ok(plan) => plan,
        Err(refusal) => {
            println!("| {name} | {preset} | refused | | | | | |");
            explained.push(format!("{name}, {preset}: {refusal}"));
            return Ok(());
        }
    };
    let speed = ours.spec.tokens_per_second;
    let times = |other: Option<f64>| {
        other.map_or("does not fit".into(), |other| format!("{:.2} ×", speed / other))
    };
    let ideal = ideal(&run, cards);
    let share = speed / ideal;
    println!(
        "| {name} | {preset} | {} | {speed:.0} | {:.1} % | {} | {} | {:.0} % |",
        shape(&ours),
        100.0 * ours.mfu,
        times(equal_split(&run, cards, network)),
        times(fastest_only(&run, cards, network)),
        100.0 * share,
    );
    if share < EXPLAINED {
        explained.push(explain(&name, preset, share, &ours));
    }
    Ok(())
}

fn plan(run: &RunRequest, pool: &Pool) -> Result<IslandPlan, String> {
    let plan = plan_run(run, std::slice::from_ref(&pool.island), &pool.execution);
    plan.map(|mut plan| plan.islands.remove(0)).map_err(|refusals| refusals.to_string())
}

/// Tokens a second where every card does the same: the best of the layouts that have as many layers
/// on each stage and as many sequences for each replica, whatever the cards, on all of them. Each
/// works at the pace of the slowest card, and has the memory of the smallest.
fn equal_split(run: &RunRequest, cards: &[(&str, u32)], network: f64) -> Option<f64> {
    let memory = cards.iter().filter_map(|(product, _)| plan::gpu::lookup(product));
    let memory = memory.map(|card| card.memory()).min()?;
    let as_if_all_were = |product| {
        let alike: Vec<_> = cards.iter().map(|(_, count)| (product, *count)).collect();
        let mut pool = requests::pool(&alike, network);
        for device in &mut pool.island.devices {
            device.memory = Some(memory);
        }
        plan(run, &pool).ok().map(|plan| plan.spec.tokens_per_second)
    };
    // The slowest card depends on the model: some lack bandwidth.
    let speeds = cards.iter().filter_map(|(product, _)| as_if_all_were(*product));
    speeds.min_by(f64::total_cmp)
}

/// Tokens a second with the cards of the fastest product and no others.
fn fastest_only(run: &RunRequest, cards: &[(&str, u32)], network: f64) -> Option<f64> {
    let speed = |product: &str| plan::gpu::lookup(product).map_or(0.0, plan::gpu::Card::tflops);
    let fastest = cards.iter().max_by(|a, b| speed(a.0).total_cmp(&speed(b.0)))?;
    plan(run, &requests::pool(&[*fastest], network)).ok().map(|plan| plan.spec.tokens_per_second)
}

/// Tokens a second if every card worked on its share by FLOP/s as if it alone held the whole model
/// and never waited: what a card of unlimited memory makes, for each.
fn ideal(run: &RunRequest, cards: &[(&str, u32)]) -> f64 {
    let speeds = cards.iter().map(|(product, count)| {
        let mut pool = requests::pool(&[(product, 1)], LAN);
        pool.island.devices[0].memory = Some(1 << 44);
        pool.island.parallelism = Parallelism { tensor: Some(1), pipeline: Some(1), data: Some(1) };
        let plan = plan(run, &pool).map_or(0.0, |plan| plan.spec.tokens_per_second);
        plan * f64::from(*count)
    });
    speeds.sum()
}

fn shape(plan: &IslandPlan) -> String {
    let sharding = &plan.spec.sharding;
    let recompute = sharding.stages.iter().filter(|stage| stage.recompute).count();
    let recompute = if recompute > 0 { format!(", {recompute} recompute") } else { String::new() };
    let (data, stages) = (plan.spec.batches.len(), sharding.stages.len());
    format!("{data} × {stages} × {}{recompute}", sharding.tensor)
}

fn explain(name: &str, preset: &str, share: f64, plan: &IslandPlan) -> String {
    let total = plan.step.total();
    let percent = |part: f64| 100.0 * part / total;
    format!(
        "{name}, {preset}: {:.0} % of ideal. Its step: compute {:.0} %, tensor {:.0} %, bubble \
         {:.0} %, all-reduce {:.0} %, optimizer {:.0} %. {}",
        100.0 * share,
        percent(plan.step.compute),
        percent(plan.step.tensor),
        percent(plan.step.bubble),
        percent(plan.step.all_reduce),
        percent(plan.step.optimizer),
        plan.reasons.join("; "),
    )
}

fn short(product: &str) -> &str {
    product.trim_start_matches("NVIDIA-").trim_start_matches("GeForce-RTX-")
}
