//! Tests of what an island may ask for beyond cards: what it is best at, what cards are worth, and
//! which nodes it takes.

use plan::request::Objective;

use super::*;

/// The selector of RIGHT's island.
const SELECTOR: &str = "{matchLabels: {topology.kubernetes.io/zone: lab-a}}";

/// The island of RIGHT with a line changed.
fn island(right: &str, changed: &str) -> IslandRequest {
    assert!(RIGHT.contains(right), "{right}");
    read(&RIGHT.replacen(right, changed, 1)).expect(changed).islands.remove(0)
}

#[test]
fn what_a_plan_is_best_at_is_read() {
    let objective = |line: &str| island("parallelism: {}", line).objective;
    assert_eq!(objective("parallelism: {}"), Objective::Throughput);
    assert_eq!(objective("objective: Throughput"), Objective::Throughput);
    assert_eq!(objective("objective: PerWatt"), Objective::PerWatt);
    let costs = RIGHT
        .replace("count: 2", "count: 2\n      costPerHour: \"2.5\"")
        .replace("memory: 24Gi", "costPerHour: \"0.3\"")
        .replace("parallelism: {}", "objective: PerCost");
    let island = read(&costs).expect("right").islands.remove(0);
    let each: Vec<_> = island.devices.iter().map(|device| device.cost_per_hour).collect();
    assert_eq!((island.objective, each), (Objective::PerCost, vec![Some(2.5), Some(0.3)]));
}

#[test]
fn a_product_that_nobody_knows_is_planned_by_its_memory_and_speed() {
    let planned = |device: &str| {
        let text = RIGHT.replace("product: NVIDIA-H100-80GB-HBM3", device);
        let text = text.replace("  minMemory: 200Gi\n", "");
        let Manifests { run, islands, .. } = read(&text).expect("right");
        let known: Vec<_> =
            islands[0].devices.iter().map(|device| (device.memory, device.tflops)).collect();
        let execution = Execution::Emulated { cores: 1 };
        let plan = plan::planner::plan_run(&run, &islands, &execution);
        (known[0], plan.map(|_| ()).map_err(|refusals| refusals.to_string()))
    };
    let own = "product: Own-Card\n      memory: 96Gi\n      tflops: \"330.5\"";
    assert_eq!(planned(own), ((Some(96 << 30), Some(330.5)), Ok(())));
    let (_, refused) = planned("product: Own-Card\n      memory: 96Gi");
    let refused = refused.expect_err("nobody knows it");
    assert!(refused.starts_with("island lab-a: Own-Card is not in the GPU catalogue"), "{refused}");
    assert!(refused.ends_with("or set its memory and tflops"), "{refused}");
    let (_, refused) = planned("product: Own-Card\n      tflops: \"330.5\"");
    let refused = refused.expect_err("nobody knows its memory");
    assert!(refused.contains("nothing is known of the memory of Own-Card"), "{refused}");
    for extreme in ["1e-30", "100000"] {
        let own = format!("product: Own-Card\n      memory: 96Gi\n      tflops: \"{extreme}\"");
        let (_, plan) = planned(&own);
        assert_eq!(plan, Ok(()), "{extreme}");
    }
}

#[test]
fn the_nodes_that_islands_may_use_come_with_them_in_their_order() {
    let again = RIGHT.split("---").nth(1).expect("an island");
    let again = again.replace("lab-a}", "lab-b}").replace(
        "nodeSelector: {matchLabels: {topology.kubernetes.io/zone: lab-b}}",
        "nodeSelector: {matchExpressions: [{key: gpu, operator: Exists}]}",
    );
    let third = again.replace("lab-b}", "lab-c}");
    let third: Vec<_> = third.lines().filter(|line| !line.contains("nodeSelector")).collect();
    let text = format!("{RIGHT}---{again}---{}\n", third.join("\n"));
    let manifests = read(&text).expect("right");
    let names: Vec<_> = manifests.islands.iter().map(|island| island.name.as_str()).collect();
    assert_eq!(names, ["lab-a", "lab-b", "lab-c"]);
    let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let zone = labels("topology.kubernetes.io/zone", "lab-a");
    let takes = |labels| {
        let one = |it: &Option<NodeSelector>| it.as_ref().map(|it| it.selects(labels));
        manifests.selectors.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(takes(&zone), [Some(true), Some(false), None]);
    assert_eq!(takes(&labels("gpu", "")), [Some(false), Some(true), None]);
}

#[test]
fn each_mistake_of_an_island_gets_its_sentence() {
    let cases = [
        (
            "parallelism: {}",
            "pipeline: {compression: {rank: 8, mode: Never}}",
            "pipeline.compression.mode: \"Never\" is not one of Always, WhereSlow",
        ),
        (
            "parallelism: {}",
            "objective: Cheap",
            "objective: \"Cheap\" is not one of Throughput, PerWatt, PerCost",
        ),
        (
            "parallelism: {}",
            "objective: PerCost",
            "devices[1].costPerHour: missing: objective PerCost needs it of every device; say what",
        ),
        ("memory: 24Gi", "tflops: 330", "devices[1].tflops: 330 has to be text: write `\"330\"`"),
        (
            "memory: 24Gi",
            "tflops: \"0\"",
            "devices[1].tflops: 0 has to be above 0 and at most 100000",
        ),
        (
            "memory: 24Gi",
            "tflops: \"100000.1\"",
            "devices[1].tflops: 100000.1 has to be above 0 and at most 100000",
        ),
        ("memory: 24Gi", "costPerHour: \"-1\"", "devices[1].costPerHour: -1 has to be above 0"),
        (
            "memory: 24Gi",
            "costPerHour: cheap",
            "devices[1].costPerHour: \"cheap\" is not a number: write one",
        ),
        (
            SELECTOR,
            "{matchExpressions: [{key: a, operator: In}]}",
            "nodeSelector.matchExpressions[0].values: In needs at least one value",
        ),
        (
            SELECTOR,
            "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            "nodeSelector.matchExpressions[0].values: Exists takes no values: leave them out",
        ),
        (
            SELECTOR,
            "{matchExpressions: [{key: a, operator: Gt, values: [b]}]}",
            "nodeSelector.matchExpressions[0].operator: \"Gt\" is not one of In, NotIn, Exists",
        ),
    ];
    for (right, wrong, sentence) in cases {
        assert_mistake(right, wrong, &format!("run.yaml: ComputeIsland lab-a: spec.{sentence}"));
    }
}
