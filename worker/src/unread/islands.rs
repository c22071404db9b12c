//! Which islands judge their steps by themselves, and what a reading gives after a failure.

use plan::spec::{BatchSpec, CardSpec, Precision, RankSpec, Sharding};

use super::*;

fn island(ranks: &[&[DeviceSpec]]) -> IslandSpec {
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
    IslandSpec {
        name: "island".into(),
        index: 0,
        epoch: 1,
        inner_steps: 1,
        tokens_per_second: 1.0,
        sharding: Sharding::whole(1),
        batches: vec![BatchSpec { micro_batches: 1, micro_batch_size: 1 }],
        ranks: ranks.iter().map(rank).collect(),
    }
}

const CUDA: DeviceSpec = DeviceSpec::Cuda { index: 0, precision: Precision::Bf16 };
const CPU: DeviceSpec = DeviceSpec::Cpu { threads: 1, speed: 1.0 };

#[test]
fn only_a_lone_card_is_read_a_few_steps_at_a_time() {
    let table: [(&[&[DeviceSpec]], usize, bool); 6] = [
        (&[&[CUDA]], READ_EVERY, true),
        (&[&[CPU]], 1, true),
        (&[&[CUDA, CUDA]], 1, false),
        (&[&[CUDA], &[CUDA]], 1, false),
        (&[&[CPU], &[]], 1, false),
        (&[], 1, false),
    ];
    for (ranks, every, is_alone) in table {
        let island = island(ranks);
        assert_eq!(only_device(&island).is_some(), is_alone, "{ranks:?}");
        let mut unread = Unread::new(&island);
        for step in 0..every as u32 {
            assert!(!unread.is_due(), "{ranks:?}: before step {step}");
            unread.push(step, StepControl::default(), Sums::of(1.0, 1.0).unwrap());
        }
        assert!(unread.is_due(), "{ranks:?}");
    }
}

#[test]
fn the_last_steps_of_a_round_are_read_though_they_are_few() {
    let mut unread = Unread::new(&island(&[&[CUDA]]));
    assert!(unread.read().unwrap().is_empty());
    unread.begin();
    unread.push(7, StepControl::default(), Sums::of(f64::NAN, 2.0).unwrap());
    let read = unread.read().unwrap();
    assert_eq!((read.len(), read[0].step, read[0].control.squares), (1, 7, 2.0));
    assert!(read[0].control.loss_sum.is_nan() && read[0].seconds >= 0.0);
    // Time between two rounds is nobody's.
    unread.push(0, StepControl::default(), Sums::of(1.0, 1.0).unwrap());
    assert_eq!(unread.read().unwrap()[0].seconds, 0.0, "no step has begun");
}
