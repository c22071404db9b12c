//! Groups in memory and over gRPC: the same promises.

use std::io::Write as _;
use std::thread;
use std::time::Instant;

use proto::v1;
use proto::v1::collective_client::CollectiveClient;
use tonic::Code;

use super::*;
use crate::Endpoint;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(20);
/// Values of a chunk.
const CHUNK: usize = crate::wire::CHUNK_BYTES / 4;

fn config(rank: u32, world_size: u32, timeout: Duration) -> GroupConfig {
    GroupConfig {
        run: "run".to_owned(),
        island: "island".to_owned(),
        epoch: 3,
        rank,
        world_size,
        timeout,
    }
}

/// Connects a world over loopback; each rank's configuration may be changed first.
fn connect(
    world_size: u32,
    timeout: Duration,
    faults: &Faults,
    change: impl Fn(&mut GroupConfig),
) -> Vec<Result<Group, CommError>> {
    let endpoints: Vec<_> =
        (0..world_size).map(|_| Endpoint::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = endpoints.iter().map(|end| end.address().to_string()).collect();
    let addresses = &addresses;
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..world_size)
            .zip(endpoints)
            .map(|(rank, endpoint)| {
                let mut config = config(rank, world_size, timeout);
                change(&mut config);
                scope.spawn(move || endpoint.connect_with(config, addresses, faults.clone()))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn over_grpc(world_size: u32, timeout: Duration, faults: &Faults) -> Vec<Group> {
    let groups = connect(world_size, timeout, faults, |_| ());
    groups.into_iter().map(|group| group.unwrap()).collect()
}

/// Both kinds of world.
fn worlds(world_size: u32, timeout: Duration, faults: &Faults) -> [Vec<Group>; 2] {
    [Group::in_memory_with(world_size, timeout, faults), over_grpc(world_size, timeout, faults)]
}

/// Runs all ranks, each on its thread; results by rank.
fn all<T: Send>(groups: Vec<Group>, rank: impl Fn(&mut Group) -> T + Sync) -> Vec<T> {
    let rank = &rank;
    thread::scope(|scope| {
        let threads: Vec<_> =
            groups.into_iter().map(|mut group| scope.spawn(move || rank(&mut group))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A rank's values: not exact in f32 when added, so that the order of additions shows.
fn values(rank: u32, length: usize) -> Vec<f32> {
    let seed = u64::from(rank) * 7919 + 1;
    (0..length as u64).map(|i| ((i * 31 + seed) % 9973) as f32 * 0.1 - 300.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The sum in the order of the ring: piece p begins at rank p + 1 and ends at rank p.
fn ring_sum(world: u32, piece: u32, length: usize) -> Vec<f32> {
    let mut ranks = (1..=world).map(|step| values((piece + step) % world, length));
    let first = ranks.next().unwrap();
    ranks.fold(first, |sum, own| sum.iter().zip(&own).map(|(sum, own)| sum + own).collect())
}

fn close_to_sum(found: &[f32], world: u32) -> bool {
    let ranks: Vec<_> = (0..world).map(|rank| values(rank, found.len())).collect();
    (0..found.len()).all(|i| {
        let sum: f64 = ranks.iter().map(|values| f64::from(values[i])).sum();
        (f64::from(found[i]) - sum).abs() < 1e-2
    })
}

#[test]
fn all_reduce_gives_the_same_sum_on_every_rank_in_memory_and_over_grpc() {
    for world in 1..=5 {
        for groups in worlds(world, LONG, &Faults::new()) {
            for_each_length(groups, world);
        }
    }
}

fn for_each_length(groups: Vec<Group>, world: u32) {
    let big = world as usize * CHUNK * 6 + 12_345;
    let lengths = [0, 1, 2, 3, 17, 5000, CHUNK, world as usize * CHUNK, big];
    let results = all(groups, |group| {
        lengths.map(|length| {
            let mut values = values(group.rank(), length);
            group.all_reduce(&mut values).unwrap();
            values
        })
    });
    for (at, length) in lengths.into_iter().enumerate() {
        assert!(close_to_sum(&results[0][at], world), "world {world}, {length} values");
        for result in &results {
            assert_eq!(bits(&result[at]), bits(&results[0][at]), "world {world}, {length} values");
        }
    }
}

#[test]
fn additions_have_a_fixed_order_whatever_the_transport() {
    let world = 4;
    let length = world as usize * 100;
    for groups in worlds(world, LONG, &Faults::new()) {
        let results = all(groups, |group| {
            let mut values = values(group.rank(), length);
            group.all_reduce(&mut values).unwrap();
            values
        });
        for piece in 0..world {
            let range = piece as usize * 100..(piece as usize + 1) * 100;
            let expected = &ring_sum(world, piece, length)[range.clone()];
            assert_eq!(bits(&results[0][range]), bits(expected));
        }
    }
}

#[test]
fn broadcast_brings_the_roots_values_to_all() {
    for length in [0, 10, 3 * CHUNK + 1] {
        for groups in worlds(3, LONG, &Faults::new()) {
            let results = all(groups, |group| {
                let mut found = values(group.rank(), length);
                group.broadcast(&mut found, 2).unwrap();
                let mut data = vec![group.rank() as u8; length];
                group.broadcast_bytes(&mut data, 1).unwrap();
                (found, data)
            });
            for (found, data) in results {
                assert_eq!(found, values(2, length));
                assert_eq!(data, vec![1; length]);
            }
        }
    }
}

#[test]
fn bytes_of_unequal_length_are_gathered_by_rank() {
    for groups in worlds(4, LONG, &Faults::new()) {
        let lengths = [0, 5, 3 << 20, 40];
        let results = all(groups, |group| {
            let mine = vec![group.rank() as u8; lengths[group.rank() as usize]];
            group.barrier().unwrap();
            group.all_gather_bytes(&mine).unwrap()
        });
        for result in results {
            let expected = (0..4).map(|rank| vec![rank as u8; lengths[rank]]);
            assert_eq!(result, expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn values_are_sent_from_rank_to_rank_between_other_operations() {
    for groups in worlds(3, LONG, &Faults::new()) {
        all(groups, |group| {
            let length = 5 * CHUNK + 3;
            for _ in 0..3 {
                match group.rank() {
                    0 => group.send(2, &values(0, length)).unwrap(),
                    2 => {
                        let mut found = vec![0.0; length];
                        group.recv(0, &mut found).unwrap();
                        assert_eq!(found, values(0, length));
                    }
                    _ => {}
                }
                group.all_reduce(&mut [1.0; 8]).unwrap();
            }
        });
    }
}

#[test]
fn a_killed_rank_is_an_error_on_every_rank_long_before_the_timeout() {
    for operation in 0..3 {
        for groups in worlds(4, LONG, &Faults::new().kill(2, operation)) {
            let started = Instant::now();
            let results = all(groups, |group| {
                let mut values = values(group.rank(), 10 * CHUNK);
                let mut run = || {
                    group.all_reduce(&mut values)?;
                    group.broadcast(&mut values, 0)?;
                    group.all_gather_bytes(b"x")?;
                    group.all_reduce(&mut values)
                };
                (run(), group.barrier())
            });
            assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
            for (rank, (first, later)) in results.into_iter().enumerate() {
                let (first, later) = (first.unwrap_err(), later.unwrap_err());
                assert_eq!(first.to_string(), later.to_string(), "a failed group stays failed");
                match first {
                    CommError::Killed => assert_eq!(rank, 2),
                    CommError::PeerLost { rank: lost } => {
                        assert!(rank != 2 && lost as usize != rank, "rank {rank} blames {lost}");
                    }
                    other => panic!("rank {rank}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_dropped_link_ends_the_operation_on_every_rank() {
    for groups in worlds(3, LONG, &Faults::new().drop_link(0, 1, 1)) {
        let started = Instant::now();
        let results = all(groups, |group| {
            let mut values = values(group.rank(), 10 * CHUNK);
            group.all_reduce(&mut values).unwrap();
            group.all_reduce(&mut values)
        });
        assert!(started.elapsed() < LONG / 2);
        for result in results {
            assert!(matches!(result, Err(CommError::PeerLost { .. })), "{result:?}");
        }
    }
}

#[test]
fn a_silent_rank_is_a_timeout_or_a_loss_on_every_other_rank() {
    for groups in worlds(3, SHORT, &Faults::new().delay(1, 2, 1, 3 * SHORT)) {
        let started = Instant::now();
        let results = all(groups, |group| {
            let mut values = values(group.rank(), 100);
            group.all_reduce(&mut values).unwrap();
            group.all_reduce(&mut values)
        });
        assert!(started.elapsed() < 10 * SHORT, "{:?}", started.elapsed());
        let mut timeouts = 0;
        for result in results {
            match result.unwrap_err() {
                CommError::Timeout { operation: Operation::AllReduce, .. } => timeouts += 1,
                CommError::PeerLost { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(timeouts >= 1);
    }
}

#[test]
fn a_delay_within_the_timeout_changes_nothing() {
    for groups in worlds(3, LONG, &Faults::new().delay(1, 2, 0, SHORT / 8)) {
        let results = all(groups, |group| {
            let mut values = values(group.rank(), 3 * CHUNK);
            group.all_reduce(&mut values).unwrap();
            values
        });
        assert!(results.iter().all(|result| bits(result) == bits(&results[0])));
    }
}

#[test]
fn a_garbled_header_is_refused_and_its_sender_named() {
    for groups in worlds(3, LONG, &Faults::new().garble(2, 0, 1)) {
        let results = all(groups, |group| {
            let mut values = values(group.rank(), 100);
            group.all_reduce(&mut values).unwrap();
            group.all_reduce(&mut values)
        });
        assert!(matches!(results[0], Err(CommError::Protocol { rank: 2, .. })), "{:?}", results[0]);
        assert!(results.iter().all(Result::is_err));
    }
}

#[test]
fn ranks_that_do_not_do_the_same_are_told_so() {
    for groups in worlds(2, LONG, &Faults::new()) {
        let results = all(groups, |group| {
            let length = if group.rank() == 0 { 100 } else { 101 };
            group.all_reduce(&mut vec![1.0; length])
        });
        assert!(results.iter().any(|result| matches!(result, Err(CommError::Protocol { .. }))));
    }
    for groups in worlds(2, LONG, &Faults::new()) {
        let results = all(groups, |group| match group.rank() {
            0 => group.all_reduce(&mut [1.0; 10]),
            _ => group.barrier(),
        });
        assert!(results.iter().any(|result| matches!(result, Err(CommError::Protocol { .. }))));
        assert!(results.iter().all(Result::is_err));
    }
}

#[test]
fn impossible_arguments_are_refused_and_end_the_group() {
    for groups in worlds(2, LONG, &Faults::new()) {
        let results = all(groups, |group| match group.rank() {
            0 => group.send(2, &[0.0; 4]),
            _ => group.recv(0, &mut [0.0; 4]),
        });
        assert!(matches!(results[0], Err(CommError::Argument { .. })));
        assert!(results[1].is_err());
    }
}

#[test]
fn ranks_of_different_epochs_do_not_come_together() {
    let results = connect(2, LONG, &Faults::new(), |config| {
        config.epoch += u64::from(config.rank);
    });
    for (rank, result) in (0..2_u32).zip(results) {
        let (ours, theirs) = (3 + u64::from(rank), 4 - u64::from(rank));
        match result.unwrap_err() {
            CommError::EpochMismatch { rank: peer, ours: found, theirs: other } => {
                assert_eq!((peer, found, other), (1 - rank, ours, theirs));
            }
            other => panic!("rank {rank}: {other:?}"),
        }
    }
}

#[test]
fn ranks_of_different_runs_or_worlds_do_not_come_together() {
    let runs: [fn(&mut GroupConfig); 2] = [
        |config| config.run.push_str(if config.rank == 0 { "a" } else { "b" }),
        |config| config.island.push_str(if config.rank == 0 { "a" } else { "b" }),
    ];
    for change in runs {
        let results = connect(2, LONG, &Faults::new(), change);
        for result in results {
            assert!(matches!(result, Err(CommError::Protocol { .. })), "{result:?}");
        }
    }
}

#[test]
fn a_rank_that_never_comes_is_a_timeout_that_names_it() {
    let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
    let absent = Endpoint::bind("127.0.0.1:0").unwrap().address().to_string();
    let addresses = [endpoint.address().to_string(), absent];
    let error = endpoint.connect(config(0, 2, SHORT), &addresses).unwrap_err();
    assert!(matches!(error, CommError::Timeout { rank: 1, .. }), "{error:?}");
}

#[test]
fn strangers_are_refused_and_do_not_disturb_the_group() {
    let ends = [0, 1].map(|_| Endpoint::bind("127.0.0.1:0").unwrap());
    let addresses = ends.each_ref().map(|end| end.address().to_string());
    let [first, second] = ends;
    let addresses = &addresses;
    thread::scope(|scope| {
        let first = scope.spawn(move || first.connect(config(0, 2, LONG), addresses).unwrap());
        let mut noise = std::net::TcpStream::connect(&addresses[0]).unwrap();
        noise.write_all(&[0xff; 5000]).unwrap();
        let hello = |from_rank, epoch| v1::Hello {
            run: "run".to_owned(),
            island: "island".to_owned(),
            epoch,
            from_rank,
            to_rank: 0,
            world_size: 2,
        };
        let refusals = [
            (None, Code::InvalidArgument),
            (Some(hello(1, 2)), Code::FailedPrecondition),
            (Some(hello(1, 4)), Code::FailedPrecondition),
            (Some(hello(0, 3)), Code::AlreadyExists),
            (Some(hello(7, 3)), Code::AlreadyExists),
        ];
        for (hello, code) in refusals {
            assert_eq!(call_as_a_stranger(&addresses[0], hello), code);
        }
        let mut second = second.connect(config(1, 2, LONG), addresses).unwrap();
        let second = scope.spawn(move || second.all_reduce(&mut [1.0; 100]));
        first.join().unwrap().all_reduce(&mut [1.0; 100]).unwrap();
        second.join().unwrap().unwrap();
    });
}

/// Opens a stream with the generated client; returns how it was refused.
fn call_as_a_stranger(address: &str, hello: Option<v1::Hello>) -> Code {
    runtime().unwrap().block_on(async {
        let client = CollectiveClient::connect(format!("http://{address}")).await;
        let frames = tokio_stream::iter([v1::Frame { hello, ..v1::Frame::default() }]);
        client.unwrap().stream(frames).await.unwrap_err().code()
    })
}

#[test]
fn an_address_in_use_and_a_bad_configuration_are_refused() {
    let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
    let again = Endpoint::bind(&endpoint.address().to_string());
    assert!(matches!(again, Err(CommError::Listen { .. })));
    let error = endpoint.connect(config(2, 2, LONG), &[]).unwrap_err();
    assert!(matches!(error, CommError::Config { .. }));
}

#[test]
fn a_group_of_one_does_nothing() {
    let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
    let address = endpoint.address().to_string();
    let mut group = endpoint.connect(config(0, 1, SHORT), &[address]).unwrap();
    let mut data = [1.0, 2.0];
    group.all_reduce(&mut data).unwrap();
    group.broadcast(&mut data, 0).unwrap();
    group.barrier().unwrap();
    assert_eq!(group.all_gather_bytes(b"x").unwrap(), [b"x"]);
    assert_eq!(data, [1.0, 2.0]);
    assert!(matches!(group.send(0, &data), Err(CommError::Argument { .. })));
}

#[test]
fn groups_come_and_go_many_times_and_never_lose_the_last_bytes() {
    for round in 0..50 {
        let groups = over_grpc(2 + round % 3, LONG, &Faults::new());
        let results = all(groups, |group| {
            let mut values = values(group.rank(), CHUNK * 3 + 7);
            group.all_reduce(&mut values).unwrap();
            // Ends at unlike times: the root is done first and leaves while others receive.
            group.broadcast(&mut values, round % 2).unwrap();
            values
        });
        assert!(results.iter().all(|result| bits(result) == bits(&results[0])), "round {round}");
    }
}

#[test]
fn an_island_comes_back_at_its_old_addresses_after_a_good_end_and_after_a_failure() {
    let mut addresses = vec!["127.0.0.1:0".to_owned(); 3];
    for epoch in 0..6 {
        let ends: Vec<_> = addresses.iter().map(|listen| Endpoint::bind(listen).unwrap()).collect();
        addresses = ends.iter().map(|end| end.address().to_string()).collect();
        let faults = if epoch % 2 == 0 { Faults::new() } else { Faults::new().kill(1, 1) };
        thread::scope(|scope| {
            for (rank, end) in (0..3).zip(ends) {
                let (addresses, faults) = (&addresses, faults.clone());
                scope.spawn(move || {
                    let config = GroupConfig { epoch, ..config(rank, 3, LONG) };
                    let mut group = end.connect_with(config, addresses, faults).unwrap();
                    group.all_reduce(&mut [1.0; 1000]).unwrap();
                    assert_eq!(group.all_reduce(&mut [1.0; 1000]).is_ok(), epoch % 2 == 0);
                });
            }
        });
    }
}

#[test]
fn a_rank_that_is_busy_elsewhere_still_gets_what_a_rank_that_left_had_sent() {
    let groups = over_grpc(2, LONG, &Faults::new());
    let (left, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let left = std::sync::Mutex::new(Some(left));
    all(groups, |group| {
        group.barrier().unwrap();
        if group.rank() == 0 {
            group.send(1, &values(0, CHUNK / 2)).unwrap();
            let group = std::mem::replace(group, Group::in_memory(1).remove(0));
            drop(group);
            left.lock().unwrap().take();
        } else {
            wait.lock().unwrap().recv().unwrap_err();
            let mut found = vec![0.0; CHUNK / 2];
            group.recv(0, &mut found).unwrap();
            assert_eq!(found, values(0, CHUNK / 2));
            assert!(matches!(group.barrier(), Err(CommError::PeerLost { rank: 0 })));
        }
    });
}

#[test]
fn a_group_may_be_dropped_on_a_thread_that_must_not_block() {
    let mut groups = over_grpc(2, LONG, &Faults::new());
    let other = groups.pop();
    let peer = thread::spawn(move || drop(other));
    runtime().unwrap().block_on(async { drop(groups) });
    peer.join().unwrap();
}

#[test]
fn a_group_works_on_a_blocking_thread_of_an_asynchronous_program() {
    let groups = over_grpc(2, LONG, &Faults::new());
    runtime().unwrap().block_on(async {
        let mut tasks = Vec::new();
        for mut group in groups {
            tasks.push(tokio::task::spawn_blocking(move || group.all_reduce(&mut [1.0; 10])));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_ring_exchanges_values_of_unlike_lengths() {
    let lengths = [0, 5 * CHUNK + 3, 17];
    for groups in worlds(3, LONG, &Faults::new()) {
        all(groups, |group| {
            for _ in 0..3 {
                let (rank, next) = (group.rank(), (group.rank() + 1) % 3);
                let previous = (rank + 2) % 3;
                let mut found = vec![0.0; lengths[previous as usize]];
                let mine = values(rank, lengths[rank as usize]);
                group.exchange(next, &mine, previous, &mut found).unwrap();
                assert_eq!(found, values(previous, found.len()));
                group.barrier().unwrap();
            }
        });
    }
}

#[test]
fn two_ranks_exchange_more_than_the_buffers_hold_at_once() {
    let length = (8 << 20) / 4;
    for groups in worlds(2, LONG, &Faults::new()) {
        all(groups, |group| {
            let (rank, peer) = (group.rank(), 1 - group.rank());
            let mut found = vec![0.0; length];
            group.exchange(peer, &values(rank, length), peer, &mut found).unwrap();
            assert_eq!(found, values(peer, length));
        });
    }
}

#[test]
fn an_exchange_with_oneself_is_a_copy_and_has_one_length() {
    for groups in worlds(2, LONG, &Faults::new()) {
        all(groups, |group| {
            let rank = group.rank();
            let mut found = vec![0.0; 100];
            group.exchange(rank, &values(rank, 100), rank, &mut found).unwrap();
            assert_eq!(found, values(rank, 100));
            let error = group.exchange(rank, &[1.0; 3], rank, &mut [0.0; 2]).unwrap_err();
            assert!(matches!(error, CommError::Argument { .. }), "{error:?}");
        });
    }
}

#[test]
fn an_exchange_of_other_lengths_than_expected_is_refused() {
    for groups in worlds(2, LONG, &Faults::new()) {
        let results = all(groups, |group| {
            let peer = 1 - group.rank();
            group.exchange(peer, &[1.0; 100], peer, &mut vec![0.0; 100 + group.rank() as usize])
        });
        assert!(matches!(results[1], Err(CommError::Protocol { rank: 0, .. })), "{results:?}");
    }
}

#[test]
fn a_peer_lost_in_an_exchange_is_an_error_within_the_timeout() {
    let silent = Faults::new().delay(1, 2, 1, 3 * SHORT);
    for (timeout, faults) in [(LONG, Faults::new().kill(1, 1)), (SHORT, silent)] {
        for groups in worlds(3, timeout, &faults) {
            let started = Instant::now();
            let results = all(groups, |group| {
                let (next, previous) = ((group.rank() + 1) % 3, (group.rank() + 2) % 3);
                let mut found = vec![0.0; 20 * CHUNK];
                group.barrier().unwrap();
                group.exchange(next, &vec![1.0; 20 * CHUNK], previous, &mut found)?;
                // A rank that the silent one owes nothing learns of it here.
                group.barrier()
            });
            assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
            assert!(results.iter().all(Result::is_err), "{results:?}");
        }
    }
}

#[test]
fn subgroups_work_on_other_threads_while_their_parent_works() {
    let lists: [&[u32]; 5] = [&[0, 3], &[1, 2, 4], &[1, 2, 4], &[0, 3], &[1, 2, 4]];
    for groups in worlds(5, LONG, &Faults::new()) {
        all(groups, |group| {
            let members = lists[group.rank() as usize];
            let mut first = group.subgroup("127.0.0.1:0", "first", members).unwrap().unwrap();
            let mut second = group.subgroup("127.0.0.1:0", "second", members).unwrap().unwrap();
            assert_eq!(members[first.rank() as usize], group.rank());
            assert_eq!(first.timeout(), group.timeout());
            let work = |group: &mut Group, expected: f32| {
                for _ in 0..20 {
                    let mut values = vec![1.0; 2 * CHUNK];
                    group.all_reduce(&mut values).unwrap();
                    assert!(values.iter().all(|value| *value == expected));
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| work(&mut first, members.len() as f32));
                scope.spawn(|| work(&mut second, members.len() as f32));
                work(group, 5.0);
            });
        });
    }
}

#[test]
fn subgroups_have_subgroups_and_may_be_of_one_rank_or_none() {
    for groups in worlds(3, LONG, &Faults::new()) {
        all(groups, |group| {
            let members: &[u32] = if group.rank() == 0 { &[] } else { &[1, 2] };
            let pair = group.subgroup("127.0.0.1:0", "pair", members).unwrap();
            assert_eq!(pair.is_none(), group.rank() == 0);
            if let Some(mut pair) = pair {
                let own = [pair.rank()];
                let mut alone = pair.subgroup("127.0.0.1:0", "alone", &own).unwrap().unwrap();
                assert_eq!((alone.rank(), alone.world_size()), (0, 1));
                alone.all_reduce(&mut [1.0; 10]).unwrap();
            }
            group.barrier().unwrap();
        });
    }
}

#[test]
fn subgroups_that_contradict_each_other_are_refused_on_every_rank() {
    let contradictions: [[(&str, &[u32]); 3]; 5] = [
        [("a", &[0, 1]), ("a", &[0, 1, 2]), ("a", &[])],
        [("a", &[0, 1]), ("b", &[0, 1]), ("a", &[])],
        [("a", &[1]), ("a", &[]), ("a", &[])],
        [("a", &[1, 0]), ("a", &[1, 0]), ("a", &[])],
        [("a", &[0, 7]), ("a", &[]), ("a", &[])],
    ];
    for wishes in contradictions {
        for groups in worlds(3, LONG, &Faults::new()) {
            let results = all(groups, |group| {
                let (name, members) = wishes[group.rank() as usize];
                group.subgroup("127.0.0.1:0", name, members).map(drop)
            });
            for result in results {
                let refused = matches!(result, Err(CommError::Config { .. }));
                assert!(refused, "{wishes:?}: {result:?}");
            }
        }
    }
}

/// State and timer of this machine's connections from or to a port, as `/proc/net/tcp` shows them.
fn connections(port: u16) -> Vec<(String, String)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row[1].ends_with(&port) || row[2].ends_with(&port));
    rows.map(|row| (row[3].to_owned(), row[5][..2].to_owned())).collect()
}

#[test]
fn the_systems_ask_each_other_for_signs_of_life_on_every_connection_of_a_group() {
    let endpoints = [0, 1].map(|_| Endpoint::bind("127.0.0.1:0").unwrap());
    let addresses = [0, 1].map(|rank: usize| endpoints[rank].address());
    let texts = addresses.map(|address| address.to_string());
    let groups = thread::scope(|scope| {
        let ranks = (0..).zip(endpoints).map(|(rank, endpoint)| {
            let texts = &texts;
            scope.spawn(move || endpoint.connect(config(rank, 2, LONG), texts).unwrap())
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
    });
    let (established, keepalive) = ("01".to_owned(), "02".to_owned());
    let deadline = Instant::now() + LONG;
    for address in addresses {
        // The bytes just sent are acknowledged first, which has a timer of its own.
        loop {
            let ends = connections(address.port());
            let ends: Vec<_> = ends.into_iter().filter(|end| end.0 == established).collect();
            if ends.len() == 2 && ends.iter().all(|end| end.1 == keepalive) {
                break;
            }
            assert!(Instant::now() < deadline, "{ends:?}");
            thread::yield_now();
        }
    }
    drop(groups);
}
