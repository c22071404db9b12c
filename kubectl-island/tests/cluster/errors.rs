//! An API server that refuses, breaks, or says what is no answer: one sentence each.

use super::server::{Server, found, list, not_found, page, refused};
use super::{KINDS, island, run};

#[test]
fn what_the_server_refuses_is_said_with_what_to_change() {
    let table = [
        (401, "Unauthorized", "Unauthorized", "log in again, or choose another --context"),
        (403, "Forbidden", "u cannot list x", "u cannot list x; ask for that right"),
        (500, "InternalError", "etcd is away", "failed to list islands: etcd is away"),
        (410, "Expired", "the list is too old", "failed to list islands: the list is too old"),
        (422, "Invalid", "no such field", "failed to list islands: no such field"),
        (404, "NotFound", "no such kind", "does not know HeteroLoCo's kinds; install the chart"),
    ];
    for (code, reason, message, expected) in table {
        let server = Server::new(move |_| refused(code, reason, message, ""));
        let said = server.run("top").error(1);
        assert!(said.contains(expected), "{code}: {said}");
    }
}

#[test]
fn what_is_no_answer_of_an_api_server_is_an_error_and_no_panic() {
    let answers =
        ["", "<html>log in</html>", "[]", "{\"items\": 7}", "{\"metadata\": {}, \"items\": [{}]}"];
    for answer in answers {
        let server = Server::new(move |_| (200, answer.to_owned()));
        let said = server.run("top").error(1);
        assert!(said.starts_with("error: failed to list islands: "), "{answer}: {said}");
        let server = Server::new(move |_| (502, answer.to_owned()));
        let said = server.run("explain big").error(1);
        assert!(said.starts_with("error: failed to read the island: "), "{answer}: {said}");
    }
}

#[test]
fn a_name_of_the_other_kind_is_recognised_and_an_unknown_one_is_looked_for_elsewhere() {
    let server = Server::new(|asked| match asked.path.rsplit_once('/') {
        Some((kind, "mini")) if kind.ends_with("trainingruns") => found(&run("mini")),
        Some((kind, "big")) if kind.ends_with("computeislands") => found(&island("big")),
        other => not_found(other.unwrap().1),
    });
    let table = [
        ("explain mini", "there is no ComputeIsland mini in namespace ml: that is a TrainingRun"),
        ("drain mini", "that is a TrainingRun, see `kubectl island run --help`"),
        ("run pause big", "there is no TrainingRun big in namespace ml: that is a ComputeIsland"),
        ("explain none", "no ComputeIsland none in namespace ml: `kubectl island top -A` shows"),
        ("run resume none -n other", "there is no TrainingRun none in namespace other: "),
        ("logs none", "there is no ComputeIsland none"),
    ];
    for (line, expected) in table {
        let said = server.run(line).error(2);
        assert!(said.contains(expected), "{line}: {said}");
    }
    assert!(server.asked("PATCH", "").is_empty(), "nothing is written");
}

#[test]
fn lists_are_read_to_their_end_page_by_page() {
    let server = Server::new(|asked| {
        let islands = asked.path.ends_with("/computeislands");
        match (islands, asked.query.contains("continue=more")) {
            (true, false) => page(&[island("a"), island("b")], "more"),
            (true, true) => list(&[island("c")]),
            (false, _) => list(&[run("mini")]),
        }
    });
    let said = server.run("top").done();
    for name in ["a ", "b ", "c ", "mini "] {
        assert!(said.lines().any(|line| line.starts_with(name)), "{name} is missing in\n{said}");
    }
    let asked = server.asked("GET", "/computeislands");
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|it| it.query.contains("limit=500")), "{asked:?}");
    assert!(asked.iter().all(|it| it.path == format!("{KINDS}/namespaces/ml/computeislands")));
}

#[test]
fn all_namespaces_are_asked_for_at_once() {
    let server = Server::new(|_| list(&[]));
    let said = server.run("top -A").done();
    assert_eq!(said, "no islands and no runs in any namespace: apply some\n");
    let said = server.run("top -n other --once").done();
    assert!(said.starts_with("no islands and no runs in namespace other: "), "{said}");
    let paths: Vec<_> =
        server.asked("GET", "/trainingruns").into_iter().map(|it| it.path).collect();
    let expected = ["trainingruns", "namespaces/other/trainingruns"];
    assert_eq!(paths, expected.map(|path| format!("{KINDS}/{path}")));
}

/// Whatever a cluster says of an island, it is shown line by line and moves no cursor.
#[test]
fn an_island_is_explained_with_its_events_and_those_of_its_pods() {
    let server = Server::new(|asked| {
        let event = |kind: &str, name: &str, message: &str| {
            serde_json::json!({
                "metadata": {"name": "e", "namespace": "ml"}, "type": "Warning", "reason": "Why",
                "involvedObject": {"kind": kind, "name": name}, "message": message,
                "lastTimestamp": "2026-01-01T00:00:00Z",
            })
        };
        match &asked.path[..] {
            path if path.ends_with("/events") && asked.query.contains("ComputeIsland") => {
                list(&[event("ComputeIsland", "big", "two\nlines\u{1b}[2J")])
            }
            path if path.ends_with("/events") => list(&[
                event("Pod", "big-e1-r0", "of its pod"),
                event("Pod", "bigger-e1-r0", "of another's"),
            ]),
            _ => found(&island("big")),
        }
    });
    let said = server.run("explain island/big").done();
    assert!(
        said.starts_with("island big of run mini, namespace ml: no operator has looked"),
        "{said}"
    );
    assert!(said.contains("two lines [2J") && said.contains("pod big-e1-r0"), "{said}");
    assert!(!said.contains("another's") && !said.contains('\u{1b}'), "{said}");
}
