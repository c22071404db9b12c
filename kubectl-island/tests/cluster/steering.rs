//! Islands and runs that are told to rest and to go on: what is written, and what is said of it.

use serde_json::{Value, json};

use super::server::{Asked, Server, found, list, not_found};
use super::{island, rank, resting, run};

/// A cluster of the island `big` and its run, which rest or do not, and so many pods.
fn cluster(island_rests: bool, run_rests: bool, pods: u32) -> Server {
    Server::new(move |asked| {
        let after = |object: Value, rests| match asked.method == "PATCH" {
            true => resting(object, asked.body["spec"]["suspend"] == json!(true)),
            false => resting(object, rests),
        };
        let name = asked.path.rsplit('/').next().unwrap();
        match (name, asked.path.contains("computeislands")) {
            ("big", true) => found(&after(island("big"), island_rests)),
            ("mini", false) => found(&after(run("mini"), run_rests)),
            ("pods", _) => list(&(0..pods).map(|at| rank("big", 1, at)).collect::<Vec<_>>()),
            (name, _) => not_found(name),
        }
    })
}

fn written(server: &Server) -> Asked {
    let mut asked = server.asked("PATCH", "");
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

#[test]
fn an_island_that_is_drained_gets_one_field_and_says_whether_that_changed_anything() {
    for (before, expected) in [(false, "was told to rest"), (true, "rests already")] {
        let server = cluster(before, false, 2);
        let said = server.run("drain big").done();
        let rest = "its pods end by themselves, --wait waits for that\n";
        assert_eq!(said, format!("island big {expected}; {rest}"));
        let asked = written(&server);
        assert_eq!(asked.body, json!({"spec": {"suspend": true}}));
        assert!(asked.path.ends_with("/namespaces/ml/computeislands/big"), "{asked:?}");
        assert!(asked.query.contains("fieldManager=kubectl-island"), "{asked:?}");
    }
}

/// What goes on has no such field, as most manifests do not have it.
#[test]
fn an_island_that_goes_on_says_what_else_holds_it_back() {
    let table = [
        (true, false, "island big goes on\n"),
        (false, false, "island big was not resting\n"),
        (true, true, "island big goes on; its run is paused: `kubectl island run resume mini`\n"),
    ];
    for (rests, paused, expected) in table {
        let server = cluster(rests, paused, 0);
        assert_eq!(server.run("undrain big").done(), expected);
        assert_eq!(written(&server).body, json!({"spec": {"suspend": null}}));
    }
}

#[test]
fn a_run_is_paused_and_resumed_and_says_what_it_was() {
    let paused = "run mini is paused: its islands give their cards back, its coordinator stays\n";
    let table = [
        ("pause", false, json!(true), paused),
        ("pause", true, json!(true), "run mini is paused already\n"),
        ("resume", true, Value::Null, "run mini goes on\n"),
        ("resume", false, Value::Null, "run mini was not paused\n"),
    ];
    for (command, before, suspend, expected) in table {
        let server = cluster(false, before, 0);
        assert_eq!(server.run(&format!("run {command} trainingrun/mini")).done(), expected);
        let asked = written(&server);
        assert_eq!(asked.body, json!({"spec": {"suspend": suspend}}));
        assert!(asked.path.ends_with("/trainingruns/mini"), "{asked:?}");
    }
}

#[test]
fn a_wait_for_pods_that_stay_ends_with_what_is_left() {
    let table = [(1, "1 pod not gone"), (3, "3 pods not gone")];
    for (pods, expected) in table {
        let said = cluster(false, false, pods).run("drain big --wait=1ms").error(1);
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("see `kubectl island explain big`, or wait longer"), "{said}");
    }
}

/// As long as the operator has not seen the change it may still make pods: none is not enough.
#[test]
fn an_island_without_pods_rests_once_its_operator_has_seen_that_it_is_to() {
    let seen = |generation: Option<i64>| {
        Server::new(move |asked| {
            let mut island = resting(island("big"), true);
            if let Some(generation) = generation {
                island["status"] = json!({"observedGeneration": generation});
            }
            match asked.path.ends_with("/pods") {
                true => list(&[]),
                false => found(&island),
            }
        })
    };
    for before in [None, Some(2)] {
        let said = seen(before).run("drain big --wait=1ms").error(1);
        assert!(said.contains("the operator has not seen the change"), "{before:?}: {said}");
    }
    let said = seen(Some(3)).run("drain big --wait=1ms").done();
    assert_eq!(said, "island big rests: its pods are gone\n");
}
