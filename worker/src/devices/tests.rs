//! Plans that contradict themselves, who owns which device, and which of several failures is told.

use std::time::Duration;

use collective::CommError;
use plan::model::LlamaConfig;
use plan::spec::{
    BatchSpec, CardSpec, PipelineCompression, Precision, RankSpec, Sharding, StageSpec,
};

use super::*;

fn model() -> Llama {
    let config = LlamaConfig {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: Some(64),
        vocab_size: 200,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: true,
        initializer_range: 0.2,
    };
    config.validate().unwrap()
}

const CPU: DeviceSpec = DeviceSpec::Cpu { threads: 1, speed: 1.0 };

fn cuda(index: u32) -> DeviceSpec {
    DeviceSpec::Cuda { index, precision: Precision::F32 }
}

/// Two stages of two layers, `tensor` ways, a replica for each of `batches`.
fn island(tensor: u32, batches: &[(u32, u32)], ranks: &[&[DeviceSpec]]) -> IslandSpec {
    let card = |device: &DeviceSpec| CardSpec {
        product: "any".into(),
        device: *device,
        memory_bytes: 1,
        planned_bytes: 1,
    };
    let rank = |devices: &&[DeviceSpec]| RankSpec {
        node: None,
        devices: devices.iter().map(card).collect(),
    };
    let batch =
        |(count, size): &(u32, u32)| BatchSpec { micro_batches: *count, micro_batch_size: *size };
    IslandSpec {
        name: "island".into(),
        index: 0,
        epoch: 1,
        inner_steps: 1,
        tokens_per_second: 1.0,
        sharding: Sharding {
            tensor,
            stages: vec![StageSpec { layers: 2, recompute: false }; 2],
            compression: None,
        },
        batches: batches.iter().map(batch).collect(),
        ranks: ranks.iter().map(rank).collect(),
    }
}

#[test]
fn plans_that_fit_are_taken_however_their_devices_are_given_to_ranks() {
    type Case<'a> = (u32, &'a [(u32, u32)], &'a [&'a [DeviceSpec]]);
    let table: [Case<'_>; 5] = [
        (1, &[(1, 1)], &[&[CPU, CPU]]),
        (1, &[(1, 1)], &[&[CPU], &[CPU]]),
        (2, &[(1, 1)], &[&[CPU, CPU, CPU], &[CPU]]),
        (1, &[(4, 1), (1, 2)], &[&[cuda(0), cuda(1)], &[cuda(0), cuda(1)]]),
        (1, &[(1, 1)], &[&[cuda(3), CPU]]),
    ];
    for (tensor, batches, ranks) in table {
        let island = island(tensor, batches, ranks);
        check(&model(), &island).unwrap_or_else(|error| panic!("{ranks:?}: {error}"));
    }
}

#[test]
fn plans_that_cannot_be_are_refused_by_what_is_wrong_with_them() {
    let two: &[&[DeviceSpec]] = &[&[CPU], &[CPU]];
    let table: [(IslandSpec, &str); 9] = [
        (island(1, &[(0, 1)], two), "a replica has no sequences"),
        (island(1, &[(1, 0)], two), "a replica has no sequences"),
        (island(1, &[(1, 1)], &[&[CPU]]), "1 devices for 2 positions"),
        (island(1, &[(1, 1)], &[&[CPU, CPU, CPU]]), "3 devices for 2 positions"),
        (island(1, &[], &[]), "0 devices for 0 positions"),
        (island(1, &[(1, 1)], &[&[CPU, CPU], &[]]), "2 devices for 2 positions"),
        (island(1, &[(1, 1)], &[&[cuda(1), cuda(1)]]), "one CUDA device at two positions"),
        (island(0, &[(1, 1)], two), "does not fit the model"),
        (island(3, &[(1, 1)], two), "does not fit the model"),
    ];
    for (island, said) in table {
        let error = check(&model(), &island).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains(said), "{said}: {text}");
        assert_eq!(error.exit_code(), contract::exit::EXIT_CONFIG, "{said}");
    }
    let mut alone = island(1, &[(1, 1)], &[&[CPU]]);
    alone.sharding = Sharding::whole(4);
    alone.sharding.compression = Some(PipelineCompression { rank: 8 });
    let text = check(&model(), &alone).unwrap_err().to_string();
    assert!(text.contains("one stage has nothing to compress"), "{text}");
}

#[test]
fn devices_belong_to_ranks_in_their_order_and_each_connection_takes_a_free_port() {
    let island = island(2, &[(1, 1)], &[&[CPU], &[CPU, CPU], &[CPU]]);
    for (rank, listen, expected) in [
        (1, "10.0.0.7:7000", "10.0.0.7:0"),
        (0, "[fe80::1]:7000", "[fe80::1]:0"),
        (2, "lab:0", "lab:0"),
    ] {
        let place = place(rank, &island, listen).unwrap();
        assert_eq!((&place.owners[..], place.rank), (&[0, 1, 1, 2][..], rank));
        assert_eq!(place.listen, expected);
        assert_eq!(place.grid, Grid { data: 1, stages: 2, tensor: 2 });
    }
}

/// What kind of failure is told of these.
fn told(results: Vec<Result<u32, ModelError>>) -> String {
    match first_cause(results) {
        Ok(all) => format!("{all:?}"),
        Err(error) => crate::error::chain(&error),
    }
}

#[test]
fn of_several_failures_the_cause_is_told_and_not_what_followed_from_it() {
    let gone = || Err(ModelError::Peers(PeerError::Gone { operation: "sum" }));
    let late = || {
        let wait = Duration::from_secs(1);
        Err(ModelError::Peers(PeerError::Late { operation: "wait", wait }))
    };
    let lost = || Err(ModelError::Peers(PeerError::Group(CommError::PeerLost { rank: 7 })));
    let own = |part| Err(ModelError::Stage(part));
    assert_eq!(told(vec![Ok(1), Ok(2)]), "[1, 2]");
    assert_eq!(told(vec![]), "[]");
    let table = [
        (vec![gone(), own("head"), lost()], "the head"),
        (vec![late(), lost(), gone()], "rank 7"),
        (vec![Ok(1), gone(), Ok(2)], "failed to sum"),
        (vec![late(), gone()], "failed to wait"),
        // Of equal ones the first.
        (vec![Ok(1), own("embedding"), own("head")], "the embedding"),
        (vec![Err(ModelError::Interrupted), own("head")], "asked to stop"),
    ];
    for (results, part) in table {
        let text = told(results);
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn sums_of_devices_are_added_in_their_order_in_f64() {
    let sums = [(1e16, 1.0), (1.0, 2.0), (-1e16, 3.0)];
    let all: Vec<Sums> =
        sums.iter().map(|(loss, squares)| Sums::of(*loss, *squares).unwrap()).collect();
    // 1e16 + 1 is 1e16: another order would give 1.
    assert_eq!(add_up(&all).unwrap().read().unwrap(), [0.0, 6.0]);
    assert_eq!(add_up(&[]).unwrap().read().unwrap(), [0.0, 0.0]);
    let nan = [Sums::of(1.0, f64::NAN).unwrap(), Sums::of(1.0, 1.0).unwrap()];
    let [loss, squares] = add_up(&nan).unwrap().read().unwrap();
    assert!(loss == 2.0 && squares.is_nan());
}

#[test]
fn errors_of_the_group_stay_such_on_their_way_through_the_member() {
    let lost = theta_error(RunError::Group(CommError::PeerLost { rank: 2 }));
    assert!(matches!(lost, ThetaError::Group(CommError::PeerLost { rank: 2 })));
    let ThetaError::Other(other) = theta_error(ModelError::Stage("head")) else { panic!("lost") };
    let own = other.downcast_ref::<RunError>().expect("what it was");
    assert!(matches!(own, RunError::Model(ModelError::Stage("head"))), "{own}");
}
