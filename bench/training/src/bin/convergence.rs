//! `make bench-convergence`: held-out loss of SparseLoCo against dense outer optimisers and against
//! data parallel, at equal tokens and seeds.
//!
//! Every arm's settings are chosen on a seed that is not reported. Finished trials are kept in a
//! file and not repeated, so the benchmark can be interrupted.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bench_training::convergence::{Arm, Setting, Trial, train};
use clap::Parser;
use data::Corpus;
use sparseloco::outer::Rule;

/// The seed that settings are chosen on.
const TUNING_SEED: u64 = 1000;

#[derive(Parser)]
struct Arguments {
    /// A corpus made by `heteroloco data prepare`.
    #[arg(long)]
    data: PathBuf,
    /// File in which finished trials are kept.
    #[arg(long)]
    results: PathBuf,
    #[arg(long, default_value_t = 150)]
    rounds: u64,
    /// Inner steps of an island in the trials that choose the settings.
    #[arg(long, default_value_t = 1500)]
    tuning_steps: u64,
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    #[arg(long, value_delimiter = ',', default_value = "15,30")]
    inner_steps: Vec<u32>,
    #[arg(long, default_value_t = 4)]
    islands: u32,
}

/// Held-out loss after so many rounds, at every evaluation of a trial.
type Curve = Vec<(u64, f64)>;

/// Finished trials by their description.
struct Results {
    path: PathBuf,
    known: BTreeMap<String, Curve>,
}

impl Results {
    fn open(path: &Path) -> anyhow::Result<Results> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str::<(String, Curve)>);
        let known = lines.collect::<Result<_, _>>().context("failed to read earlier results")?;
        Ok(Results { path: path.into(), known })
    }

    fn get(&mut self, corpus: &Corpus, setting: &Setting, trial: &Trial) -> anyhow::Result<Curve> {
        let key = format!("{setting:?} {trial:?}");
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let losses = train(setting, corpus, trial).unwrap_or_else(|error| {
            eprintln!("{trial:?}: {error:#}");
            vec![(setting.rounds, f64::INFINITY)]
        });
        let finite: Curve = losses.iter().map(|(round, loss)| (*round, loss.min(99.0))).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        writeln!(file, "{}", serde_json::to_string(&(&key, &finite))?)?;
        self.known.insert(key, finite.clone());
        eprintln!("{:.4} {trial:?} H={}", last(&finite), setting.inner_steps);
        Ok(finite)
    }
}

fn last(losses: &[(u64, f64)]) -> f64 {
    losses.last().map_or(f64::INFINITY, |(_, loss)| *loss)
}

/// The arms by name, each with the outer settings that it may choose from.
fn arms() -> Vec<(&'static str, Vec<Arm>)> {
    let sparse = |rule, alpha, retention| Arm::Sparse { rule, alpha, retention };
    vec![
        ("adamw", vec![Arm::DataParallel]),
        ("dense-sgd", [0.7, 1.0, 1.5].map(|alpha| Arm::DenseSgd { alpha }).to_vec()),
        (
            "diloco",
            [(0.4, 0.9), (0.7, 0.9), (0.7, 0.6), (1.0, 0.4)]
                .map(|(alpha, momentum)| Arm::DiLoCo { alpha, momentum })
                .to_vec(),
        ),
        ("paper", [1.0, 2.0].map(|alpha| sparse(Rule::Paper, alpha, 0.0)).to_vec()),
        (
            "counted",
            [(1.0, 0.0), (1.0, 0.5), (1.5, 0.5), (2.0, 0.5)]
                .map(|(alpha, λ)| sparse(Rule::Counted, alpha, λ))
                .to_vec(),
        ),
    ]
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tch::set_num_threads(1);
    let corpus = Corpus::open(&arguments.data)?;
    let mut results = Results::open(&arguments.results)?;
    for &inner_steps in &arguments.inner_steps {
        let setting = |rounds| Setting {
            islands: arguments.islands,
            inner_steps,
            rounds,
            sequences: 4,
            sequence_length: 64,
            heldout_sequences: 256,
            evaluate_every: 25,
        };
        let mut table: Vec<(&str, Vec<Curve>)> = Vec::new();
        for (name, choices) in arms() {
            let tuning = setting(arguments.tuning_steps / u64::from(inner_steps));
            let best = tune(&mut results, &corpus, &tuning, &choices)?;
            let curves = (0..arguments.seeds).map(|seed| {
                let trial = Trial { seed, ..best.clone() };
                results.get(&corpus, &setting(arguments.rounds), &trial)
            });
            let curves = curves.collect::<anyhow::Result<Vec<_>>>()?;
            println!(
                "H={inner_steps} {name}: {:?}, inner learning rate {}",
                best.arm, best.learning_rate
            );
            table.push((name, curves));
        }
        report(inner_steps, &table);
    }
    Ok(())
}

/// The best settings of an arm on the tuning seed: inner learning rate with the first choice, then
/// the outer settings, then the neighbours of the learning rate again.
fn tune(
    results: &mut Results,
    corpus: &Corpus,
    setting: &Setting,
    choices: &[Arm],
) -> anyhow::Result<Trial> {
    let mut best: Option<(f64, Trial)> = None;
    for arm in choices {
        for learning_rate in [2e-3, 4e-3, 8e-3] {
            let trial = Trial { arm: arm.clone(), learning_rate, seed: TUNING_SEED };
            let loss = last(&results.get(corpus, setting, &trial)?);
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, trial));
            }
        }
    }
    best.map(|(_, trial)| trial).context("an arm has no settings")
}

/// Mean over seeds at each evaluated round.
fn means(curves: &[Curve]) -> BTreeMap<u64, f64> {
    let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for (round, loss) in curves.iter().flatten() {
        let sum = sums.entry(*round).or_default();
        *sum = (sum.0 + loss, sum.1 + 1.0);
    }
    sums.into_iter().map(|(round, (sum, count))| (round, sum / count)).collect()
}

fn report(inner_steps: u32, table: &[(&str, Vec<Curve>)]) {
    let means: Vec<(&str, BTreeMap<u64, f64>)> =
        table.iter().map(|(name, curves)| (*name, means(curves))).collect();
    println!("| round | {} |", means.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    println!("|---{}|", "|---".repeat(means.len()));
    for round in means.iter().flat_map(|(_, m)| m.keys()).collect::<std::collections::BTreeSet<_>>()
    {
        let cells =
            means.iter().map(|(_, m)| m.get(round).map_or("–".into(), |l| format!("{l:.4}")));
        println!("| {round} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let end = |wanted: &str| {
        let found = means.iter().find(|(name, _)| *name == wanted);
        found.and_then(|(_, m)| m.values().next_back()).copied().unwrap_or(f64::NAN)
    };
    let percent = |a: f64, b: f64| (a / b - 1.0) * 100.0;
    let dense = end("dense-sgd").min(end("diloco"));
    for rule in ["counted", "paper"] {
        let vs_dense = percent(end(rule), dense);
        let vs_adamw = percent(end(rule), end("adamw"));
        let h = inner_steps;
        println!("figure convergence.h{h}.{rule}.vs_dense_percent {vs_dense:.2} %");
        println!("figure convergence.h{h}.{rule}.vs_adamw_percent {vs_adamw:.2} %");
    }
    let ours = end("counted");
    println!("figure convergence.h{inner_steps}.vs_dense_percent {:.2} %", percent(ours, dense));
    println!(
        "figure convergence.h{inner_steps}.vs_adamw_percent {:.2} %",
        percent(ours, end("adamw"))
    );
}
