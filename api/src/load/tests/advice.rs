//! That what a sentence says to write is taken: bad documents are read, the sentences followed to
//! the letter, and the documents read again.

use super::*;

/// What a line of RIGHT was replaced by; each is refused with advice.
const MISTAKES: &[(&str, &str)] = &[
    // Numbers and words where text is wanted.
    ("grace: 30s", "grace: 30"),
    ("grace: 30s", "grace: 0"),
    ("grace: 30s", "grace: 1.5"),
    ("grace: 30s", "grace: true"),
    ("deadline: 25m", "deadline: 1500"),
    ("cooldown: 10m", "cooldown: 600"),
    ("60%", "60"),
    ("60%", "0.6"),
    ("60%", "1"),
    ("60%", "250"),
    ("60%", "false"),
    ("\"3e-4\"", "3e-4"),
    ("\"3e-4\"", "0.0003"),
    ("\"3e-4\"", ".5"),
    ("\"3e-4\"", "3E-4"),
    ("\"0.1\"", "1"),
    ("memory: 24Gi", "memory: 24"),
    ("memory: 24Gi", "memory: 24.5"),
    ("memory: 24Gi", "memory: 24576"),
    ("200Gi", "200"),
    ("up: 110M", "up: 110"),
    ("down: 500M", "down: 1e3"),
    ("parallelism: {}", "startDeadline: 600"),
    ("memory: 24Gi", "tflops: 330"),
    ("memory: 24Gi", "costPerHour: 1.50"),
    ("zone: lab-a", "zone: 1.10"),
    ("zone: lab-a", "zone: true"),
    ("zone: lab-a", "zone: 0x1F"),
    ("zone: lab-a", "zone: null"),
    ("tokenizer: byte", "tokenizer: 5"),
    ("path: /checkpoints", "path: 2026"),
    ("product: NVIDIA-GeForce-RTX-3090", "product: 3090"),
    // Texts of another form.
    ("grace: 30s", "grace: \"30\""),
    ("grace: 30s", "grace: 30 s"),
    ("grace: 30s", "grace: 30sec"),
    ("deadline: 25m", "deadline: 0.5 hours"),
    ("deadline: 25m", "deadline: 1d"),
    ("deadline: 25m", "deadline: soon"),
    ("deadline: 25m", "deadline: PT25M"),
    ("60%", "60 %"),
    ("60%", "\"60\""),
    ("60%", "\"0.6\""),
    ("60%", "most"),
    ("\"3e-4\"", "\"3,5\""),
    ("\"3e-4\"", "5%"),
    ("\"3e-4\"", "1_000.5"),
    ("\"3e-4\"", "fast"),
    ("memory: 24Gi", "memory: \"24\""),
    ("memory: 24Gi", "memory: \"24576\""),
    ("memory: 24Gi", "memory: \"0\""),
    ("memory: 24Gi", "memory: 24GB"),
    ("memory: 24Gi", "memory: 24 GiB"),
    ("memory: 24Gi", "memory: 24g"),
    ("memory: 24Gi", "memory: 24k"),
    ("memory: 24Gi", "memory: much"),
    ("200Gi", "0.2"),
    ("up: 110M", "up: 110Mbit/s"),
    ("up: 110M", "up: \"110\""),
    ("up: 110M", "up: \"0\""),
    // Whole numbers.
    ("tokens: 2000000000", "tokens: 1e9"),
    ("tokens: 2000000000", "tokens: 2.0"),
    ("tokens: 2000000000", "tokens: 1_000_000"),
    ("tokens: 2000000000", "tokens: 2,000,000"),
    ("tokens: 2000000000", "tokens: \"2000000000\""),
    ("tokens: 2000000000", "tokens: 2B"),
    ("tokens: 2000000000", "tokens: 2.5G"),
    ("tokens: 2000000000", "tokens: 0100"),
    ("topK: 64", "topK: '64'"),
    ("topK: 64", "topK: 6.4e1"),
    ("overlap: 0", "overlap: 1"),
    ("overlap: 0", "chunk: 64"),
    ("overlap: 0", "chunk: 4096.0"),
    ("innerSteps: auto", "innerSteps: Auto"),
    ("innerSteps: auto", "innerSteps: \"30\""),
    ("innerSteps: auto", "innerSteps: 3e1"),
    ("innerSteps: auto", "innerSteps: 30.0"),
    ("valueBits: 2", "valueBits: \"2\""),
    ("tokens: 2000000000", "tokens: 2000000000\n  batch: {sequenceLength: 4096}"),
    // Counts.
    ("count: {min: 0, max: 8}", "count: [1, 2]"),
    ("count: {min: 0, max: 8}", "count: 0-8"),
    ("count: {min: 0, max: 8}", "count: 0..8"),
    ("count: {min: 0, max: 8}", "count: {min: 9, max: 8}"),
    ("count: {min: 0, max: 8}", "count: {min: 2}"),
    ("count: {min: 0, max: 8}", "count: {}"),
    ("count: {min: 0, max: 8}", "count: {min: 0, maximum: 8}"),
    ("max: 8", "max: \"8\""),
    ("max: 8", "max: 8.0"),
    ("count: 2", "count: \"2\""),
    ("count: 2", "count: 2.0"),
    // Choices.
    ("policy: Harvest", "policy: harvest"),
    ("preset: llama-160m", "preset: Llama160M"),
    ("overlap: 0", "rule: Paper"),
    ("parallelism: {}", "objective: Per_Watt"),
    ("parallelism: {}", "objective: throughput"),
    ("parallelism: {}", "pipeline: {recompute: yes}"),
    ("parallelism: {}", "pipeline: {recompute: \"true\"}"),
    ("parallelism: {}", "pipeline: {recompute: 1}"),
    ("parallelism: {}", "suspend: off"),
    // Groups and lists.
    ("model: {preset: llama-160m}", "model: llama-160m"),
    ("data: {path: /data/corpus, tokenizer: byte}", "data: /data/corpus"),
    ("runRef: {name: mini}", "runRef: mini"),
    ("parallelism: {}", "tolerations: {key: a, operator: Exists}"),
    ("parallelism: {}", "tolerations: [{effect: NoSchedule}]"),
    ("parallelism: {}", "tolerations: [{operator: Exists, key: a, value: b}]"),
    ("parallelism: {}", "tolerations: [{key: a, value: 1}]"),
    (
        "matchLabels: {topology",
        "matchExpressions: {key: a, operator: Exists}, matchLabels: {topology",
    ),
    (
        "{matchLabels: {topology.kubernetes.io/zone: lab-a}}",
        "{matchExpressions: [{key: a, operator: In, values: b}]}",
    ),
    (
        "{matchLabels: {topology.kubernetes.io/zone: lab-a}}",
        "{matchExpressions: [{key: a, operator: in, values: [1.10]}]}",
    ),
    (
        "{matchLabels: {topology.kubernetes.io/zone: lab-a}}",
        "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
    ),
    ("{matchLabels: {topology.kubernetes.io/zone: lab-a}}", "{disktype: ssd}"),
    ("{matchLabels: {topology.kubernetes.io/zone: lab-a}}", "{nvidia.com/gpu.count: 8}"),
    // Names.
    ("{name: lab-a}", "{name: 123}"),
    ("{name: lab-a}", "{name: 1.50}"),
    ("{name: lab-a}", "{name: Lab_A}"),
    ("{name: lab-a}", "{name: true}"),
    ("{name: lab-a}", "{name: lab-a, labels: {team: 7}}"),
    ("{name: lab-a}", "{name: lab-a, annotations: {note: null}}"),
    ("{name: lab-a}", "{name: lab-a, namespace: ML}"),
    ("{name: lab-a}", "{Name: lab-a}"),
    ("{name: lab-a}", "{name: lab-a, lables: {a: b}}"),
    // Fields.
    ("tokens: 2000000000", "token: 2000000000"),
    ("learningRate", "learning_rate"),
    ("learningRate", "learninRate"),
    ("warmupSteps", "warmup_steps"),
    ("  minMemory: 200Gi", "  MinMemory: 200Gi"),
    ("spec:\n  model", "Spec:\n  model"),
    ("metadata: {name: mini}", "metaData: {name: mini}"),
    ("metadata: {name: mini}", "metadata: {name: mini}\nsuspend: true"),
    ("everyRounds", "every-rounds"),
    ("  tokens: 2000000000", "  tokens: 2000000000\n  tokens: 1"),
    ("apiVersion: heteroloco.dev/v1alpha1\nkind: TrainingRun", "kind: TrainingRun"),
    ("heteroloco.dev/v1alpha1\nkind: TrainingRun", "heteroloco.dev/v1\nkind: TrainingRun"),
    ("heteroloco.dev/v1alpha1\nkind: TrainingRun", "v1\nkind: TrainingRun"),
    ("kind: TrainingRun", "kind: Trainingrun"),
    ("kind: ComputeIsland", "kind: computeIslands"),
    ("  minMemory: 200Gi", "  minMemory: !bytes 200Gi"),
    // What is no YAML.
    ("  tokens: 2000000000", "\ttokens: 2000000000"),
    ("  tokens: 2000000000", "  \ttokens: 2000000000"),
    ("  tokens: 2000000000", "  tokens:\u{a0}2000000000"),
    ("  tokens: 2000000000", "\u{a0}\u{a0}tokens: 2000000000"),
    ("path: /data/corpus", "path: @data"),
    ("path: /data/corpus", "path: `pwd`"),
    ("tokenizer: byte", "tokenizer: %x"),
    ("  tokens: 2000000000", "  tokens:2000000000"),
    ("  tokens: 2000000000", "  tokens = 2000000000"),
    ("metadata: {name: mini}", "metadata: mini"),
    ("uplink: {up: 110M, down: 500M}", "uplink: 1G"),
    ("memory: 24Gi", "memory: 25769803776"),
    ("up: 110M", "up: 110000000"),
    ("grace: 30s", "grce: 30"),
];

#[test]
fn what_a_sentence_says_to_write_is_taken_when_it_is_written() {
    let (mut sentences, mut wrong) = (0, Vec::new());
    for (right, mistake) in MISTAKES {
        assert!(RIGHT.contains(right), "{right}");
        let text = RIGHT.replacen(right, mistake, 1);
        let found = read(&text).expect_err(mistake).0;
        let rounds = found.iter().map(|problem| advice(problem).len()).max().unwrap_or(0);
        if rounds == 0 {
            wrong.push(format!("{mistake}: no advice in {found:#?}"));
        }
        for round in 0..rounds {
            let mut followed = text.clone();
            // From the end, so that the places of the others stay true.
            let mut ordered: Vec<&Problem> = found.iter().collect();
            ordered.sort_by_key(|problem| problem.mark.map(|mark| (mark.line, mark.column)));
            for problem in ordered.into_iter().rev() {
                let all = advice(problem);
                match all.get(round.min(all.len().saturating_sub(1))) {
                    Some(advice) => followed = follow(&followed, problem, advice),
                    None => wrong.push(format!("{mistake}: no advice in {problem}")),
                }
            }
            sentences += 1;
            if let Err(problems) = read(&followed) {
                wrong.push(format!("{mistake}: {found:#?}\n led to {problems}\n in {followed}"));
            }
        }
    }
    let share = 100.0 * (sentences - wrong.len().min(sentences)) as f64 / sentences as f64;
    println!("figure inputs.advice_true {share:.1} %");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Something that a sentence says to do.
#[derive(Clone, Debug)]
enum Advice {
    /// Write this in place of the value.
    Value(String),
    /// Write this in place of the field's name.
    Name(String),
    /// Write this in place of name and value.
    Field(String),
    /// Write this into a group, too.
    Insert(String),
    /// Write this line in place of the one with its key, or first.
    Line(String),
    Brackets,
    LeaveOut,
    Indent,
    Tag,
    Spaces,
    Space,
    Quotes,
}

fn advice(problem: &Problem) -> Vec<Advice> {
    let text = &problem.message;
    let backticked =
        text.split("write").skip(1).flat_map(|part| part.split('`').skip(1).step_by(2));
    let mut all: Vec<Advice> = backticked
        .map(|what| match what.split_once(": ") {
            Some(("apiVersion" | "kind", _)) => Advice::Line(what.into()),
            Some(("matchLabels", _)) => Advice::Field(what.into()),
            Some(("operator", _)) => Advice::Insert(what.into()),
            Some(("tokens", _)) => Advice::Line(what.into()),
            _ if text.contains("in its place") => Advice::Name(what.into()),
            _ => Advice::Value(what.into()),
        })
        .collect();
    let words = [
        ("in [ ]", Advice::Brackets),
        ("the tag", Advice::Tag),
        ("leave them out", Advice::LeaveOut),
        ("leave it out", Advice::LeaveOut),
        ("leave one out", Advice::LeaveOut),
        ("it belongs to spec: indent it", Advice::Indent),
        ("write spaces in its place", Advice::Spaces),
        ("write an ordinary one", Advice::Space),
        ("has to stand in quotes", Advice::Quotes),
    ];
    if all.is_empty() {
        all.extend(words.into_iter().find(|(word, _)| text.contains(word)).map(|(_, it)| it));
    }
    all
}

fn follow(text: &str, problem: &Problem, advice: &Advice) -> String {
    let mark = problem.mark.unwrap_or_else(|| panic!("no place: {problem}"));
    let line = text.lines().nth(mark.line - 1).expect("a line");
    let start: usize = text.split_inclusive('\n').take(mark.line - 1).map(str::len).sum();
    let here = start + line.char_indices().nth(mark.column - 1).map_or(line.len(), |(at, _)| at);
    let is_item = problem.path.ends_with(']') || problem.path.is_empty();
    let name_end = match is_item {
        true => here,
        false => here + text[here..].find(':').expect("a field"),
    };
    let value = if is_item { here } else { name_end + 2 };
    let end = || value + value_length(&text[value..]);
    let put =
        |from: usize, to: usize, what: &str| format!("{}{what}{}", &text[..from], &text[to..]);
    let line_end = start + line.len();
    match advice {
        Advice::Value(what) => put(value, end(), what),
        Advice::Name(what) => put(here, name_end, what),
        Advice::Field(what) => put(here, end(), what),
        Advice::Insert(what) => put(here + 1, here + 1, &format!("{what}, ")),
        Advice::Line(what) => {
            let key = what.split(':').next().expect("a key");
            if line.trim_start().starts_with("tokens") {
                return put(here, line_end, what);
            }
            let end = here + text[here..].find("spec:").expect("a spec");
            let old = text[here..end].lines().find(|line| line.starts_with(key));
            match old {
                Some(old) => put(here, end, &text[here..end].replacen(old, what, 1)),
                None => put(here, here, &format!("{what}\n")),
            }
        }
        Advice::Brackets => put(value, end(), &format!("[{}]", &text[value..end()])),
        Advice::Tag => put(here, here + text[here..].find(' ').expect("a tag") + 1, ""),
        Advice::LeaveOut if line.trim_start().contains(['{', ',']) => {
            let from = text[..here].trim_end_matches([',', ' ']).len();
            put(from, here + (end() - here), "")
        }
        Advice::LeaveOut => put(start, line_end, ""),
        Advice::Indent => {
            let field = line.to_owned() + "\n";
            let without = put(start, line_end + 1, "");
            without.replacen("spec:\n", &format!("spec:\n  {field}"), 1)
        }
        Advice::Spaces => put(start, line_end, &line.replace('\t', "  ").replace("    ", "  ")),
        Advice::Space => put(start, line_end, &line.replace('\u{a0}', " ")),
        Advice::Quotes => {
            let end = here + value_length(&text[here..]);
            put(here, end, &format!("{:?}", &text[here..end]))
        }
    }
}

/// Bytes of the value that a text begins with.
fn value_length(text: &str) -> usize {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if at == 0 => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, ',' | '}' | ']' | '\n') if depth == 0 => {
                // A comma between digits is one of a number, outside of brackets.
                let digits = text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
                if c == ',' && digits {
                    continue;
                }
                return at;
            }
            (None, '}' | ']') => depth -= 1,
            _ => {}
        }
    }
    text.len()
}
