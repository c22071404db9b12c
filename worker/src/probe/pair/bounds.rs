//! A leader and a follower that say what they should not, and works of unlike sizes.

use super::*;

/// A follower, and somebody in the leader's place.
fn follower(lead: impl FnOnce(Group)) -> Result<(), ProbeError> {
    let mut groups = Group::in_memory(2);
    let mut own = groups.pop().unwrap();
    let leader = groups.pop().unwrap();
    std::thread::scope(|scope| {
        let followed = scope.spawn(move || follow(&mut own));
        lead(leader);
        followed.join().unwrap()
    })
}

#[test]
fn a_leader_that_says_what_is_no_order_ends_the_follower_with_a_sentence() {
    for said in ["", "[]", "{\"work\":{\"Shutdown\":{}},\"times\":1}", "\"stop\"", "nul"] {
        let refused = follower(|mut leader| {
            leader.broadcast_bytes(&mut said.as_bytes().to_vec(), LEADER).unwrap();
        });
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("failed to understand the other rank"), "{said}: {text}");
        assert!(text.ends_with("run the same version of the probe on both"), "{said}: {text}");
    }
}

#[test]
fn a_leader_that_orders_one_message_and_sends_another_is_found_out() {
    let order = r#"{"work":{"Trip":{"out":16,"back":4}},"times":1}"#;
    let refused = follower(|mut leader| {
        leader.broadcast_bytes(&mut order.as_bytes().to_vec(), LEADER).unwrap();
        leader.barrier().unwrap();
        // Half of what was announced: the follower does not wait for the rest.
        let _ = leader.send(FOLLOWER, &[0.0; 2]);
    });
    let error = refused.unwrap_err();
    let ProbeError::Group { operation, .. } = &error else { panic!("{error}") };
    assert_eq!(*operation, "exchange messages with");
}

#[test]
fn a_follower_that_goes_ends_the_leader() {
    let mut groups = Group::in_memory(2);
    drop(groups.pop());
    let mut leader = Leader::of(groups.pop().unwrap());
    let error = leader.ladder(&[4], |bytes| Work::AllReduce { bytes }).unwrap_err();
    assert!(matches!(error, ProbeError::Group { .. }), "{error}");
    assert!(error.to_string().contains("neither may end early"), "{error}");
    assert!(leader.end().is_err(), "there is nobody to let go");
}

#[test]
fn only_orders_within_the_bounds_are_taken() {
    let trip = |out: u64, back: u64, times: u32| {
        format!(r#"{{"work":{{"Trip":{{"out":{out},"back":{back}}}}},"times":{times}}}"#)
    };
    let most = REPEATS_MAX as u32;
    let table = [
        (trip(BYTES_MAX, BYTES_MAX, most), true),
        (trip(0, 0, 1), true),
        (trip(BYTES_MAX + 1, 0, 1), false),
        (trip(0, BYTES_MAX + 1, 1), false),
        (trip(u64::MAX, u64::MAX, 1), false),
        (trip(4, 4, most + 1), false),
        (trip(4, 4, 0), false),
        (trip(4, 4, u32::MAX), false),
        (r#"{"work":{"Trip":{"out":4}},"times":1}"#.into(), false),
        (r#"{"work":{"Trip":{"out":-4,"back":4}},"times":1}"#.into(), false),
        (r#"{"work":{"AllReduce":{"bytes":4}}}"#.into(), false),
    ];
    for (order, is_taken) in table {
        assert_eq!(parse(order.as_bytes()).is_ok(), is_taken, "{order}");
    }
}

#[test]
fn a_message_has_whole_values_and_one_at_least() {
    for (bytes, count) in [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (4096, 1024)] {
        assert_eq!(values(bytes).unwrap().len(), count, "{bytes}");
    }
    let error = values(u64::MAX).unwrap_err();
    assert!(matches!(error, ProbeError::NoMemory { bytes: u64::MAX }), "{error}");
}
