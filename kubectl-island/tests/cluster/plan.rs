//! What islands would do on the cards that are idle in a cluster.

use serde_json::{Value, json};

use super::server::{Answer, Asked, Server, found, list, not_found, refused};
use super::{island, run};

fn node(name: &str, cards: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.count": cards.to_string(), "nvidia.com/gpu.memory": "81559",
        }},
        "status": {"allocatable": {"nvidia.com/gpu": cards.to_string()}},
    })
}

/// A pod of somebody else.
fn holder(name: &str, node: &str, cards: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "other"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {
            "limits": {"nvidia.com/gpu": cards.to_string()}}}]},
        "status": {"phase": "Running"},
    })
}

/// A cluster of two cards on one node, of which others hold so many.
fn answer(asked: &Asked, held: u32) -> Answer {
    match asked.path.rsplit('/').next().unwrap() {
        "nodes" => list(&[node("a", 2)]),
        "pods" if held > 0 => list(&[holder("theirs", "a", held)]),
        "mini" => found(&run("mini")),
        "big" => found(&island("big")),
        "computeislands" => list(&[island("big")]),
        "pods" | "resourceslices" => list(&[]),
        other => not_found(other),
    }
}

fn cluster(held: u32) -> Server {
    Server::new(move |asked| answer(asked, held))
}

#[test]
fn an_island_is_planned_on_what_nobody_else_holds_and_nothing_is_written() {
    let server = cluster(1);
    let said = server.run("plan big");
    assert!(said.err.contains("warning: cards that are not idle: pod other/theirs holds 1\n"));
    let text = said.done();
    assert!(text.starts_with("CLUSTER: 1 of 2 cards idle on 1 nodes; "), "{text}");
    assert!(text.contains("\nisland big: dp 1, H "), "{text}");
    for method in ["PATCH", "POST", "PUT", "DELETE"] {
        assert!(server.asked(method, "").is_empty(), "{method}");
    }
}

#[test]
fn a_refusal_goes_to_people_and_as_an_object_to_tools() {
    let said = cluster(2).run("plan big -o json");
    assert_eq!(said.code, Some(2), "{said:?}");
    let refused: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(refused["refusals"][0]["island"], "big");
    assert_eq!(refused["refusals"][0]["reason"], "NotEnoughCards");
    assert!(said.err.contains("error: failed to plan the run:"), "{said:?}");
    let said = cluster(2).run("plan big");
    assert_eq!((said.code, &said.out[..]), (Some(2), ""), "{said:?}");
}

#[test]
fn what_files_lack_is_taken_from_the_cluster() {
    let server = cluster(0);
    let island = "apiVersion: heteroloco.dev/v1alpha1\nkind: ComputeIsland\n\
                  metadata: {name: small}\nspec: {runRef: {name: mini}, \
                  devices: [{product: NVIDIA-H100-80GB-HBM3, count: 2}]}\n";
    server.write("island.yaml", island);
    let said = server.run("plan -f island.yaml -o json").done();
    let plan: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&plan["run"], &plan["nodes"]), (&"mini".into(), &"cluster".into()));
    assert_eq!(plan["islands"][0]["name"], "small");
    assert_eq!(plan["islands"][0]["cards"].as_array().unwrap().len(), 2);

    server.write("run.yaml", &run("mini").to_string());
    let said = server.run("plan -f run.yaml --output yaml").done();
    let plan: Value = serde_yaml::from_str(&said).unwrap();
    assert_eq!(plan["islands"][0]["name"], "big");
    let asked = server.asked("GET", "/namespaces/ml/computeislands");
    assert!(asked[0].query.contains("spec.runRef.name%3Dmini"), "{asked:?}");
}

#[test]
fn files_that_cannot_be_read_are_refused_before_cards_are_looked_for() {
    let server = cluster(0);
    server.write("run.yaml", "kind: TrainingRun\n");
    assert_eq!(server.run("plan -f run.yaml").code, Some(2));
    assert_eq!(server.run("plan -f none.yaml").code, Some(2));
    assert!(server.asked("GET", "/nodes").is_empty());
}

/// Not every cluster has the driver's slices, and not everybody may see them: labels say much the
/// same. Before the chart is installed there are no islands, and files can be planned.
#[test]
fn what_a_cluster_has_not_or_does_not_show_is_done_without() {
    let forbidden = Server::new(|asked| match asked.path.ends_with("/resourceslices") {
        true => refused(403, "Forbidden", "u cannot list resourceslices", ""),
        false => answer(asked, 0),
    });
    let said = forbidden.run("plan big");
    let warning = "warning: cards are known by labels alone: failed to list ResourceSlices: u ";
    assert!(said.err.contains(warning), "{said:?}");
    assert!(said.done().starts_with("CLUSTER: 2 of 2 cards idle"));

    let bare = Server::new(|asked| match asked.path.starts_with("/api/v1/") {
        true => answer(asked, 0),
        false => (404, "404 page not found\n".to_owned()),
    });
    bare.write("run.yaml", &format!("{}\n---\n{}\n", run("mini"), island("big")));
    let text = bare.run("plan -f run.yaml").done();
    assert!(text.starts_with("CLUSTER: 2 of 2 cards idle on 1 nodes"), "{text}");

    let hidden = Server::new(|asked| match asked.path.ends_with("/nodes") {
        true => refused(403, "Forbidden", "u cannot list nodes", ""),
        false => answer(asked, 0),
    });
    let said = hidden.run("plan big").error(1);
    assert!(said.contains("failed to list nodes: u cannot list nodes; ask for that"), "{said}");
}
