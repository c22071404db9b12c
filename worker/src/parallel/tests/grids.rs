//! Who is connected with whom, over all small grids and ways to give their devices to ranks.

use plan::shard::{Grid, Position};

use super::*;

fn place(grid: Grid, owners: &[u32], rank: u32) -> Place {
    Place { grid, owners: owners.to_vec(), rank, listen: "127.0.0.1:0".into() }
}

/// Connects all ranks; what each device has, by its position.
fn connected(grid: Grid, owners: &[u32], tied: bool) -> Vec<(Position, Links)> {
    let ranks = owners.iter().max().unwrap() + 1;
    let threads = Group::in_memory(ranks).into_iter().map(|mut group| {
        let place = place(grid, owners, group.rank());
        thread::spawn(move || {
            let links = build(&mut group, &place, tied).unwrap();
            let own: Vec<Position> = place.own().collect();
            assert_eq!(links.len(), own.len());
            own.into_iter().zip(links).collect::<Vec<_>>()
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().flat_map(|rank| rank.join().unwrap()).collect()
}

/// The numbers that a team of this position should add up: each device brings a power of two.
fn bit(grid: Grid, at: Position) -> f32 {
    (1u32 << grid.index(at)) as f32
}

/// All devices at once: each sums over each team that it has.
fn sums(grid: Grid, links: Vec<(Position, Links)>) -> Vec<(Position, [Option<f32>; 3])> {
    let threads = links.into_iter().map(|(at, links)| {
        thread::spawn(move || {
            let own = || Tensor::full([1], f64::from(bit(grid, at)), OPTIONS);
            let of = |team: &Team| {
                let mut tensor = own();
                team.sum(&mut tensor).unwrap();
                values(&tensor)[0]
            };
            let (tensor, tied) = (links.tensor.as_ref().map(of), links.tied.as_ref().map(of));
            let data = links.data.map(|mut reducer| {
                let gradient = own();
                reducer.ready(&gradient, 0..1).unwrap();
                reducer.finish(&gradient).unwrap();
                values(&gradient)[0]
            });
            (at, [tensor, tied, data])
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|device| device.join().unwrap()).collect()
}

/// The sum over those positions that are `like` it; nothing for one alone.
fn expected(grid: Grid, like: impl Fn(Position) -> bool) -> Option<f32> {
    let all: Vec<Position> = (0..grid.size()).map(|index| grid.position(index)).collect();
    let team: Vec<&Position> = all.iter().filter(|at| like(**at)).collect();
    (team.len() > 1).then(|| team.iter().map(|at| bit(grid, **at)).sum())
}

/// Owners of so many devices: one rank for all, one each, blocks of two, and every other one.
fn divisions(devices: u32) -> Vec<Vec<u32>> {
    let mut all = vec![vec![0; devices as usize], (0..devices).collect()];
    if devices > 2 {
        all.push((0..devices).map(|device| device / 2).collect());
        all.push((0..devices).map(|device| device % 2).collect());
    }
    all
}

#[test]
fn teams_are_those_that_share_layers_embeddings_and_shards_whoever_has_the_devices() {
    for (data, stages, tensor) in [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2), (1, 3, 2)]
    {
        let grid = Grid { data, stages, tensor };
        for owners in divisions(grid.size()) {
            for tied in [false, true] {
                for (at, found) in sums(grid, connected(grid, &owners, tied)) {
                    let is_end = at.stage == 0 || at.stage + 1 == stages;
                    let own = [
                        expected(grid, |other| (other.data, other.stage) == (at.data, at.stage)),
                        expected(grid, |other| {
                            let end = other.stage == 0 || other.stage + 1 == stages;
                            tied && is_end
                                && end
                                && (other.data, other.tensor) == (at.data, at.tensor)
                        }),
                        expected(grid, |other| {
                            (other.stage, other.tensor) == (at.stage, at.tensor)
                        }),
                    ];
                    assert_eq!(found, own, "{grid:?} {owners:?} tied: {tied}: {at:?}");
                }
            }
        }
    }
}

#[test]
fn lanes_join_each_stage_with_the_next_of_its_own_replica_and_part() {
    let grid = Grid { data: 2, stages: 3, tensor: 2 };
    for owners in divisions(grid.size()) {
        let links = connected(grid, &owners, false);
        let threads = links.into_iter().map(|(at, links)| {
            thread::spawn(move || {
                assert_eq!(links.before.is_some(), at.stage > 0, "{at:?}");
                assert_eq!(links.after.is_some(), at.stage < 2, "{at:?}");
                let own = || Tensor::full([1, 1], f64::from(grid.index(at)), OPTIONS);
                let mut sides: Vec<(Side, Position)> = Vec::new();
                sides.extend(
                    links.before.map(|side| (side, Position { stage: at.stage - 1, ..at })),
                );
                sides
                    .extend(links.after.map(|side| (side, Position { stage: at.stage + 1, ..at })));
                for (side, _) in &mut sides {
                    side.into.expect(1, [1, 1]).unwrap();
                    side.out.send(own()).unwrap();
                }
                for (side, other) in &sides {
                    let found = values(&side.into.receive(Device::Cpu).unwrap());
                    assert_eq!(found, [grid.index(*other) as f32], "{at:?}");
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|device| device.join().unwrap());
    }
}

#[test]
fn every_device_has_one_place_and_is_found_by_it() {
    let grid = Grid { data: 2, stages: 3, tensor: 2 };
    let owners: Vec<u32> = (0..12).map(|device| device * 5 % 3).collect();
    let all = place(grid, &owners, 1);
    let mut seen = Vec::new();
    for rank in 0..3 {
        for at in all.of(rank) {
            assert_eq!(all.owner(at), rank);
            seen.push(grid.index(at));
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    assert!(all.own().eq(all.of(1)));
    assert_eq!(all.of(7).count(), 0);
}
