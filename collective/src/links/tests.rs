//! Messages made by hand, right and wrong, to a rank whose peer this test is.

use tokio::runtime::Builder;

use super::*;
use crate::wire::{CHUNK_BYTES, CONTROL_BYTES_MAX};
use crate::{chain, direct, ring};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(20);

/// What rank 1, which is this test, has of its links with rank 0.
struct Peer {
    to: mpsc::Sender<Arrival>,
    from: mpsc::Receiver<Arrival>,
}

/// Rank 0 of two.
fn two(faults: &Faults) -> (Links, Peer) {
    let (out, from) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let (to, inbox) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let outs = vec![None, Some((out, None))];
    (Links::new(0, outs, vec![None, Some(inbox)], faults.clone()), Peer { to, from })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn call(operation: Operation, total: Option<u64>) -> Call {
    Call { operation, timeout: LONG, total }
}

/// A message that is right as the first of an operation.
fn message(operation: Operation, total: u64, offset: u64, payload: Vec<u8>) -> Message {
    let payload = Bytes::from(payload);
    Message { sequence: 1, operation: operation as u32, total, block: 0, offset, payload }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn protocol(error: &CommError) -> &str {
    match error {
        CommError::Protocol { rank: 1, detail } => detail,
        other => panic!("{other:?}"),
    }
}

/// What rank 0 makes of these messages when it does `work`.
fn meets<T>(messages: Vec<Message>, work: impl AsyncFnOnce(&mut Links) -> T) -> T {
    let (mut links, peer) = two(&Faults::new());
    run(async {
        for message in messages {
            peer.to.send(Ok(message)).await.unwrap();
        }
        work(&mut links).await
    })
}

async fn receive(links: &mut Links, values: &mut [f32]) -> Result<(), CommError> {
    let total = Some(values.len() as u64 * 4);
    chain::recv(links, call(Operation::Send, total), values, 1).await
}

#[test]
fn a_message_of_another_operation_number_or_length_is_refused_and_its_sender_named() {
    type Spoil = fn(&mut Message);
    let table: [(Spoil, &str); 8] = [
        (|it| it.sequence = 0, "operation number 0 instead of 1"),
        (|it| it.sequence = 2, "operation number 2 instead of 1"),
        (|it| it.sequence = u64::MAX, "operation number 18446744073709551615 instead of 1"),
        (|it| it.operation = Operation::AllReduce as u32, "operation 2 instead of send"),
        (|it| it.operation = 0, "operation 0 instead of send"),
        (|it| it.operation = u32::MAX, "operation 4294967295 instead of send"),
        (|it| it.total = 4, "a buffer of 4 bytes instead of 8"),
        (|it| it.total = u64::MAX, "a buffer of 18446744073709551615 bytes instead of 8"),
    ];
    for (spoil, detail) in table {
        let mut spoilt = message(Operation::Send, 8, 0, bytes_of(&[1.0, 2.0]));
        spoil(&mut spoilt);
        let mut values = [0.0; 2];
        let got = meets(vec![spoilt], async |links| receive(links, &mut values).await);
        assert_eq!(protocol(&got.unwrap_err()), detail);
        assert_eq!(values, [0.0; 2], "nothing of it was taken");
    }
}

#[test]
fn a_piece_that_does_not_lie_where_the_next_one_has_to_is_refused() {
    let two = || bytes_of(&[1.0, 2.0]);
    let table = [
        (4, two(), "(offset, bytes) = (4, 8) instead of (0, 8)"),
        (u64::MAX, two(), "(offset, bytes) = (18446744073709551615, 8) instead of (0, 8)"),
        (0, bytes_of(&[1.0]), "(offset, bytes) = (0, 4) instead of (0, 8)"),
        (0, bytes_of(&[1.0; 3]), "(offset, bytes) = (0, 12) instead of (0, 8)"),
        (0, vec![0; 7], "(offset, bytes) = (0, 7) instead of (0, 8)"),
        (0, Vec::new(), "(offset, bytes) = (0, 0) instead of (0, 8)"),
    ];
    for (offset, payload, detail) in table {
        let wrong = message(Operation::Send, 8, offset, payload);
        let got = meets(vec![wrong], async |links| receive(links, &mut [0.0; 2]).await);
        assert_eq!(protocol(&got.unwrap_err()), detail);
    }
    let mut values = [0.0; 2];
    let right = message(Operation::Send, 8, 0, two());
    meets(vec![right], async |links| receive(links, &mut values).await).unwrap();
    assert_eq!(values, [1.0, 2.0]);
}

#[test]
fn what_is_longer_than_a_chunk_has_to_come_in_chunks_and_in_their_order() {
    let length = CHUNK_BYTES / 4 + 1;
    let total = length as u64 * 4;
    let chunk = |offset: usize, bytes: usize, value: f32| {
        message(Operation::Send, total, offset as u64, bytes_of(&vec![value; bytes / 4]))
    };
    let taken = |messages| {
        let mut values = vec![0.0; length];
        meets(messages, async |links| receive(links, &mut values).await).map(|()| values)
    };
    let values = taken(vec![chunk(0, CHUNK_BYTES, 1.0), chunk(CHUNK_BYTES, 4, 2.0)]).unwrap();
    assert_eq!((values[0], values[length - 2], values[length - 1]), (1.0, 1.0, 2.0));
    for wrong in [
        vec![chunk(CHUNK_BYTES, 4, 2.0), chunk(0, CHUNK_BYTES, 1.0)],
        vec![chunk(0, CHUNK_BYTES, 1.0), chunk(0, CHUNK_BYTES, 1.0)],
        vec![chunk(0, CHUNK_BYTES - 4, 1.0), chunk(CHUNK_BYTES - 4, 8, 2.0)],
    ] {
        assert!(protocol(&taken(wrong).unwrap_err()).starts_with("(offset, bytes) = "));
    }
}

#[test]
fn an_abort_names_whom_the_peer_blames_whatever_was_awaited() {
    for culprit in [0, 1, 7, u32::MAX] {
        let got =
            meets(vec![Message::abort(culprit)], async |links| receive(links, &mut [0.0; 2]).await);
        assert!(matches!(got, Err(CommError::PeerLost { rank }) if rank == culprit), "{got:?}");
    }
    // One that names nobody is no abort, and nothing that was awaited.
    for payload in [vec![], vec![1, 0, 0], vec![1, 0, 0, 0, 0]] {
        let odd = Message { payload: payload.into(), ..Message::abort(1) };
        let got = meets(vec![odd], async |links| receive(links, &mut [0.0; 2]).await);
        assert_eq!(protocol(&got.unwrap_err()), "operation 15 instead of send");
    }
}

#[test]
fn a_link_that_ended_or_broke_says_so_after_what_was_sent_before() {
    let (mut links, peer) = two(&Faults::new());
    run(async {
        peer.to.send(Ok(message(Operation::Send, 4, 0, bytes_of(&[1.5])))).await.unwrap();
        let broken = CommError::Protocol { rank: 1, detail: "no frame".into() };
        peer.to.send(Err(broken)).await.unwrap();
        drop(peer.to);
        let mut value = [0.0];
        receive(&mut links, &mut value).await.unwrap();
        assert_eq!(value, [1.5]);
        let got = receive(&mut links, &mut value).await;
        assert_eq!(protocol(&got.unwrap_err()), "no frame");
        let got = receive(&mut links, &mut value).await;
        assert!(matches!(got, Err(CommError::PeerLost { rank: 1 })), "{got:?}");
    });
}

#[test]
fn a_peer_that_sends_nothing_and_one_that_takes_nothing_are_silent() {
    let silent = |got: Result<(), CommError>, wanted: Operation| match got.unwrap_err() {
        CommError::Timeout { operation, rank: 1 } => assert_eq!(operation, wanted),
        other => panic!("{other:?}"),
    };
    let (mut links, _peer) = two(&Faults::new());
    let hurried = |operation| Call { timeout: SOON, ..call(operation, None) };
    run(async {
        let call = hurried(Operation::Send);
        silent(chain::recv(&mut links, call, &mut [0.0], 1).await, Operation::Send);
        // One message more than the queue holds.
        let values = vec![0.0; (QUEUE_MESSAGES_MAX + 1) * CHUNK_BYTES / 4];
        let call = hurried(Operation::Broadcast);
        silent(chain::send(&mut links, call, &values, 1).await, Operation::Broadcast);
    });
}

#[test]
fn operations_are_counted_on_each_link_and_ranks_that_are_no_peers_refused() {
    let (mut links, mut peer) = two(&Faults::new());
    run(async {
        for number in 1..=3 {
            let call = call(Operation::Send, Some(4));
            chain::send(&mut links, call, &[number as f32], 1).await.unwrap();
            let sent = peer.from.recv().await.unwrap().unwrap();
            assert_eq!((sent.sequence, sent.operation), (number, Operation::Send as u32));
            assert_eq!((sent.total, sent.offset, sent.payload.len()), (4, 0, 4));
        }
        for rank in [0, 2, u32::MAX] {
            let call = call(Operation::Exchange, None);
            let refused = |got: Result<(), CommError>| match got.unwrap_err() {
                CommError::Argument { operation: Operation::Exchange, detail } => {
                    assert_eq!(detail, format!("rank {rank} is not another rank of this group"));
                }
                other => panic!("{other:?}"),
            };
            refused(links.to(rank, call).map(drop));
            refused(links.from(rank, call).map(drop));
            refused(links.between(1, rank, call).map(drop));
            refused(links.between(rank, 1, call).map(drop));
        }
    });
}

#[test]
fn a_failing_rank_tells_who_listens_and_waits_for_nobody() {
    let (mut links, mut peer) = two(&Faults::new());
    run(async {
        links.abort(7).await;
        assert_eq!(peer.from.recv().await.unwrap().unwrap().culprit(), Some(7));
        // A queue that is full: the peer does not listen.
        let values = vec![0.0; QUEUE_MESSAGES_MAX * CHUNK_BYTES / 4];
        chain::send(&mut links, call(Operation::Send, None), &values, 1).await.unwrap();
        links.abort(7).await;
        for _ in 0..QUEUE_MESSAGES_MAX {
            assert_eq!(peer.from.recv().await.unwrap().unwrap().culprit(), None);
        }
        assert!(peer.from.try_recv().is_err(), "the word found no room");
    });
}

#[test]
fn faults_strike_the_links_that_they_name_once() {
    let faults = Faults::new().garble(0, 1, 1).drop_link(0, 1, 3).drop_link(0, 9, 0).kill(0, 4);
    let (mut links, mut peer) = two(&faults);
    run(async {
        let mut sequences = Vec::new();
        for number in 0..3 {
            links.strike(number).unwrap();
            let call = call(Operation::Send, None);
            chain::send(&mut links, call, &[0.0; CHUNK_BYTES / 2], 1).await.unwrap();
            for _ in 0..2 {
                sequences.push(peer.from.recv().await.unwrap().unwrap().sequence);
            }
        }
        assert_eq!(sequences, [1, 1, 2 ^ (1 << 40), 2, 3, 3]);
        links.strike(3).unwrap();
        let got = chain::send(&mut links, call(Operation::Send, None), &[0.0], 1).await;
        assert!(matches!(got, Err(CommError::PeerLost { rank: 1 })), "{got:?}");
        assert!(peer.from.recv().await.is_none(), "the peer sees the link end");
        assert!(matches!(links.strike(4), Err(CommError::Killed)));
        links.strike(5).unwrap();
    });
}

/// The peer's messages of an all-reduce of four values over two ranks: its first piece, and the
/// sum of the second.
fn ring_messages() -> [Message; 2] {
    let reduce =
        |offset, values: &[f32]| message(Operation::AllReduce, 16, offset, bytes_of(values));
    [reduce(0, &[10.0, 20.0]), reduce(8, &[33.0, 44.0])]
}

async fn reduce(links: &mut Links, values: &mut [f32]) -> Result<(), CommError> {
    let total = Some(values.len() as u64 * 4);
    ring::all_reduce(links, call(Operation::AllReduce, total), values).await
}

#[test]
fn an_all_reduce_sends_the_pieces_that_its_drawing_shows() {
    let (mut links, mut peer) = two(&Faults::new());
    let mut values = [1.0, 2.0, 3.0, 4.0];
    run(async {
        for message in ring_messages() {
            peer.to.send(Ok(message)).await.unwrap();
        }
        reduce(&mut links, &mut values).await.unwrap();
        let mut sent = Vec::new();
        while let Ok(message) = peer.from.try_recv() {
            let message = message.unwrap();
            sent.push((message.block, message.offset, message.payload.to_vec()));
        }
        // Its own second piece, and the sum of the first.
        let expected = [(0, 8, bytes_of(&[3.0, 4.0])), (0, 0, bytes_of(&[11.0, 22.0]))];
        assert_eq!(sent, expected);
    });
    assert_eq!(values, [11.0, 22.0, 33.0, 44.0]);
}

#[test]
fn a_piece_that_the_ring_does_not_await_is_refused() {
    type Spoil = fn(&mut [Message; 2]);
    let table: [(Spoil, &str); 7] = [
        (|both| both[0].block = 1, "a piece of block 1, which is not awaited"),
        (|both| both[1].block = u64::MAX, "a piece of block 18446744073709551615, which is not"),
        (|both| both[0].offset = 8, "(offset, bytes) = (8, 8) instead of (0, 8)"),
        (|both| both[0].payload = Bytes::new(), "(offset, bytes) = (0, 0) instead of (0, 8)"),
        (|both| both[0].payload = Bytes::from(vec![0; 12]), "(offset, bytes) = (0, 12) instead"),
        (|both| both.swap(0, 1), "(offset, bytes) = (8, 8) instead of (0, 8)"),
        (|both| both[1] = both[0].clone(), "(offset, bytes) = (0, 8) instead of (8, 8)"),
    ];
    for (spoil, detail) in table {
        let mut both = ring_messages();
        spoil(&mut both);
        let mut values = [1.0, 2.0, 3.0, 4.0];
        let got = meets(both.into(), async |links| reduce(links, &mut values).await);
        let error = got.unwrap_err();
        assert!(protocol(&error).starts_with(detail), "{detail}: {error:?}");
    }
}

/// What is received of a broadcast of bytes by rank 1.
fn bytes_from(messages: Vec<Message>) -> Result<Vec<u8>, CommError> {
    let mut data = Vec::new();
    let call = call(Operation::BroadcastBytes, None);
    let got =
        meets(messages, async |links| direct::broadcast_bytes(links, call, &mut data, 1).await);
    got.map(|()| data)
}

#[test]
fn control_data_comes_whole_or_not_at_all() {
    let piece = |total, offset, bytes: &[u8]| {
        message(Operation::BroadcastBytes, total, offset, bytes.to_vec())
    };
    assert_eq!(bytes_from(vec![piece(0, 0, b"")]).unwrap(), b"");
    assert_eq!(bytes_from(vec![piece(3, 0, b"abc")]).unwrap(), b"abc");
    assert_eq!(bytes_from(vec![piece(3, 0, b"a"), piece(3, 1, b"bc")]).unwrap(), b"abc");
    let too_much = CONTROL_BYTES_MAX as u64 + 1;
    let table = [
        (vec![piece(too_much, 0, b"abc")], "16777217 bytes are more than allowed"),
        (vec![piece(u64::MAX, 0, b"abc")], "18446744073709551615 bytes are more than allowed"),
        (vec![piece(3, 0, b"")], "(offset, bytes) = (0, 0) do not continue"),
        (vec![piece(3, 0, b"abcd")], "(offset, bytes) = (0, 4) do not continue"),
        (vec![piece(0, 0, b"a")], "(offset, bytes) = (0, 1) do not continue"),
        (vec![piece(3, 1, b"bc")], "(offset, bytes) = (1, 2) do not continue"),
        (vec![piece(3, 0, b"a"), piece(3, 2, b"c")], "(offset, bytes) = (2, 1) do not continue"),
        (vec![piece(3, 0, b"ab"), piece(3, 1, b"bc")], "(offset, bytes) = (1, 2) do not continue"),
        (vec![piece(3, 0, b"ab"), piece(3, 2, b"cd")], "(offset, bytes) = (2, 2) do not continue"),
        (vec![piece(3, u64::MAX, b"ab")], "(offset, bytes) = (18446744073709551615, 2) do not"),
        (vec![message(Operation::Barrier, 0, 0, vec![])], "operation 9 instead of broadcast of"),
    ];
    for (messages, detail) in table {
        let error = bytes_from(messages).unwrap_err();
        assert!(protocol(&error).starts_with(detail), "{detail}: {error:?}");
    }
}

#[test]
fn control_data_beyond_its_bound_is_not_even_sent() {
    let (mut links, mut peer) = two(&Faults::new());
    let mut data = vec![0; CONTROL_BYTES_MAX + 1];
    run(async {
        let call = call(Operation::BroadcastBytes, None);
        let got = direct::broadcast_bytes(&mut links, call, &mut data, 0).await;
        assert!(matches!(got, Err(CommError::Argument { .. })), "{got:?}");
        let got = direct::all_gather_bytes(&mut links, call, &data).await;
        let detail = "failed to start broadcast of bytes: 16777217 bytes are more than the \
                      16777216 allowed";
        assert_eq!(got.unwrap_err().to_string(), detail);
        for root in [2, u32::MAX] {
            let got = direct::broadcast_bytes(&mut links, call, &mut Vec::new(), root).await;
            let error = got.unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("there is no rank {root} in a world of 2")),
                "{error}"
            );
            let got = chain::broadcast(&mut links, call, &mut [0.0], root).await;
            let error = got.unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("there is no rank {root} in a world of 2")),
                "{error}"
            );
        }
    });
    assert!(peer.from.try_recv().is_err());
}
