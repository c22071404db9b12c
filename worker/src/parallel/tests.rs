//! Teams, lanes and reducers between threads, and between in-memory ranks.

use std::thread;
use std::time::Duration;

use collective::Group;
use tch::{Device, Kind, Tensor};

use super::*;

mod ends;
mod grids;
mod sums;

const WAIT: Duration = Duration::from_secs(5);
const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.f_flatten(0, -1).unwrap()).unwrap()
}

#[test]
fn devices_of_one_process_and_of_another_add_up_to_the_same_bits() {
    let ranks = Group::in_memory(2).into_iter().zip([2, 1]).map(|(group, devices)| {
        thread::spawn(move || {
            let rank = group.rank();
            let meeting = Meeting::new(devices, Some(group), WAIT);
            let threads = (0..devices).map(|index| {
                let team = Team::new(&meeting, index, rank as usize * 2 + index, 3);
                thread::spawn(move || {
                    let mut sums = Vec::new();
                    for round in 0..20 {
                        let mine = (team.position() + 1) as f64 * 0.1 + f64::from(round);
                        let mut tensor = Tensor::full([5], mine, OPTIONS);
                        team.sum(&mut tensor).unwrap();
                        sums.extend(values(&tensor));
                    }
                    sums
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    });
    let ranks: Vec<_> = ranks.collect();
    let sums: Vec<_> = ranks.into_iter().flat_map(|rank| rank.join().unwrap()).collect();
    assert_eq!(sums.len(), 3);
    assert!(sums.iter().all(|sum| *sum == sums[0]));
    assert!((sums[0][99] - 57.6).abs() < 1e-4, "{}", sums[0][99]);
}

#[test]
fn a_device_that_does_not_come_is_an_error_for_all_that_wait_and_stays_one() {
    let meeting = Meeting::new(2, None, Duration::from_millis(20));
    let team = Team::new(&meeting, 0, 0, 2);
    let error = team.sum(&mut Tensor::zeros([1], OPTIONS)).unwrap_err();
    assert!(matches!(error, PeerError::Late { .. }), "{error}");
    let other = Team::new(&meeting, 1, 1, 2);
    assert!(other.sum(&mut Tensor::zeros([1], OPTIONS)).is_err());
    assert!(other.failure().is_some());
}

#[test]
fn nobody_waits_for_a_device_that_has_left_its_team() {
    let mut groups = Group::in_memory(2).into_iter();
    let (here, there) = (groups.next().unwrap(), groups.next().unwrap());
    let long = Duration::from_secs(600);
    let meeting = Meeting::new(2, Some(here), long);
    let [fails, waits] = [0, 1].map(|index| Team::new(&meeting, index, index, 3));
    let other = Team::new(&Meeting::new(1, Some(there), long), 0, 2, 3);
    let sum =
        |team: Team| thread::spawn(move || team.sum(&mut Tensor::zeros([1], OPTIONS)).unwrap_err());
    let (waits, other) = (sum(waits), sum(other));
    fails.abandon();
    let error = waits.join().unwrap();
    assert!(matches!(error, PeerError::Gone { .. }), "{error}");
    let error = other.join().unwrap();
    assert!(matches!(error, PeerError::Group(CommError::PeerLost { rank: 0 })), "{error}");
}

#[test]
fn a_lane_between_ranks_brings_what_was_ordered_in_its_order() {
    let mut groups = Group::in_memory(2).into_iter();
    let (first, second) = (groups.next().unwrap(), groups.next().unwrap());
    let mut out = LaneOut::to(first, 1, 2).unwrap();
    let into = LaneIn::from(second, 0).unwrap();
    for _ in 0..2 {
        into.expect(3, [2, 2]).unwrap();
        for value in 0..3 {
            out.send(Tensor::full([2, 2], f64::from(value), OPTIONS)).unwrap();
        }
        for value in 0..3 {
            assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [value as f32; 4]);
        }
    }
    assert_eq!((out.take_bytes(), out.take_bytes()), (6 * 16, 0));
}

#[test]
fn a_lane_whose_other_end_is_gone_says_so() {
    let (mut out, into) = lane(1, WAIT);
    drop(into);
    assert!(matches!(out.send(Tensor::zeros([1, 1], OPTIONS)), Err(PeerError::Gone { .. })));
    let mut groups = Group::in_memory(2).into_iter();
    let (first, second) = (groups.next().unwrap(), groups.next().unwrap());
    let into = LaneIn::from(second, 0).unwrap();
    into.expect(1, [1, 1]).unwrap();
    drop(first);
    let error = into.receive(Device::Cpu).unwrap_err();
    assert!(matches!(error, PeerError::Group(_)), "{error}");
}

#[test]
fn buckets_come_back_summed_whatever_their_order() {
    let meeting = Meeting::new(2, None, WAIT);
    let ranks = [0, 1].map(|index| {
        let team = Team::new(&meeting, index, index, 2);
        thread::spawn(move || {
            let gradient = Tensor::full([10], 1.0 + index as f64, OPTIONS);
            let mut reducer = Reducer::new(team, WAIT).unwrap();
            for range in [8..10, 5..8, 0..2] {
                reducer.ready(&gradient, range).unwrap();
            }
            reducer.finish(&gradient).unwrap();
            (values(&gradient), 1.0 + index as f32)
        })
    });
    for rank in ranks {
        let (sums, own) = rank.join().unwrap();
        assert_eq!(sums, [3.0, 3.0, own, own, own, 3.0, 3.0, 3.0, 3.0, 3.0]);
    }
}
