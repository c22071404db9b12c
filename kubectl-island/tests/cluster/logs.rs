//! What the ranks of an island say, each line with its rank and node.

use serde_json::json;

use super::server::{Answer, Server, found, list, refused};
use super::{island, rank};

/// The island `big` in epoch 2, whose ranks answer so when they are asked for their log.
fn cluster(log: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
    Server::new(move |asked| match asked.path.rsplit('/').next().unwrap() {
        "log" => log(asked.path.rsplit('/').nth(1).unwrap()),
        "pods" => list(&[rank("big", 2, 1), rank("big", 1, 0), rank("big", 2, 0)]),
        _ => {
            let mut island = island("big");
            island["status"] = json!({"plan": {
                "epoch": 2, "generation": 3, "phase": "Running", "since": "2026-01-01T00:00:00Z",
                "index": 0, "layout": "1×1×1", "cards": 2, "memory": "160Gi",
                "stepSeconds": "1.0", "tokensPerSecond": 1,
            }});
            found(&island)
        }
    })
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_ranks_of_the_epoch_in_force_are_read_each_with_its_node() {
    let server = cluster(|pod| (200, format!("{pod} one\n{pod} two")));
    let said = server.run("logs big --tail 7").done();
    let expected = [
        "[r0 node-0] big-e2-r0 one",
        "[r0 node-0] big-e2-r0 two",
        "[r1 node-1] big-e2-r1 one",
        "[r1 node-1] big-e2-r1 two",
    ];
    assert_eq!(lines(&said), expected);
    for asked in server.asked("GET", "/log") {
        assert!(asked.query.contains("container=worker"), "{asked:?}");
        assert!(asked.query.contains("tailLines=7"), "{asked:?}");
    }
    let before = server.run("logs big --previous-epoch").done();
    assert_eq!(lines(&before), ["[r0 node-0] big-e1-r0 one", "[r0 node-0] big-e1-r0 two"]);
    let one = server.run("logs big --rank 1").done();
    assert!(one.lines().count() == 2 && one.starts_with("[r1 node-1] "), "{one}");
}

#[test]
fn a_rank_without_a_log_is_named_and_the_others_are_read() {
    let starting = || refused(400, "BadRequest", "container is waiting to start", "");
    let server = cluster(move |pod| match pod {
        "big-e2-r1" => (200, "up\n".to_owned()),
        _ => starting(),
    });
    let said = server.run("logs big");
    assert_eq!((said.code, &said.out[..]), (Some(0), "[r1 node-1] up\n"), "{said:?}");
    let warning = "warning: [r0 node-0] no log: container is waiting to start\n";
    assert_eq!(said.err, warning);
    let silent = cluster(move |_| starting()).run("logs big");
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert_eq!(silent.err.matches("no log: container is waiting").count(), 2, "{silent:?}");
}

#[test]
fn ranks_that_are_not_there_are_said_with_those_that_are() {
    let server = cluster(|_| (200, String::new()));
    let said = server.run("logs big --rank 7").error(1);
    assert!(said.contains("has no pod of rank 7 in epoch 2, but 2 others"), "{said}");
    assert!(server.asked("GET", "/log").is_empty());
}
