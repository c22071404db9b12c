//! Islands that split one replica over several cards.

use serde_json::Value;

use super::place::{Island, Place};

/// A model that two cards can share, in islands of one, two and four of them.
fn place(tokens: u64) -> Place {
    let place = Place::new();
    let islands = [
        Island::new("whole", "NVIDIA-H100-80GB-HBM3", 1),
        Island::new("shared", "NVIDIA-H100-80GB-HBM3", 2),
        Island::new("split", "NVIDIA-H100-80GB-HBM3", 4),
    ];
    place.manifests(tokens, &islands);
    place.edit("hidden_size: 32", "hidden_size: 128\n      head_dim: 64");
    place.edit("intermediate_size: 64", "intermediate_size: 128");
    place.edit("num_hidden_layers: 1", "num_hidden_layers: 3");
    place.edit("num_key_value_heads: 1", "num_key_value_heads: 2");
    parallelism(&place, "shared", "{tensor: 2}");
    parallelism(&place, "split", "{tensor: 2, pipeline: 2}");
    place
}

fn parallelism(place: &Place, island: &str, layout: &str) {
    let spec = format!("metadata: {{name: {island}}}\nspec:\n");
    place.edit(&spec, &format!("{spec}  parallelism: {layout}\n"));
}

fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

#[test]
fn one_card_two_that_share_layers_and_four_in_two_compressed_stages_hold_the_same_parameters() {
    let place = place(4_000);
    let stages = "  parallelism: {tensor: 2, pipeline: 2}\n";
    place.edit(stages, &format!("{stages}  pipeline: {{compression: {{rank: 32}}}}\n"));
    let (records, code, complaints) = place.up(&[]).end();
    assert_eq!(code, 0, "{complaints}");
    let summary = &records.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    for round in 0..summary["rounds"].as_u64().unwrap() {
        let rounds: Vec<&Value> =
            of(&records, "round").into_iter().filter(|record| record["round"] == round).collect();
        assert_eq!(rounds.len(), 3, "round {round}: {rounds:?}");
        assert!(rounds.iter().all(|r| r["thetaHash"] == rounds[0]["thetaHash"]), "{rounds:?}");
        assert!(rounds.iter().all(|r| r["islands"] == 3), "every island contributes: {rounds:?}");
    }
    let losses = [&summary["heldoutFirst"][1], &summary["heldoutLast"][1]];
    assert!(losses[1].as_f64() < losses[0].as_f64(), "{losses:?}");
    let stages = of(&records, "boundary");
    assert!(!stages.is_empty() && stages.iter().all(|record| record["island"] == "split"));
    let told = of(&records, "memory");
    assert!(told.iter().any(|record| record["island"] == "split" && record["rank"] == 3));
}

#[test]
fn an_island_goes_on_at_another_sharding_from_its_own_checkpoint() {
    let place = place(40_000);
    let mut up = place.up(&[]);
    while up.wait_for_round("split") < 3 {}
    up.interrupt();
    let (records, _, complaints) = up.end();
    let newest = |island: &Value| {
        let written = of(&records, "checkpoint").into_iter().filter(|r| r["island"] == *island);
        written.filter_map(|record| record["round"].as_u64()).max()
    };
    assert!(newest(&"split".into()) >= Some(3), "{complaints}");
    place.edit("tokens: 40000", "tokens: 8000");
    place.edit("parallelism: {tensor: 2, pipeline: 2}", "parallelism: {pipeline: 3}");
    place.edit("parallelism: {tensor: 2}\n", "parallelism: {data: 2}\n");
    let (after, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
    let summary = &after.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    let resumed = of(&after, "state").into_iter();
    let resumed: Vec<&Value> =
        resumed.filter(|record| record["reason"] == "resumed from a checkpoint").collect();
    assert_eq!(resumed.len(), 3, "{resumed:?}");
    for record in resumed {
        assert_eq!(record["round"].as_u64(), newest(&record["island"]), "{record}");
    }
}
