//! The last byte of memory that is enough, and runs that are done or never will be.

use plan::planner::plan_run;
use plan::request::Execution;

use super::*;

fn planned(spec: &str) -> RunPlan {
    let text = format!(
        "apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {{name: mini}}
spec:
  model: {{preset: llama-demo}}
  data: {{path: data, tokenizer: byte}}
  batch: {{sequences: 8}}
{spec}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {{name: lab}}
spec:
  runRef: {{name: mini}}
  devices: [{{product: NVIDIA-GeForce-RTX-4090, count: 2}}]
"
    );
    let manifests = api::load(&[api::Source { name: "run.yaml", text: &text }]).unwrap();
    plan_run(&manifests.run, &manifests.islands, &Execution::Emulated { cores: 1 }).unwrap()
}

const SHORT: &str = "  tokens: 1000000
  sparseLoCo: {innerSteps: 10}
  optimizer: {warmupSteps: 5}";

fn left(bytes: u64) -> Option<Available> {
    Some(Available { bytes, bound: Bound::Machine })
}

#[test]
fn a_run_starts_with_the_last_byte_that_it_needs_and_not_with_one_less() {
    let plan = planned(SHORT);
    let cards = plan.islands.iter().flat_map(|island| &island.cards);
    let needed: u64 = cards.map(|card| card.memory.card() + card.memory.host()).sum();
    let enough = needed + OWN_BYTES;
    assert_eq!(check_memory(&plan, left(enough)), Ok(()));
    let refused = check_memory(&plan, left(enough - 1)).unwrap_err();
    assert_eq!((refused.needed, &refused.ranks[..]), (enough, "2 ranks"));
    assert!(check_memory(&plan, left(0)).unwrap_err().to_string().contains("only 0 B: set a"));
}

/// What a GPU's rank holds is in the GPU, and was planned there.
#[test]
fn ranks_on_gpus_take_no_memory_of_the_machine() {
    let mut plan = planned(SHORT);
    let devices = plan.islands.iter_mut().flat_map(|island| &mut island.spec.ranks);
    for (at, device) in devices.flat_map(|rank| &mut rank.devices).enumerate() {
        let precision = plan::spec::Precision::Bf16;
        device.device = DeviceSpec::Cuda { index: at as u32, precision };
    }
    assert_eq!(check_memory(&plan, left(0)), Ok(()));
    // Nor do they share its cores.
    assert_eq!(Outlook::of(&plan, 0, 1).shared, None);
}

#[test]
fn a_run_that_has_its_tokens_or_more_has_no_rounds_left() {
    let plan = planned(SHORT);
    let round = plan.outer.round_tokens;
    for done in [plan.run.tokens, plan.run.tokens + 1, u64::MAX] {
        let outlook = Outlook::of(&plan, done, 8);
        assert_eq!((outlook.rounds, outlook.tokens), (0, done));
        assert_eq!(outlook.seconds().to_bits(), 0);
    }
    let last = Outlook::of(&plan, plan.run.tokens - 1, 8);
    assert_eq!((last.rounds, last.tokens), (1, plan.run.tokens - 1 + round));
}

#[test]
fn a_run_of_any_length_has_a_number_of_rounds() {
    let mut plan = planned(SHORT);
    plan.run.tokens = u64::MAX;
    for round in [0, 1, u64::MAX] {
        plan.outer.round_tokens = round;
        let outlook = Outlook::of(&plan, 0, 0);
        assert_eq!(outlook.rounds, u64::MAX.div_ceil(round.max(1)));
        assert!(outlook.tokens == u64::MAX && outlook.seconds() > 0.0, "{outlook:?}");
    }
}

/// A warm-up that is as long as the run never lets the rate come to its peak; one step less does.
#[test]
fn a_warm_up_is_too_long_from_the_runs_own_length_on() {
    let step = 256 * 8;
    let notes = |warmup: u64, tokens: u64| {
        notes(&planned(&format!(
            "  tokens: {tokens}\n  sparseLoCo: {{innerSteps: 10}}\n  \
             optimizer: {{warmupSteps: {warmup}}}"
        )))
    };
    let said = notes(100, 100 * step);
    assert!(said[0].contains("the warm-up of 100 steps is no shorter than the run of about 100"));
    assert!(said[0].contains("set optimizer.warmupSteps to 10 or so"), "{said:?}");
    assert_eq!(notes(99, 100 * step), [""; 0]);
    assert_eq!(notes(0, 100 * step), [""; 0], "there is none");
}
