//! What may come over the wire: anything, and all that this program says.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const OPERATIONS: [Operation; 9] = [
    Operation::Connect,
    Operation::AllReduce,
    Operation::Broadcast,
    Operation::AllGatherBytes,
    Operation::BroadcastBytes,
    Operation::Send,
    Operation::Barrier,
    Operation::Exchange,
    Operation::Abort,
];

#[test]
fn operations_are_told_apart_by_their_numbers_and_their_names() {
    // What other versions of a rank know them by.
    let numbers = OPERATIONS.map(|operation| operation as u32);
    assert_eq!(numbers, [1, 2, 5, 6, 7, 8, 9, 10, 15]);
    let names: BTreeSet<_> = OPERATIONS.map(|operation| operation.to_string()).into();
    assert_eq!(names.len(), OPERATIONS.len());
}

#[test]
fn a_hello_with_the_longest_names_is_one_message() {
    let hello = v1::Hello {
        run: "r".repeat(NAME_BYTES_MAX),
        island: "i".repeat(NAME_BYTES_MAX),
        epoch: u64::MAX,
        from_rank: u32::MAX,
        to_rank: u32::MAX,
        world_size: u32::MAX,
    };
    let wire = encode_hello(hello.clone());
    assert!(wire.len() <= HEADER_BYTES_MAX, "{}", wire.len());
    assert_eq!((wire[0], wire.len() - 5), (0, length(&wire)));
    let frame = v1::Frame::decode(&wire[5..]).unwrap();
    assert_eq!(frame, v1::Frame { hello: Some(hello), ..v1::Frame::default() });
}

#[test]
fn an_abort_comes_over_the_wire_as_one() {
    for culprit in [0, 1, 255, 256, u32::MAX] {
        let (head, payload) = Message::abort(culprit).encode();
        assert!(payload.is_empty(), "few bytes go with their header");
        let frame = v1::Frame::decode(&head[5..]).unwrap();
        assert_eq!(Message::decode(frame).culprit(), Some(culprit));
    }
}

/// What gRPC's prefix says.
fn length(wire: &[u8]) -> usize {
    u32::from_be_bytes([wire[1], wire[2], wire[3], wire[4]]) as usize
}

proptest! {
    #[test]
    fn every_message_is_the_frame_of_its_fields(
        sequence: u64, operation: u32, total: u64, block: u64, offset: u64,
        payload in prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 4090..4100)],
    ) {
        let message = Message {
            sequence, operation, total, block, offset, payload: payload.clone().into(),
        };
        let (head, rest) = message.encode();
        let wire = [head, rest].concat();
        prop_assert_eq!((wire[0], length(&wire)), (0, wire.len() - 5));
        let payload = Bytes::from(payload);
        let expected =
            v1::Frame { hello: None, sequence, operation, total, block, offset, payload };
        prop_assert_eq!(v1::Frame::decode(&wire[5..]).unwrap(), expected);
    }

    #[test]
    fn a_chunk_fits_a_message_whatever_its_numbers_are(numbers: [u64; 4], operation: u32) {
        let [sequence, total, block, offset] = numbers;
        let payload = Bytes::from(vec![1; CHUNK_BYTES]);
        let (head, rest) =
            Message { sequence, operation, total, block, offset, payload }.encode();
        prop_assert!(head.len() + rest.len() - 5 <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..80)) {
        if let Ok(frame) = v1::Frame::decode(&bytes[..]) {
            let message = Message::decode(frame);
            let names = message.operation == Operation::Abort as u32 && message.payload.len() == 4;
            prop_assert_eq!(message.culprit().is_some(), names);
        }
    }
}
