//! The outlook of a run, from its plan: how long it takes here, what it holds of the machine's
//! memory, and what its owner may not have meant.

use plan::memory::Kind;
use plan::planner::{IslandPlan, RunPlan};
use plan::schedule::warmup_tokens;
use plan::spec::DeviceSpec;

use crate::memory::{Available, Bound};
use crate::plan::words;
use crate::show;

/// A run on emulated cards that takes longer than this many seconds is warned of.
const LONG: f64 = 6.0 * 3600.0;
/// How many times the tokens that were asked for a run trains before that is said: it always trains
/// whole rounds.
const MORE_TOKENS: f64 = 1.1;
/// Memory of the coordinator and of the command itself.
const OWN_BYTES: u64 = 96 << 20;

/// How far a run has to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Rounds that are left.
    pub rounds: u64,
    /// Tokens of one, all islands.
    pub round_tokens: u64,
    /// Tokens of the run at its end: whole rounds.
    pub tokens: u64,
    /// Seconds of a round.
    pub round_seconds: f64,
    /// Cores that ranks on the CPU share, where there are too few for all of them.
    pub shared: Option<usize>,
}

impl Outlook {
    /// A run that has so many tokens, on a machine of so many cores.
    pub fn of(plan: &RunPlan, done: u64, cores: usize) -> Self {
        let round_tokens = plan.outer.round_tokens.max(1);
        let rounds = plan.run.tokens.saturating_sub(done).div_ceil(round_tokens);
        let alone = plan.outer.round_seconds;
        // Ranks that wait for a core are as slow as if each had a part of one.
        let together = cpu_seconds(plan) / cores.max(1) as f64;
        Self {
            rounds,
            round_tokens,
            tokens: done.saturating_add(rounds.saturating_mul(round_tokens)),
            round_seconds: alone.max(together),
            shared: (together > alone).then_some(cores),
        }
    }

    /// Seconds until the run has its tokens.
    pub fn seconds(&self) -> f64 {
        self.rounds as f64 * self.round_seconds
    }
}

/// Seconds of a core that a round's inner steps take on CPUs.
fn cpu_seconds(plan: &RunPlan) -> f64 {
    let of_island = |island: &IslandPlan| {
        let devices = island.spec.ranks.iter().flat_map(|rank| &rank.devices);
        let of_step = devices.zip(&island.cards).map(|(device, card)| match device.device {
            DeviceSpec::Cpu { threads, speed } => card.compute_seconds * f64::from(threads) * speed,
            DeviceSpec::Cuda { .. } => 0.0,
        });
        f64::from(island.spec.inner_steps) * of_step.sum::<f64>()
    };
    plan.islands.iter().map(of_island).sum()
}

/// Warnings before a run starts, a sentence each: the planner's reasons first, the run's and those
/// of each island.
pub fn warnings(plan: &RunPlan) -> Vec<String> {
    let mut all = plan.outer.reasons.clone();
    for island in &plan.islands {
        let name = &island.spec.name;
        all.extend(island.reasons.iter().map(|reason| format!("island {name}: {reason}")));
    }
    all.extend(notes(plan));
    all
}

/// Notes on what a plan's run does that its owner may not have meant, a sentence each.
pub fn notes(plan: &RunPlan) -> Vec<String> {
    whole_rounds(plan).into_iter().chain(long_warmup(plan)).collect()
}

/// More tokens than were asked for.
fn whole_rounds(plan: &RunPlan) -> Option<String> {
    let Outlook { rounds, round_tokens, tokens, .. } = Outlook::of(plan, 0, 1);
    let asked = plan.run.tokens;
    (tokens as f64 > MORE_TOKENS * asked as f64).then(|| {
        let plural = if rounds == 1 { "" } else { "s" };
        format!(
            "the run trains whole rounds: {rounds} round{plural} of {}, {} tokens in place of the \
             {} asked for; fewer sparseLoCo.innerSteps or batch.sequences make rounds smaller",
            words::grouped(round_tokens),
            words::grouped(tokens),
            words::grouped(asked),
        )
    })
}

/// A learning rate that never reaches its peak.
fn long_warmup(plan: &RunPlan) -> Option<String> {
    let (run, outer) = (&plan.run, &plan.outer);
    let warmup = run.optimizer.warmup_steps;
    let tokens = warmup_tokens(warmup, outer.round_tokens, outer.reference_steps);
    // The rate is at its peak where the warm-up ends, and at its floor where the tokens do.
    (warmup > 0 && tokens >= run.tokens).then(|| {
        let step = (outer.round_tokens / u64::from(outer.reference_steps.max(1))).max(1);
        let steps = run.tokens.div_ceil(step);
        format!(
            "the warm-up of {warmup} steps is no shorter than the run of about {steps}: the \
             learning rate never reaches its peak; set optimizer.warmupSteps to {} or so, or raise \
             tokens",
            steps / 10
        )
    })
}

/// A run that nobody would wait for.
pub fn too_long(plan: &RunPlan, outlook: &Outlook) -> Option<String> {
    let seconds = outlook.seconds();
    (plan.emulated && seconds > LONG).then(|| {
        format!(
            "on emulated cards this run takes about {}: to try it, set fewer tokens or a smaller \
             model; for the whole of it, bring the cards",
            show::about(seconds)
        )
    })
}

/// Ranks on the CPU would hold more memory than there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to start: {} of memory are needed by the {ranks} of this run on the CPU, and {} {}: \
     {change}; `heteroloco plan --emulate` shows what each of them holds",
    words::bytes(*needed),
    bound(available.bound),
    words::bytes(available.bytes)
)]
pub struct TooLarge {
    ranks: String,
    needed: u64,
    available: Available,
    change: &'static str,
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Machine => "this machine has available only",
        Bound::Cgroup => "the memory limit of this session or container leaves only",
    }
}

/// Checks that the machine has the memory that the plan's ranks on the CPU need.
///
/// # Errors
/// It does not; what to change.
pub fn check_memory(plan: &RunPlan, available: Option<Available>) -> Result<(), TooLarge> {
    let Some(available) = available else { return Ok(()) };
    let (mut ranks, mut needed, mut of_model) = (0_u64, 0_u64, 0_u64);
    for island in &plan.islands {
        let devices = island.spec.ranks.iter().flat_map(|rank| &rank.devices);
        for (device, card) in devices.zip(&island.cards) {
            if !matches!(device.device, DeviceSpec::Cpu { .. }) {
                continue;
            }
            let of_batch = [Kind::Activations, Kind::Logits].map(|kind| card.memory.of_kind(kind));
            let all = card.memory.card().saturating_add(card.memory.host());
            ranks += 1;
            needed = needed.saturating_add(all);
            of_model = of_model.saturating_add(all.saturating_sub(of_batch.iter().sum()));
        }
    }
    if ranks == 0 || needed.saturating_add(OWN_BYTES) <= available.bytes {
        return Ok(());
    }
    let change = match (of_model.saturating_add(OWN_BYTES) <= available.bytes, ranks) {
        (true, _) => "set a smaller batch.sequenceLength or batch.sequences, or a smaller model",
        (false, 1) => "set a smaller model",
        (false, _) => "set a smaller model, or fewer cards",
    };
    let ranks = if ranks == 1 { "one rank".to_owned() } else { format!("{ranks} ranks") };
    Err(TooLarge { ranks, needed: needed.saturating_add(OWN_BYTES), available, change })
}

#[cfg(test)]
mod bounds;

#[cfg(test)]
mod tests {
    use super::*;
    use plan::planner::plan_run;
    use plan::request::Execution;

    const RUN: &str = include_str!("../../examples/quickstart.yaml");

    /// The example with figures of its own: whoever tries it may want others.
    fn example() -> String {
        let figure = |line: &str| match line.trim_start() {
            line if line.starts_with("tokens: ") => "  tokens: 1800000\n".to_owned(),
            line if line.starts_with("innerSteps: ") => "    innerSteps: 20\n".to_owned(),
            _ => format!("{line}\n"),
        };
        RUN.lines().map(figure).collect()
    }

    fn planned(text: &str) -> RunPlan {
        let manifests = api::load(&[api::Source { name: "run.yaml", text }]).unwrap();
        let execution = Execution::Emulated { cores: 1 };
        plan_run(&manifests.run, &manifests.islands, &execution).unwrap()
    }

    #[test]
    fn a_run_takes_as_long_as_its_rounds_and_longer_where_ranks_share_cores() {
        let plan = planned(RUN);
        let many = Outlook::of(&plan, 0, 64);
        let expected = plan.run.total_rounds as f64 * plan.outer.round_seconds;
        assert!((many.seconds() - expected).abs() < 1e-9 && many.shared.is_none(), "{many:?}");
        let one = Outlook::of(&plan, 0, 1);
        assert_eq!(one.shared, Some(1));
        // The fastest card keeps a core busy by itself.
        assert!(one.seconds() > 1.2 * expected && one.seconds() < 2.0 * expected, "{one:?}");
        let half = Outlook::of(&plan, plan.run.tokens / 2, 64);
        assert!((half.rounds as f64 - plan.run.total_rounds as f64 / 2.0).abs() <= 1.0, "{half:?}");
        assert_eq!(Outlook::of(&plan, plan.run.tokens, 64).rounds, 0);
    }

    #[test]
    fn what_a_run_trains_beyond_what_was_asked_for_is_said() {
        let notes = |from: &str, to: &str| notes(&planned(&example().replace(from, to)));
        assert_eq!(notes("", ""), [""; 0]);
        let said = notes("tokens: 1800000", "tokens: 1");
        let whole = "1 round of 57,344, 57,344 tokens in place of the 1 asked for";
        assert!(said[0].contains(whole), "{said:?}");
        let said = notes("warmupSteps: 40", "warmupSteps: 640");
        assert!(said[0].contains("warm-up of 640 steps is no shorter than the run of about 628"));
        assert!(said[0].contains("set optimizer.warmupSteps to 62 or so"), "{said:?}");
        assert_eq!(notes("warmupSteps: 40", "warmupSteps: 64"), [""; 0]);
    }

    #[test]
    fn the_planners_reasons_are_said_with_their_island() {
        let plan = planned(RUN);
        let said = warnings(&plan);
        assert_eq!(said, plan.outer.reasons);
        let family = planned(&RUN.replace("NVIDIA-GeForce-RTX-3090", "NVIDIA-GeForce-RTX-3090*"));
        let said = warnings(&family);
        assert!(
            said.iter().any(|said| said.starts_with("island desk: NVIDIA-GeForce-RTX-3090* is"))
        );
    }

    #[test]
    fn a_run_of_months_is_warned_of() {
        let months = planned(&example().replace("tokens: 1800000", "tokens: 60000000000"));
        let said = too_long(&months, &Outlook::of(&months, 0, 2)).unwrap();
        assert!(said.contains(" days: "), "{said}");
        let minutes = planned(RUN);
        assert_eq!(too_long(&minutes, &Outlook::of(&minutes, 0, 2)), None);
    }

    #[test]
    fn ranks_that_hold_more_than_there_is_are_refused_with_what_would_help() {
        let gib = |gib: u64, bound| Some(Available { bytes: gib << 30, bound });
        let large = RUN.replace("llama-demo", "llama-1b");
        let refused = |text: &str, available| {
            check_memory(&planned(text), available).unwrap_err().to_string()
        };
        let said = refused(&large, gib(23, Bound::Machine));
        let expected = " GiB of memory are needed by the 5 ranks of this run on the CPU, and this \
                        machine has available only 23.0 GiB: ";
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("set a smaller model, or fewer cards"), "{said}");
        let said = refused(RUN, gib(1, Bound::Cgroup));
        assert!(said.contains("container leaves only 1.0 GiB"), "{said}");
        let long = RUN.replace("sequences: 8 ", "sequences: 256 ");
        let said = refused(&long, gib(2, Bound::Machine));
        assert!(said.contains("set a smaller batch.sequenceLength"), "{said}");
        for available in [None, gib(23, Bound::Machine)] {
            assert_eq!(check_memory(&planned(RUN), available), Ok(()));
        }
    }
}
