//! Tests of files as people have them: what else stands in them, how they are encoded, and where
//! in them a problem is.

use super::*;

/// The line and column of the only problem.
fn place(text: &str) -> (usize, usize) {
    let problems = read(text).expect_err(text).0;
    let [problem] = &problems[..] else { panic!("one problem: {problems:#?}") };
    let mark = problem.mark.unwrap_or_else(|| panic!("no place: {problem}"));
    assert!(problem.to_string().starts_with(&format!("run.yaml:{}:{}: ", mark.line, mark.column)));
    (mark.line, mark.column)
}

/// The line and column at which a part of RIGHT, changed, stands.
fn found(text: &str, part: &str) -> (usize, usize) {
    let at = text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    let before = &text[..at];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[test]
fn a_problem_is_where_its_field_stands() {
    let cases = [
        ("grace: 30s", "grace: 30", "grace: 30"),
        ("60%", "0%", "quorum: 0%"),
        ("24Gi", "24GB", "memory: 24GB"),
        ("count: 2", "count: 0", "count: 0"),
        ("max: 8", "max: x", "max: x"),
        ("  parallelism: {}", "  gpus: 2", "gpus: 2"),
        ("zone: lab-a", "zone: 1", "topology.kubernetes.io/zone: 1"),
        ("{name: lab-a}", "{name: Ä}", "name: Ä"),
        ("{name: lab-a}", "{}", "metadata: {}\nspec:\n  runRef"),
        ("  runRef: {name: mini}\n", "", "spec:\n  devices"),
        ("runRef: {name: mini}", "runRef: {name: other}", "name: other"),
        ("product: NVIDIA-GeForce-RTX-3090", "color: red", "product: NVIDIA-H100"),
        (
            "kind: ComputeIsland",
            "kind: Island",
            "apiVersion: heteroloco.dev/v1alpha1\nkind: Island",
        ),
        ("  tokens: 2000000000", "  tokens: 2\n  tokens: 3", "tokens: 3"),
        ("tokens: 2000000000", "tokens: [", "data: nothing"),
    ];
    for (right, wrong, part) in cases {
        assert!(RIGHT.contains(right), "{right}");
        let text = RIGHT.replacen(right, wrong, 1);
        // Some are not at the part itself.
        let expected = match part {
            "product: NVIDIA-H100" => continue_at(&text, "color: red"),
            "data: nothing" => continue,
            _ => vec![found(&text, part)],
        };
        let problems = read(&text).expect_err(wrong).0;
        let places: Vec<_> =
            problems.iter().filter_map(|it| it.mark.map(|mark| (mark.line, mark.column))).collect();
        assert_eq!(places, expected, "{wrong}: {problems:#?}");
    }
}

/// Of an item with an unknown field in the place of a needed one: the field, and the item.
fn continue_at(text: &str, part: &str) -> Vec<(usize, usize)> {
    vec![found(text, part), found(text, part)]
}

#[test]
fn a_syntax_error_says_where_and_nothing_that_is_not_true() {
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    let texts = [
        (format!("{RIGHT}---\na: ["), None),
        (RIGHT.replacen("tokens: 2000000000", "tokens: \"2", 1), None),
        (RIGHT.replacen("kind: TrainingRun", "kind: TrainingRun: x", 1), Some(2)),
        (format!("{run}  x: {{\n---\n{island}"), None),
        (RIGHT.replacen("  minMemory", "\tminMemory", 1), Some(24)),
        ("{\"a\": 1\n".into(), None),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\n".into(), Some(2)),
        ("a: {{ .Values.x }}".into(), Some(1)),
        ("a: *unknown".into(), Some(1)),
        ("a: &x [*x]".into(), None),
        ("a: 1\nb: \"\u{7}\"\n".into(), Some(2)),
        (RIGHT.replacen("tokens: 2000000000", "tokens:2000000000", 1), Some(7)),
        (RIGHT.replacen("tokens: 2000000000", "tokens = 2000000000", 1), Some(7)),
        (RIGHT.replacen("{preset: llama-160m}", "{preset: llama-160m", 1), Some(5)),
        (RIGHT.replacen("path: /data/corpus", "path: '/data/corpus", 1), Some(6)),
        ("{\"apiVersion\": \"v1\", \"kind\": \"X\"}\n{\"b\": [".into(), None),
        ("a: .inf".into(), Some(1)),
        ("a: 1\nb: [-.INF, .nan]".into(), Some(2)),
    ];
    for (text, line) in texts {
        let problems = read(&text).expect_err(&text).0;
        let [problem] = &problems[..] else { panic!("one problem: {problems:#?}") };
        assert!(problem.message.starts_with("this is not YAML: "), "{problem}");
        if let Some(line) = line {
            assert_eq!(problem.mark.map(|mark| mark.line), Some(line), "{problem}");
        }
    }
    let cut = RIGHT.replacen("kind: TrainingRun", "kind: TrainingRun: x", 1);
    assert_eq!(place(&cut).0, 2);
}

#[test]
fn what_others_read_is_passed_over_with_a_word() {
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: corpus}\n";
    let pool = "apiVersion: heteroloco.dev/v1alpha1\nkind: IslandPool\nmetadata: {name: all}\n";
    let text = format!("{claim}---\n{RIGHT}---\n{pool}");
    let manifests = read(&text).expect("right");
    let right = read(RIGHT).expect("right");
    assert_eq!(manifests.islands, right.islands);
    let note = "run.yaml: passed over: PersistentVolumeClaim corpus, IslandPool all";
    assert_eq!((manifests.notes, manifests.passed_over), (right.notes, vec![note.to_owned()]));
    let alone = problems(claim);
    assert_eq!(alone.len(), 2, "{alone:?}");
    assert!(alone[0].ends_with("(run.yaml: passed over: PersistentVolumeClaim corpus)"));
    let many: String =
        (0..9).map(|i| claim.replace("corpus", &format!("c{i}")) + "---\n").collect();
    let notes = read(&(many + RIGHT)).expect("right").passed_over;
    assert!(notes[0].ends_with("PersistentVolumeClaim c3 and 5 more"), "{notes:?}");
}

#[test]
fn lists_are_read_as_what_stands_in_them() {
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    let item = |text: &str| {
        let mut lines = text.lines().enumerate();
        lines.by_ref().fold(String::new(), |all, (i, line)| {
            all + if i == 0 { "- " } else { "  " } + line + "\n"
        })
    };
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item(run), item(island));
    assert_eq!(read(&list), read(RIGHT));
    let wrong = list.replacen("24Gi", "24GB", 1);
    assert_eq!(place(&wrong), found(&wrong, "memory: 24GB"));
    let nested = format!("kind: List\napiVersion: v1\nitems: [{}]", json(&list));
    assert_eq!(read(&nested), read(RIGHT));
    let empty = problems("apiVersion: v1\nkind: List\nitems: []");
    assert!(empty[0].starts_with("no TrainingRun in these files"), "{empty:?}");
    let odd = problems("apiVersion: v1\nkind: List\nitems: 7");
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert!(odd[0].contains("items: has to be a list of resources"), "{odd:?}");
}

/// A YAML document as JSON on a line.
fn json(yaml: &str) -> String {
    let value: serde_json::Value = serde_yaml::from_str(yaml).expect(yaml);
    value.to_string()
}

#[test]
fn json_is_read_one_value_after_another() {
    let (run, island) = RIGHT.split_once("---\n").expect("two documents");
    let (run, island) = (json(run), json(island));
    for text in [
        format!("{run}\n{island}\n"),
        format!("{run}{island}"),
        format!("\u{feff}{run}\r\n\r\n{island}"),
        format!("{run}\n---\n{island}"),
        format!("{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{run}, {island}]}}"),
        format!("{}\n{island}", run.replacen("{", "{\"status\": {\"x\": \"\\ud83d\\ude00\"},", 1)),
    ] {
        assert_eq!(read(&text), read(RIGHT), "{text}");
    }
    let wrong = format!("{run}\n  {}", island.replacen("24Gi", "24GB", 1));
    assert_eq!(place(&wrong), found(&wrong, "\"memory\":\"24GB\""));
    assert!(problems("[1, 2]")[0].contains("no apiVersion and no kind is not known"));
}

#[test]
fn texts_are_read_however_they_are_written() {
    let merged = RIGHT.replacen(
        "  sparseLoCo: {innerSteps: auto, topK: 64, valueBits: 2,",
        "  sparseLoCo: {<<: *common, topK: 64,",
        1,
    );
    let merged = merged.replacen(
        "---\n",
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n",
        1,
    );
    let merged = merged.replacen(
        "metadata: {name: mini}",
        "metadata: {name: mini}\nstatus: {x: &common {innerSteps: auto, topK: 3, valueBits: 2}}",
        1,
    );
    let plain = read(RIGHT).expect("right");
    assert_eq!(read(&merged).expect("merge keys").run, plain.run);
    for text in [
        RIGHT.replace('\n', "\r\n"),
        format!("\u{feff}{RIGHT}"),
        RIGHT.replace("---\n", "---\n\u{feff}"),
        format!("%YAML 1.1\n---\n{RIGHT}"),
        format!("# comment\n---\n{RIGHT}\n...\n"),
        RIGHT.replace("parallelism: {}", "parallelism:\n  pipeline: # later\n"),
        RIGHT.replace("parallelism: {}", "parallelism: {tensor: null, data: ~}"),
        RIGHT.replace("count: 2", "count: &n 2\n      memory: null"),
        RIGHT.replace("tokens: 2000000000", "? tokens\n  : 2000000000"),
        RIGHT.replace("grace: 30s", "grace: '30s'"),
    ] {
        assert_eq!(read(&text).map_err(|it| it.to_string()), Ok(plain.clone()), "{text}");
    }
    let brought = merged.replacen("valueBits: 2", "valueBits: 7", 1);
    let (line, _) = place(&brought);
    assert_eq!(line, found(&brought, "valueBits: 7").0);
}

#[test]
fn texts_that_would_fill_the_memory_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let before = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 10].join(", "));
    }
    let wide = format!("a: &a [{}]\nb: [{}]\n", "1, ".repeat(2000), "*a, ".repeat(2000));
    let deep = "[".repeat(100_000);
    let long = format!("# {}\n", "x".repeat(crate::TEXT_MAX));
    for (text, part) in [
        (bomb, "repetition limit exceeded: use fewer aliases"),
        (wide, "use fewer aliases: with these written out there are more"),
        (deep, "recursion limit exceeded"),
        (long, "bytes are more than 4194304: give the file of the run and its islands alone"),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(part), "{found:?}");
    }
}

#[test]
fn a_field_in_the_wrong_place_is_told_its_right_one() {
    let cases = [
        ("tokens: 2000000000", "tokens: 1\n  learningRate: \"1\"", "it belongs to spec.optimizer"),
        ("tokens: 2000000000", "tokens: 1\n  hidden_size: 1", "it belongs to spec.model.config"),
        ("tokens: 2000000000", "tokens: 1\n  everyRounds: 1", "spec.checkpoint or spec.evaluation"),
        ("  parallelism: {}", "  tflops: '1'", "it belongs to spec.devices[…]"),
        ("  parallelism: {}", "  gpus: 2", "unknown field; the fields here are devices, idle"),
        ("---", "suspend: true\n---", "it belongs to spec: indent it"),
    ];
    for (right, wrong, part) in cases {
        let found = problems(&RIGHT.replacen(right, wrong, 1));
        assert!(found.len() == 1 && found[0].contains(part), "{part}\n got {found:#?}");
    }
}
