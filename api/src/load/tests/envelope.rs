//! What stands around a spec, and documents that are half of something.

use super::*;

#[test]
fn a_name_is_what_a_folder_and_a_pod_may_be_called() {
    let named = |name: &str| {
        let text =
            RIGHT.replacen("metadata: {name: mini}", &format!("metadata: {{name: {name:?}}}"), 1);
        read(&text.replacen("runRef: {name: mini}", &format!("runRef: {{name: {name:?}}}"), 1))
    };
    for name in ["a", "0", "a-b", "llama-3", &"x".repeat(63), "0-0"] {
        assert_eq!(named(name).map(|it| it.run.name), Ok(name.to_owned()));
    }
    for name in
        ["", "-a", "a-", "A", "a_b", "a.b", "a b", "\u{e9}", &"x".repeat(64), "a/b", "..", "a\u{0}"]
    {
        let problems = named(name).expect_err(name).0;
        assert!(problems.iter().any(|it| it.path == "metadata.name"), "{name:?}: {problems:?}");
    }
}

#[test]
fn what_is_meant_by_a_name_is_a_name() {
    for (written, meant) in [
        ("Lab_A", "lab-a"),
        ("\"--a--\"", "a"),
        ("\"My Lab\"", "my-lab"),
        ("\"1.50\"", "\"1-50\""),
        ("\"\u{e9}a\"", "a"),
    ] {
        let text = RIGHT.replacen("{name: lab-a}\n", &format!("{{name: {written}}}\n"), 1);
        let found = unplaced(&text);
        let meant = format!("write `{}`", meant.trim_matches('"'));
        assert!(found.len() == 1 && found[0].ends_with(&meant), "{written}: {found:?}");
    }
    let hopeless = RIGHT.replacen("{name: lab-a}\n", "{name: \"???\"}\n", 1);
    assert!(!unplaced(&hopeless)[0].contains("write `"), "{:?}", unplaced(&hopeless));
}

#[test]
fn metadata_may_have_what_kubernetes_puts_there_and_nothing_else() {
    let metadata = |more: &str| {
        read(&RIGHT.replacen("{name: lab-a}\n", &format!("{{name: lab-a, {more}}}\n"), 1))
    };
    for right in [
        "namespace: ml",
        "labels: {a: b, c: ''}, annotations: {d: 'e f'}",
        "labels: null, annotations: {}",
        "creationTimestamp: null, resourceVersion: '7', uid: u, generation: 3",
        "ownerReferences: [], finalizers: [x], managedFields: []",
    ] {
        let read = metadata(right).map_err(|it| it.to_string());
        assert_eq!(read.map(|it| it.islands.len()), Ok(1), "{right}");
    }
    let table = [
        ("label: {a: b}", "metadata.label", "write `labels` in its place"),
        ("color: red", "metadata.color", "the fields here are name, namespace, labels and"),
        ("labels: {a: 1}", "metadata.labels.a", "has to be text, not 1: write `\"1\"`"),
        ("labels: {a: [b]}", "metadata.labels.a", "has to be text, not a list"),
        ("labels: [a]", "metadata.labels", "has to be a group of fields, not a list"),
        ("annotations: text", "metadata.annotations", "has to be a group of fields, not \"text\""),
        ("namespace: ''", "metadata.namespace", "\"\" is not a name"),
        ("namespace: [a]", "metadata.namespace", "has to be text, not a list"),
    ];
    for (more, path, sentence) in table {
        let problems = metadata(more).expect_err(more).0;
        assert_eq!(problems.len(), 1, "{more}: {problems:?}");
        assert_eq!(problems[0].path, path, "{problems:?}");
        assert!(problems[0].message.contains(sentence), "{more}: {problems:?}");
    }
}

#[test]
fn documents_that_are_half_of_something_are_told_what_lacks() {
    let head = "apiVersion: heteroloco.dev/v1alpha1\nkind: ComputeIsland\n";
    let table = [
        (format!("{head}metadata: {{name: a}}"), "ComputeIsland a: spec: missing"),
        (format!("{head}metadata: {{name: a}}\nspec: null"), "ComputeIsland a: spec: missing"),
        (
            format!("{head}metadata: {{name: a}}\nspec: 7"),
            "spec: has to be a group of fields, not 7",
        ),
        (
            format!("{head}metadata: {{name: a}}\nspec: []"),
            "spec: has to be a group of fields, not",
        ),
        (format!("{head}spec: {{}}"), "metadata.name: missing: name the resource"),
        (format!("{head}metadata: null\nspec: {{}}"), "metadata.name: missing: name the resource"),
        (format!("{head}metadata: []\nspec: {{}}"), "metadata: has to be a group of fields, not"),
        (head.replace("kind: ComputeIsland\n", ""), "and no kind is not known here: write"),
        ("kind: ComputeIsland".into(), "no apiVersion ComputeIsland is not known here: write"),
        ("7".into(), "no apiVersion and no kind is not known here"),
        ("[]".into(), "no apiVersion and no kind is not known here"),
        ("apiVersion: 1\nkind: 2".into(), "no apiVersion and no kind is not known here"),
        (format!("{head}metadata: {{name: a}}\nstatus: 7\nspecs: {{}}"), "specs: unknown field"),
    ];
    for (text, sentence) in table {
        let found = unplaced(&format!("{RIGHT}---\n{text}"));
        assert!(found.iter().any(|line| line.contains(sentence)), "{text}: {found:#?}");
    }
}

#[test]
fn lists_may_stand_in_lists_so_deep_and_no_deeper() {
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    let value = |text: &str| -> serde_json::Value { serde_yaml::from_str(text).expect(text) };
    let nested = |depth: usize| {
        let inner = serde_json::json!([value(run), value(island)]);
        let list = |items| serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        (1..depth).fold(list(inner), |below, _| list(serde_json::json!([below]))).to_string()
    };
    for depth in [1, 2, 8] {
        assert_eq!(read(&nested(depth)), read(RIGHT), "{depth}");
    }
    let found = problems(&nested(9));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("has to be a list of resources"), "{found:?}");
    // What is wrong deep within is named by its own place there.
    let wrong = nested(3).replace("\"24Gi\"", "\"24GB\"");
    let found = read(&wrong).expect_err("24GB").0;
    assert_eq!((found.len(), found[0].path.as_str()), (1, "spec.devices[1].memory"));
    let mark = found[0].mark.expect("a place");
    let here: String = wrong.chars().skip(mark.column - 1).collect();
    assert!(mark.line == 1 && here.starts_with("\"memory\":\"24GB\""), "{here}");
    for items in ["7", "{}", "text", "[7]", "[[]]"] {
        let text = format!("{RIGHT}---\napiVersion: v1\nkind: List\nitems: {items}");
        assert_eq!(read(&text).expect_err(items).0.len(), 1, "{items}");
    }
    let silent = format!("{RIGHT}---\napiVersion: v1\nkind: List\nitems: null");
    assert_eq!(read(&silent), read(RIGHT));
}

#[test]
fn a_run_may_be_read_alone_whatever_its_islands_are() {
    let alone = |text: &str| {
        let read = |_: &Path| Err(String::new());
        load_run(&[Source { name: "run.yaml", text }], &read)
    };
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    let whole = alone(RIGHT).expect("right");
    assert_eq!((whole.run.name.as_str(), whole.islands), ("mini", 1));
    assert_eq!(alone(run).map(|it| (it.run, it.islands)), Ok((whole.run, 0)));
    let three = format!("{RIGHT}---\n{island}---\n{}", island.replace("mini", "another"));
    assert_eq!(alone(&three).map(|it| it.islands), Ok(3), "they are not looked at");
    assert!(alone(island).is_err() && alone("").is_err());
    let twice = alone(&format!("{run}---\n{run}")).expect_err("two runs").to_string();
    assert!(twice.contains("there is a TrainingRun already, mini"), "{twice}");
    let foreign = format!("{run}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: x}}");
    let passed = alone(&foreign).expect("a run").passed_over;
    assert_eq!(passed, ["run.yaml: passed over: Pod x"]);
}

#[test]
fn what_can_be_read_of_files_is_read_and_that_there_is_more_is_told() {
    let of = |text: &str| {
        let found = resources(&[Source { name: "run.yaml", text }]);
        (found.runs.len(), found.islands.len(), found.broken)
    };
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    assert_eq!(of(RIGHT), (1, 1, false));
    assert_eq!(of(&format!("{RIGHT}---\n{RIGHT}")), (2, 2, false));
    assert_eq!(of(""), (0, 0, false));
    assert_eq!(of(&format!("{RIGHT}---\na: [")), (1, 1, true));
    assert_eq!(of(&format!("{run}---\n{}", island.replace("Harvest", "Greedy"))), (1, 0, true));
    assert_eq!(of("apiVersion: v1\nkind: Pod\nmetadata: {name: x}"), (0, 0, false));
}
