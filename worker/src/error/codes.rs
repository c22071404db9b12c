//! The exit code of every kind of error, and what is said of it: whoever started the rank decides
//! by the one, people by the other.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use collective::Operation;
use data::{CorpusError, Split};
use tch::{Kind, Tensor};

use super::*;

fn path() -> PathBuf {
    "there".into()
}

fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn groups() -> Vec<(CommError, i32)> {
    let shared = || Arc::new(refused());
    let operation = Operation::AllReduce;
    let detail = || "it does not fit".to_string();
    vec![
        (CommError::Config { detail: detail() }, EXIT_CONFIG),
        (CommError::Argument { operation, detail: detail() }, EXIT_CONFIG),
        (CommError::Listen { address: "a:1".into(), source: shared() }, EXIT_FAILED),
        (CommError::Runtime { source: shared() }, EXIT_FAILED),
        (CommError::PeerLost { rank: 1 }, EXIT_LOST),
        (CommError::Timeout { operation, rank: 1 }, EXIT_LOST),
        (CommError::EpochMismatch { rank: 1, ours: 2, theirs: 3 }, EXIT_LOST),
        (CommError::Protocol { rank: 1, detail: detail() }, EXIT_LOST),
        (CommError::Killed, EXIT_LOST),
    ]
}

#[test]
fn what_the_island_s_ranks_end_with_has_one_code_wherever_it_was_met() {
    for (error, code) in groups() {
        let wrapped: [RunError; 4] = [
            RunError::Group(error.clone()),
            RunError::Model(PeerError::Group(error.clone()).into()),
            MemberError::Group { operation: "agree", source: error.clone() }.into(),
            // As θ's trait hands it back.
            MemberError::Theta(Box::new(RunError::Group(error.clone()))).into(),
        ];
        for run in wrapped {
            assert_eq!(run.exit_code(), code, "{run:?}");
            // The cause is told once, at the end.
            let said = chain(&run);
            assert!(said.contains(&error.to_string()), "{said}");
            assert_eq!(said.matches(&error.to_string()).count(), 1, "{said}");
        }
    }
}

#[test]
fn what_a_device_ends_with_tells_plans_that_never_work_from_peers_and_from_the_rest() {
    let torch = || Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)).f_view([3]).unwrap_err();
    let wait = Duration::from_secs(1);
    let late = PeerError::Late { operation: "sum", wait };
    let message = String::new();
    let config = plan::model::ModelError::OutOfRange { key: "hidden_size", value: 0, max: 1 };
    let table = [
        (ModelError::Config(config), EXIT_CONFIG),
        (ModelError::Shard(plan::shard::ShardError::NoTensor), EXIT_CONFIG),
        (ModelError::TooLong { length: 2, longest: 1 }, EXIT_CONFIG),
        (ModelError::Device { index: 3, count: 0 }, EXIT_CONFIG),
        (ModelError::NoBf16 { index: 0 }, EXIT_CONFIG),
        (ModelError::Interrupted, EXIT_LOST),
        (ModelError::Peers(late), EXIT_LOST),
        (ModelError::Peers(PeerError::Gone { operation: "sum" }), EXIT_LOST),
        (ModelError::Peers(PeerError::Torch { operation: "sum", message }), EXIT_FAILED),
        (ModelError::Stage("head"), EXIT_FAILED),
        (ModelError::Layout("a".into()), EXIT_FAILED),
        (ModelError::Shape { found: 1, batch: 1, length: 1 }, EXIT_FAILED),
        (ModelError::Token { token: 9, vocabulary: 9 }, EXIT_FAILED),
        (ModelError::Torch(torch()), EXIT_FAILED),
        (ModelError::Host(tch_ext::HostError::Strided), EXIT_FAILED),
    ];
    for (error, code) in table {
        let run = RunError::from(error);
        assert_eq!(run.exit_code(), code, "{run:?}");
        assert!(!run.is_unsaved(), "{run:?}");
    }
}

#[test]
fn what_a_plan_says_that_cannot_be_is_never_tried_again() {
    let config = plan::model::ModelError::OutOfRange { key: "hidden_size", value: 0, max: 1 };
    let layout = sparseloco::layout::LayoutError::Empty;
    let codec = sparseloco::CodecParams::new(0, sparseloco::ValueBits::One, 0.5, 0.5).unwrap_err();
    let all: [RunError; 9] = [
        RunError::NoSuchRank { rank: 1, ranks: 1 },
        RunError::SequenceTooLong { sequence: 9, positions: 8 },
        RunError::Config(config),
        RunError::Sharding(plan::shard::ShardError::NoTensor),
        RunError::Positions { devices: 1, positions: 2 },
        RunError::Contradiction("it does"),
        RunError::ValueBits { bits: 3 },
        RunError::Codec(codec),
        RunError::Layout(layout),
    ];
    for error in all {
        assert_eq!(error.exit_code(), EXIT_CONFIG, "{error:?}");
        assert!(chain(&error).starts_with("failed to "), "{error:?}");
    }
}

#[test]
fn samples_that_were_not_allotted_come_with_the_next_start_and_text_that_is_too_short_does_not() {
    let range = CorpusError::Range { split: Split::Train, first: 1, end: 3, tokens: 2 };
    let table = [
        (SamplerError::NotAllotted { sample: 1, samples: 1 }.into(), EXIT_FAILED),
        (SamplerError::NoSequence.into(), EXIT_CONFIG),
        (SamplerError::TooFewTokens { tokens: 1, sequence_length: 8 }.into(), EXIT_CONFIG),
        (RunError::Corpus(range), EXIT_CONFIG),
        (CorpusError::TokenizerMismatch { path: path() }.into(), EXIT_CONFIG),
        (CorpusError::VocabTooSmall { model: 1, tokenizer: 2 }.into(), EXIT_CONFIG),
    ];
    for (error, code) in table {
        assert_eq!(error.exit_code(), code, "{error:?}");
    }
}

#[test]
fn a_run_that_diverged_and_a_device_without_room_have_codes_of_their_own() {
    let source = sparseloco::codec::CompressError::NotFinite { piece: 1, chunk: 2 };
    assert_eq!(RunError::from(MemberError::Compress { round: 3, source }).exit_code(), 5);
    let full = RunError::OutOfMemory {
        device: 1,
        product: "L4".into(),
        planned_bytes: 3 << 30,
        memory_bytes: 24 << 30,
        peak_bytes: 0,
        remedy: "buy another one",
        source: Box::new(RunError::Group(CommError::PeerLost { rank: 1 })),
    };
    assert_eq!(full.exit_code(), 4);
    let said = chain(&full);
    assert!(said.contains("device 1 (L4): the plan expects 3.0 GiB of its 24.0 GiB"), "{said}");
    assert!(
        said.ends_with(
            "buy another one: failed to work with the island's other ranks: \
        failed to reach rank 1: it has gone"
        ),
        "{said}"
    );
}

#[test]
fn what_the_leader_or_the_system_got_wrong_is_tried_again() {
    let json = || serde_json::from_str::<u32>("x").unwrap_err();
    let apply = sparseloco::outer::ApplyError::NoWeight;
    let table = [
        (RunError::Manifest(json()), EXIT_FAILED),
        (RunError::System { operation: "read samples ahead", source: refused() }, EXIT_FAILED),
        (MemberError::Runtime(refused()).into(), EXIT_FAILED),
        (MemberError::Apply { round: 1, source: apply }.into(), EXIT_FAILED),
        (MemberError::Leader(json()).into(), EXIT_LOST),
        (MemberError::Theta("a device".into()).into(), EXIT_FAILED),
    ];
    for (error, code) in table {
        assert_eq!(error.exit_code(), code, "{error:?}");
    }
}

#[test]
fn only_what_all_ranks_know_to_be_unsaved_is_saved_again() {
    let io = || CheckpointError::Io { operation: "write", path: path(), source: refused() };
    let unsaved: [RunError; 4] = [
        io().into(),
        ExportError::Write(io()).into(),
        CorpusError::Hash { path: path() }.into(),
        RunError::PartMissing,
    ];
    assert!(unsaved.iter().all(RunError::is_unsaved), "{unsaved:?}");
    let ended: [RunError; 3] = [
        RunError::Group(CommError::PeerLost { rank: 1 }),
        ModelError::Stage("head").into(),
        RunError::System { operation: "read", source: refused() },
    ];
    assert!(!ended.iter().any(RunError::is_unsaved), "{ended:?}");
}

#[test]
fn a_checkpoint_that_cannot_be_used_says_what_to_do_and_whether_to_try_again() {
    let other =
        CheckpointError::Other { path: path(), what: "seed", there: "1".into(), here: "2".into() };
    let damaged = || CheckpointError::Damaged { path: path(), reason: "cut off".into() };
    let all = CheckpointError::AllDamaged { path: path(), source: Box::new(damaged()) };
    let json = serde_json::from_str::<u32>("x").unwrap_err();
    let manifest = CheckpointError::Manifest { path: path(), source: json };
    let none = CheckpointError::None { path: path() };
    let table = [
        (other, EXIT_CONFIG, "use another checkpoint folder or the run's own manifest"),
        (all, EXIT_CONFIG, "there: cut off"),
        (manifest, EXIT_CONFIG, "it is not a checkpoint's manifest"),
        (damaged(), EXIT_CONFIG, "there: cut off"),
        (none, EXIT_FAILED, "no folder round-… there has a manifest.json"),
    ];
    for (error, code, said) in table {
        let run = RunError::Checkpoint(error);
        assert_eq!(run.exit_code(), code, "{run:?}");
        assert!(chain(&run).contains(said), "{}", chain(&run));
    }
}

/// An error of several lines, as libtorch makes them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(&'static str, #[source] Option<Box<Said>>);

#[test]
fn a_chain_is_one_line_without_the_stack_of_libtorch() {
    let table = [
        ("plain", "plain"),
        ("  first \n\n  second  \n", "first second"),
        ("what\nException raised from f at a.cpp:1 (most recent call first):\nframe #0: g", "what"),
        ("what\nframe #0: f\nframe #1: g\nafter", "what"),
        ("frame #0: f", ""),
        ("a frame #0 within a line stays", "a frame #0 within a line stays"),
    ];
    for (text, expected) in table {
        assert_eq!(chain(&Said(text, None)), expected, "{text:?}");
    }
    let deep = Said("a", Some(Box::new(Said("b\nframe #0: f", Some(Box::new(Said("c", None)))))));
    assert_eq!(chain(&deep), "a: b: c");
    let torch = Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)).f_view([3]).unwrap_err();
    let said = chain(&RunError::from(ModelError::from(torch)));
    assert!(said.contains("shape '[3]' is invalid") && !said.contains("frame #"), "{said}");
    assert!(!said.contains('\n'), "{said}");
}
