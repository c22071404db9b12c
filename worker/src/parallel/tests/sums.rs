//! Teams and reducers: the order in which devices are added, and what is left untouched.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// What each device of a process gets of the sum of these tensors.
fn summed(tensors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let meeting = Meeting::new(tensors.len(), None, WAIT);
    let size = tensors.len();
    thread::scope(|scope| {
        let devices = tensors.iter().enumerate().map(|(index, values)| {
            let team = Team::new(&meeting, index, index, size);
            scope.spawn(move || {
                let mut tensor = Tensor::from_slice(values);
                team.sum(&mut tensor).unwrap();
                super::values(&tensor)
            })
        });
        let devices: Vec<_> = devices.collect();
        devices.into_iter().map(|device| device.join().unwrap()).collect()
    })
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn devices_are_added_in_their_order_whoever_comes_first(
        tensors in (1usize..5).prop_flat_map(|size| vec(vec(-1e6f32..1e6, 3), size)),
    ) {
        // Each addition rounds: another order would have other bits.
        let mut expected = tensors[0].clone();
        for tensor in &tensors[1..] {
            expected.iter_mut().zip(tensor).for_each(|(sum, value)| *sum += value);
        }
        for found in summed(&tensors) {
            prop_assert_eq!(&found, &expected);
        }
    }
}

#[test]
fn a_team_of_one_keeps_what_it_has() {
    assert_eq!(summed(&[vec![1.0, f32::NEG_INFINITY]]), [[1.0, f32::NEG_INFINITY]]);
}

#[test]
fn a_value_that_is_no_number_reaches_every_device() {
    let found = summed(&[vec![1.0, f32::NAN], vec![2.0, 5.0], vec![3.0, 7.0]]);
    for values in found {
        assert!(values[0] == 6.0 && values[1].is_nan(), "{values:?}");
    }
}

#[test]
fn sums_go_on_round_after_round_though_devices_are_unlike_fast() {
    let meeting = Meeting::new(3, None, WAIT);
    let devices: Vec<_> = (0..3usize)
        .map(|index| {
            let team = Team::new(&meeting, index, index, 3);
            thread::spawn(move || {
                let mut found = Vec::new();
                for round in 0..200 {
                    // What a device does between two sums takes it another time than the others.
                    for _ in 0..(index * 31 + round * 7) % 5 {
                        thread::yield_now();
                    }
                    let mut tensor = Tensor::full([2], (round * (index + 1)) as f64, OPTIONS);
                    team.sum(&mut tensor).unwrap();
                    found.push(values(&tensor)[0]);
                }
                found
            })
        })
        .collect();
    let expected: Vec<f32> = (0..200).map(|round| (round * 6) as f32).collect();
    for device in devices {
        assert_eq!(device.join().unwrap(), expected);
    }
}

#[test]
fn what_a_device_brings_of_another_shape_fails_the_team_and_not_the_process() {
    let meeting = Meeting::new(2, None, WAIT);
    let other = {
        let team = Team::new(&meeting, 1, 1, 2);
        thread::spawn(move || team.sum(&mut Tensor::zeros([3], OPTIONS)).unwrap_err())
    };
    let team = Team::new(&meeting, 0, 0, 2);
    let error = team.sum(&mut Tensor::zeros([2], OPTIONS)).unwrap_err();
    for error in [error, other.join().unwrap()] {
        assert!(matches!(error, PeerError::Torch { .. }), "{error}");
    }
    assert!(matches!(team.failure(), Some(PeerError::Torch { .. })));
}

#[test]
fn the_first_reason_of_a_failure_is_kept() {
    let meeting = Meeting::new(2, None, Duration::from_millis(5));
    let team = Team::new(&meeting, 0, 0, 2);
    assert!(team.failure().is_none());
    assert!(team.sum(&mut Tensor::zeros([1], OPTIONS)).is_err());
    team.abandon();
    team.abandon();
    assert!(matches!(team.failure(), Some(PeerError::Late { .. })), "{:?}", team.failure());
}

#[test]
fn a_hook_sums_in_a_graph_and_says_only_whether_it_could() {
    let meeting = Meeting::new(1, None, WAIT);
    let team = Team::new(&meeting, 0, 0, 1);
    let x = Tensor::from_slice(&[1.0f32, 2.0]);
    let y = tch_ext::changed_forward(&x, &team.hook()).unwrap();
    assert_eq!(values(&y), [1.0, 2.0]);
    team.abandon();
    let error = tch_ext::changed_forward(&x, &team.hook()).unwrap_err().to_string();
    assert!(error.contains("an exchange between devices failed"), "{error}");
    assert!(matches!(team.failure(), Some(PeerError::Gone { .. })));
}

/// Two replicas that give these ranges of their gradients; what both have at the end.
fn reduced(ranges: &[std::ops::Range<usize>], length: usize) -> [Vec<f32>; 2] {
    let meeting = Meeting::new(2, None, WAIT);
    let replicas = [0usize, 1].map(|index| {
        let team = Team::new(&meeting, index, index, 2);
        let ranges = ranges.to_vec();
        thread::spawn(move || {
            let scale = 1.0 + index as f64;
            let gradient = Tensor::arange(length as i64, OPTIONS) * scale;
            let mut reducer = Reducer::new(team, WAIT).unwrap();
            for _ in 0..2 {
                for range in &ranges {
                    reducer.ready(&gradient, range.clone()).unwrap();
                }
                reducer.finish(&gradient).unwrap();
            }
            values(&gradient)
        })
    });
    replicas.map(|replica| replica.join().unwrap())
}

#[test]
fn what_is_ready_is_summed_once_in_each_step_and_the_rest_is_left_alone() {
    let table: [&[std::ops::Range<usize>]; 6] = [
        &[],
        &[3..10, 0..3],
        &[5..10, 0..5],
        &[8..10, 2..4],
        &[4..4, 4..6, 4..4],
        // As layers come, and then what is outside of them.
        &[6..8, 4..6, 9..10, 8..9, 0..2],
    ];
    for ranges in table {
        let found = reduced(ranges, 10);
        let is_ready = |at: usize| ranges.iter().any(|range| range.contains(&at));
        for (index, values) in found.iter().enumerate() {
            for (at, value) in values.iter().enumerate() {
                // 1 + 2, and then twice that: both have the sum.
                let factor = if is_ready(at) { 6.0 } else { 1.0 + index as f32 };
                assert_eq!(*value, factor * at as f32, "{ranges:?}: {at} of {index}");
            }
        }
    }
}

#[test]
fn a_reducer_whose_team_is_abandoned_ends_with_the_reason() {
    let meeting = Meeting::new(2, None, Duration::from_secs(600));
    let [own, other] = [0, 1].map(|index| Team::new(&meeting, index, index, 2));
    let gradient = Tensor::zeros([4], OPTIONS);
    let mut reducer = Reducer::new(own, Duration::from_secs(600)).unwrap();
    reducer.ready(&gradient, 0..4).unwrap();
    other.abandon();
    let error = reducer.finish(&gradient).unwrap_err();
    assert!(matches!(error, PeerError::Gone { .. }), "{error}");
    // It is of no more use, and says so at once.
    let again = reducer.ready(&gradient, 0..4).and_then(|()| reducer.finish(&gradient));
    assert!(again.is_err());
}

#[test]
fn a_replica_that_does_not_come_is_waited_for_as_long_as_was_said() {
    let meeting = Meeting::new(2, None, Duration::from_secs(600));
    let own = Team::new(&meeting, 0, 0, 2);
    let gradient = Tensor::zeros([4], OPTIONS);
    let mut reducer = Reducer::new(own, Duration::from_millis(5)).unwrap();
    reducer.ready(&gradient, 0..4).unwrap();
    let error = reducer.finish(&gradient).unwrap_err();
    assert!(matches!(error, PeerError::Late { wait, .. } if wait.as_millis() == 5), "{error}");
    reducer.abandon();
    assert!(Team::new(&meeting, 1, 1, 2).sum(&mut Tensor::zeros([4], OPTIONS)).is_err());
}
