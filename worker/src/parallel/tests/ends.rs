//! Lanes whose other end is late, ends in the middle, or sends what was not ordered.

use super::*;

fn pair() -> (Group, Group) {
    let mut groups = Group::in_memory(2).into_iter();
    (groups.next().unwrap(), groups.next().unwrap())
}

fn full(value: f64) -> Tensor {
    Tensor::full([2, 3], value, OPTIONS)
}

#[test]
fn within_a_process_tensors_come_in_their_order_and_are_counted() {
    let (mut out, into) = lane(3, WAIT);
    into.expect(3, [2, 3]).unwrap();
    for value in [1.0, 2.0, 3.0] {
        out.send(full(value)).unwrap();
    }
    for value in [1.0f32, 2.0, 3.0] {
        assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [value; 6]);
    }
    assert_eq!((out.take_bytes(), out.take_bytes()), (3 * 6 * 4, 0));
}

#[test]
fn what_was_sent_before_the_other_end_went_still_arrives() {
    let (mut out, into) = lane(2, WAIT);
    out.send(full(1.0)).unwrap();
    drop(out);
    assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [1.0; 6]);
    let error = into.receive(Device::Cpu).unwrap_err();
    assert!(matches!(error, PeerError::Gone { .. }), "{error}");
}

#[test]
fn nobody_waits_longer_than_twice_what_was_said() {
    let wait = Duration::from_millis(5);
    let (mut out, into) = lane(1, wait);
    let error = into.receive(Device::Cpu).unwrap_err();
    assert!(matches!(error, PeerError::Late { wait: waited, .. } if waited == 2 * wait), "{error}");
    out.send(full(1.0)).unwrap();
    let error = out.send(full(2.0)).unwrap_err();
    assert!(matches!(error, PeerError::Late { .. }), "{error}");
    assert!(error.to_string().contains("send activations"), "{error}");
    // The first one is not lost by that.
    assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [1.0; 6]);
}

#[test]
fn a_sender_that_goes_in_the_middle_leaves_what_it_has_sent() {
    let (first, second) = pair();
    let into = LaneIn::from(second, 0).unwrap();
    into.expect(3, [2, 3]).unwrap();
    let mut out = LaneOut::to(first, 1, 2).unwrap();
    out.send(full(1.0)).unwrap();
    out.send(full(2.0)).unwrap();
    // Its thread sends what waits, and then takes leave.
    drop(out);
    for value in [1.0f32, 2.0] {
        assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [value; 6]);
    }
    let error = into.receive(Device::Cpu).unwrap_err();
    assert!(matches!(error, PeerError::Group(CommError::PeerLost { rank: 0 })), "{error}");
    // Nothing more can be ordered of it, and the reason stays.
    let error = loop {
        match into.expect(1, [2, 3]) {
            // The thread is about to end.
            Ok(()) | Err(PeerError::Late { .. }) => thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PeerError::Group(_)), "{error}");
}

#[test]
fn a_receiver_that_goes_ends_the_sender_with_its_reason() {
    let (first, second) = pair();
    let mut out = LaneOut::to(first, 1, 1).unwrap();
    drop(second);
    // The first ones may still find room in the queue.
    let error = loop {
        if let Err(error) = out.send(full(1.0)) {
            break error;
        }
    };
    assert!(matches!(error, PeerError::Group(CommError::PeerLost { rank: 1 })), "{error}");
}

#[test]
fn a_tensor_of_another_shape_than_was_ordered_is_no_activation() {
    let (mut first, second) = pair();
    let into = LaneIn::from(second, 0).unwrap();
    into.expect(1, [2, 3]).unwrap();
    let _ = first.send(1, &[1.0; 4]);
    let error = into.receive(Device::Cpu).unwrap_err();
    assert!(matches!(error, PeerError::Group(CommError::Protocol { rank: 0, .. })), "{error}");
}

#[test]
fn activations_that_are_not_contiguous_or_not_f32_arrive_as_they_are_meant() {
    let (first, second) = pair();
    let mut out = LaneOut::to(first, 1, 2).unwrap();
    let into = LaneIn::from(second, 0).unwrap();
    into.expect(2, [3, 2]).unwrap();
    let matrix = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
    out.send(matrix.tr()).unwrap();
    out.send(matrix.tr().to_kind(Kind::BFloat16)).unwrap();
    for _ in 0..2 {
        assert_eq!(values(&into.receive(Device::Cpu).unwrap()), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}

#[test]
fn more_orders_than_a_step_has_are_refused_and_not_waited_for() {
    let (_first, second) = pair();
    let into = LaneIn::from(second, 0).unwrap();
    // Nobody sends: the first order is under way, and the queue fills.
    let refused = (0..100).find_map(|_| into.expect(1, [2, 3]).err());
    assert!(matches!(refused, Some(PeerError::Late { .. })), "{refused:?}");
}
