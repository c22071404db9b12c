//! Which rank checks the data, and what is said of data that does not fit the run.

use plan::spec::{CardSpec, DeviceSpec, RankSpec};

use super::tests::{corpus, options};
use super::*;

fn spec(nodes: &[Option<&str>]) -> WorkerSpec {
    let mut spec: WorkerSpec = serde_json::from_value(crate::testing::spec()).expect("a spec");
    let device = DeviceSpec::Cpu { threads: 1, speed: 1.0 };
    let card = CardSpec { product: "any".into(), device, memory_bytes: 1, planned_bytes: 1 };
    let rank = |node: &Option<&str>| RankSpec {
        node: node.map(str::to_string),
        devices: vec![card.clone()],
    };
    spec.island.ranks = nodes.iter().map(rank).collect();
    spec
}

#[test]
fn one_rank_of_each_node_checks_the_data_and_the_others_do_not() {
    let table: [(&[Option<&str>], &[bool]); 4] = [
        (&[None], &[true]),
        // All of them are processes of this machine.
        (&[None, None, None], &[true, false, false]),
        (
            &[Some("a"), Some("b"), Some("a"), Some("b"), Some("c")],
            &[true, true, false, false, true],
        ),
        (&[Some("a"), None, Some("a"), None], &[true, true, false, false]),
    ];
    for (nodes, checks) in table {
        let spec = spec(nodes);
        let found: Vec<bool> =
            (0..nodes.len() as u32).map(|rank| TextOptions::of(&spec, rank).checks).collect();
        assert_eq!(found, checks, "{nodes:?}");
    }
}

#[test]
fn a_rank_reads_what_its_run_says() {
    let spec = spec(&[None]);
    let options = TextOptions::of(&spec, 0);
    assert_eq!(options.folder, Path::new("texts"));
    assert_eq!((options.vocab_size, options.seed, options.sequence_length), (300, 5, 16));
}

#[test]
fn data_that_does_not_fit_the_run_is_refused_with_what_to_change() {
    let (_folder, out) = corpus();
    let said = |options: TextOptions<'_>| {
        let error = Text::open(&options).expect_err("refused");
        (crate::error::chain(&error), error.exit_code())
    };
    let table = [
        (TextOptions { vocab_size: 256, ..options(&out) }, "set vocab_size to at least 257"),
        (TextOptions { sequence_length: 0, ..options(&out) }, "at least one token"),
        (TextOptions { sequence_length: 100_000, ..options(&out) }, "prepare more data"),
    ];
    for (options, part) in table {
        let (text, code) = said(options);
        assert!(text.contains(part) && code == contract::exit::EXIT_CONFIG, "{part}: {text}");
    }
}

#[test]
fn samples_are_read_in_both_ways_of_checking_alike_and_none_beyond_the_end() {
    let (_folder, out) = corpus();
    let small = Text::open(&options(&out)).expect("whole data");
    let large = Text::open(&TextOptions { checked_first: 0, ..options(&out) }).expect("whole data");
    for position in [0, 1, small.windows() - 1, small.windows(), 1 << 40] {
        let (mut a, mut b) = ([0; 17], [1; 17]);
        small.sample(position, &mut a).expect("a sample");
        large.sample(position, &mut b).expect("a sample");
        assert_eq!(a, b, "{position}");
        assert!(a.iter().all(|token| *token < 257), "{a:?}");
    }
    let tokens = small.tokens(Split::Train);
    let error = small.read(Split::Train, tokens - 16, &mut [0; 17]).expect_err("beyond the end");
    assert!(matches!(error, CorpusError::Range { .. }) && error.is_final(), "{error}");
    assert_eq!(small.tokenizer().expect("its own").vocab_size(), 257);
}

#[test]
fn every_window_comes_once_before_any_comes_again() {
    let (_folder, out) = corpus();
    let text = Text::open(&options(&out)).expect("whole data");
    let windows = text.windows();
    for epoch in 0..2 {
        let firsts = (0..windows).map(|at| text.sampler.sequence(epoch * windows + at));
        let mut firsts: Vec<u64> = firsts.collect();
        firsts.sort_unstable();
        assert_eq!(firsts, (0..windows).map(|at| at * 16).collect::<Vec<_>>(), "{epoch}");
    }
    let other = Text::open(&TextOptions { seed: 8, ..options(&out) }).expect("whole data");
    let order = |text: &Text| (0..windows).map(|at| text.sampler.sequence(at)).collect::<Vec<_>>();
    assert_ne!(order(&text), order(&other), "another seed is another order");
}
