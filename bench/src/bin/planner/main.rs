//! The planner against the planner that looks at everything, against what people do by hand, and
//! against the clock. Ends with `figure NAME VALUE UNIT` lines.

mod cases;
mod pools;
mod requests;

use std::time::Instant;

use clap::Parser;
use plan::planner::{exhaustive, plan_run};
use plan::request::Execution;

/// Judges the planner.
#[derive(Debug, Parser)]
struct Args {
    /// Random small islands that are judged.
    #[arg(long, default_value_t = 450)]
    cases: u64,
    /// Seed of the first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A plan at most this much slower than the best is as good as it.
const NEAR: f64 = 0.01;
/// Times that a search is timed.
const TURNS: usize = 5;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    optimality(&args);
    search_time()?;
    pools::table()?;
    facts()
}

fn optimality(args: &Args) {
    let (mut judged, mut near, mut worst, mut refused) = (0_u32, 0_u32, 0.0_f64, 0_u32);
    for seed in args.seed..args.seed + args.cases {
        let case = cases::case(seed);
        let best = exhaustive::best(&case.run, &case.island, &case.execution);
        let island = std::slice::from_ref(&case.island);
        let ours = plan_run(&case.run, island, &case.execution).ok();
        let ours = ours.map(|mut plan| plan.islands.remove(0));
        let (Some(best), Some(ours)) = (&best, &ours) else {
            if best.is_some() || ours.is_some() {
                println!("case {seed}: only one of both found a plan: {best:?}, {ours:?}");
                worst = f64::INFINITY;
            }
            refused += 1;
            continue;
        };
        let gap = ours.step_seconds() / best.seconds - 1.0;
        judged += 1;
        near += u32::from(gap <= NEAR);
        worst = worst.max(gap);
        if gap > NEAR {
            println!("case {seed}: {:.2} % slower than the best", 100.0 * gap);
            println!("  best: {:?} {:?}", best.sharding, best.batches);
            println!("  ours: {:?} {:?}", ours.spec.sharding, ours.spec.batches);
            println!("  {:?}", ours.reasons);
        }
    }
    println!("{judged} cases judged, {refused} fit no card in any way");
    let share = 100.0 * f64::from(near) / f64::from(judged.max(1));
    println!("figure planner.within_1pct {share:.1} %");
    println!("figure planner.worst_gap_percent {:.2} %", 100.0 * worst);
}

fn search_time() -> anyhow::Result<()> {
    for (name, cards) in [("64", 64), ("1000", 1000)] {
        let mut worst = 0.0_f64;
        for preset in ["llama-1b", "llama-8b", "covenant-72b"] {
            let run = requests::run(preset, 1024)?;
            let nodes = cases::mixed_nodes(cards);
            let island = requests::island("all", &requests::devices_of(&nodes));
            let execution = Execution::Cluster { nodes };
            let mut times = Vec::new();
            for _ in 0..TURNS {
                let start = Instant::now();
                let plan = plan_run(&run, std::slice::from_ref(&island), &execution)
                    .map_err(|refusals| anyhow::anyhow!("{preset} on {cards}: {refusals}"))?;
                times.push(start.elapsed().as_secs_f64());
                std::hint::black_box(plan);
            }
            times.sort_by(f64::total_cmp);
            println!("{cards} cards, {preset}: {:.3} s", times[TURNS / 2]);
            worst = worst.max(times[TURNS / 2]);
        }
        println!("figure planner.search_{name}_s {worst:.3} s");
    }
    Ok(())
}

/// Covenant-72B's rounds: 30 × 192 × 2,048 tokens in 20 minutes on 8 × B200.
fn facts() -> anyhow::Result<()> {
    let run = requests::run("covenant-72b", 192)?;
    let pool = requests::pool(&[("NVIDIA-B200", 8)], 1.25e9);
    let plan = plan_run(&run, &[pool.island], &pool.execution)
        .map_err(|refusals| anyhow::anyhow!("covenant-72b on 8 × B200: {refusals}"))?;
    let minutes = 30.0 * plan.islands[0].step_seconds() / 60.0;
    println!("covenant-72b on 8 × B200: {minutes:.1} minutes for 30 steps; published: 20");
    println!("figure planner.covenant_round_minutes {minutes:.1} min");
    let desk = requests::pool(&[("NVIDIA-GeForce-RTX-3090", 1)], 1.25e9);
    match plan_run(&run, &[desk.island], &desk.execution) {
        Ok(_) => anyhow::bail!("72 billion parameters on one 3090 were not refused"),
        Err(refusals) => println!("covenant-72b on one 3090: {refusals}"),
    }
    Ok(())
}
