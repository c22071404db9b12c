//! What `up` tells a coordinator is what a coordinator takes.

use plan::planner::plan_run;
use plan::request::Execution;
use rounds::types::Digest;

use super::*;

fn planned() -> RunPlan {
    let text = include_str!("../../../../examples/quickstart.yaml");
    let manifests = api::load(&[api::Source { name: "quickstart", text }]).unwrap();
    plan_run(&manifests.run, &manifests.islands, &Execution::Emulated { cores: 1 }).unwrap()
}

/// As the coordinator reads its file, whose JSON is YAML, too.
fn read(spec: &CoordinatorSpec) -> CoordinatorSpec {
    serde_yaml::from_str(&serde_json::to_string_pretty(spec).unwrap()).unwrap()
}

#[test]
fn whatever_islands_are_left_the_rules_can_be_followed() {
    let plan = planned();
    for islands in [1, 2, 3, 7, MEMBERS_MAX, MEMBERS_MAX + 1, u32::MAX] {
        let spec = spec((&plan, islands), Path::new("/runs/mini"), "127.0.0.1:0", None);
        assert_eq!(read(&spec), spec);
        assert_eq!(spec.store, Path::new("/runs/mini/coordinator.redb"));
        assert!(spec.run.minimum >= 1 && spec.run.minimum <= spec.run.islands, "{spec:?}");
        // 60% of three islands are two.
        assert!(islands != 3 || spec.run.minimum == 2, "{spec:?}");
        let name = spec.run.validate().unwrap_or_else(|error| panic!("{islands}: {error}"));
        assert_eq!(name.name, "mini-llama");
    }
}

#[test]
fn an_exchange_of_any_length_has_a_deadline_that_the_coordinator_takes() {
    let mut plan = planned();
    for seconds in [0.0, 100.0, 1e5] {
        plan.outer.exchange_seconds = seconds;
        let spec = spec((&plan, 3), Path::new("r"), "127.0.0.1:0", None);
        // Three times what is expected, and two minutes at least.
        let expected = (3.0 * seconds).max(120.0) * 1000.0;
        assert_eq!(spec.run.fetch_deadline_ms as f64, expected);
        assert!(spec.run.validate().is_ok(), "{seconds}");
    }
}

#[test]
fn a_checkpoint_that_is_adopted_reaches_the_coordinator_as_it_was_found() {
    let adopted =
        Adopted { round: 4, theta_hash: Some(Digest([0xab; 32])), tokens: 700, samples: 9 };
    let spec = spec((&planned(), 3), Path::new("r"), "127.0.0.1:7070", Some(&adopted));
    let read = read(&spec);
    assert_eq!((read.adopt, &read.listen[..]), (Some(adopted), "127.0.0.1:7070"));
}
