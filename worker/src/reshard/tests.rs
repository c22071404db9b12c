//! Over random layouts: every value goes to each place that holds it, and from one place back.

use std::thread;

use plan::model::{Llama, LlamaConfig};
use plan::shard::Grid;
use plan::spec::{PipelineCompression, Sharding, StageSpec};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::parameters;
use crate::testing::cases;

/// A way to cut a model, and who has which part.
#[derive(Clone, Debug)]
struct Case {
    tied: bool,
    tensor: u32,
    layers: Vec<u32>,
    data: u32,
    vocabulary: u32,
    hidden: u32,
    tables: bool,
    owners: Vec<u32>,
    ranks: u32,
}

impl Case {
    fn model(&self) -> Llama {
        let config = LlamaConfig {
            hidden_size: self.hidden,
            intermediate_size: 128,
            num_hidden_layers: self.layers.iter().sum(),
            num_attention_heads: 2,
            num_key_value_heads: 2,
            head_dim: Some(64),
            vocab_size: self.vocabulary,
            max_position_embeddings: 16,
            rms_norm_eps: 1e-5,
            rope_theta: 500.0,
            tie_word_embeddings: self.tied,
            initializer_range: 0.2,
        };
        config.validate().unwrap()
    }

    fn sharded(&self) -> Sharded {
        let stage = |layers: &u32| StageSpec { layers: *layers, recompute: false };
        let sharding = Sharding {
            tensor: self.tensor,
            stages: self.layers.iter().map(stage).collect(),
            compression: self.tables.then_some(PipelineCompression { rank: 8 }),
        };
        Sharded::new(&self.model(), &sharding).unwrap()
    }

    fn place(&self, rank: u32) -> Place {
        let stages = self.layers.len() as u32;
        let grid = Grid { data: self.data, stages, tensor: self.tensor };
        Place { grid, owners: self.owners.clone(), rank, listen: String::new() }
    }
}

/// Grids of up to twelve devices, given to up to three ranks as it comes.
fn grids() -> impl Strategy<Value = Case> {
    let shape = (any::<bool>(), 1u32..=2, vec(1u32..=2, 1..=3), 1u32..=2);
    let sizes = (65u32..200, 70u32..130, any::<bool>(), 1u32..=3);
    (shape, sizes).prop_flat_map(|((tied, tensor, layers, data), sizes)| {
        let (vocabulary, hidden, tables, ranks) = sizes;
        let devices = tensor * layers.len() as u32 * data;
        let ranks = ranks.min(devices);
        // No rank is without a device.
        let rest = vec(0..ranks, (devices - ranks) as usize);
        let owners = rest.prop_map(move |rest| (0..ranks).chain(rest).collect::<Vec<u32>>());
        owners.prop_shuffle().prop_map(move |owners| Case {
            tied,
            tensor,
            layers: layers.clone(),
            data,
            vocabulary,
            hidden,
            tables,
            owners,
            ranks,
        })
    })
}

/// What a rank's devices got, and what it collected again after each device had added to its values
/// four million times the number of its replica.
struct Got {
    devices: Vec<(Position, Vec<f32>, Vec<f32>)>,
    collected: Vec<f32>,
}

const REPLICA: f32 = 4_000_000.0;

fn rank(case: &Case, layout: &Arc<Layout>, mut group: Group, canonical: &[f32]) -> Got {
    let sharded = Arc::new(case.sharded());
    let place = case.place(group.rank());
    let positions: Vec<Position> = place.own().collect();
    let numel = |at: &Position| {
        let slices = sharded.slices(at.stage, at.tensor);
        slices.iter().map(|slice| sharded.local(slice).numel() as usize).sum::<usize>()
    };
    let table = if case.tables { (case.vocabulary * case.hidden) as usize } else { 0 };
    let mut buffers: Vec<(Vec<f32>, Vec<f32>)> =
        positions.iter().map(|at| (vec![-1.0; numel(at)], vec![-1.0; table])).collect();
    let reshard = Reshard::new(Arc::clone(layout), Arc::clone(&sharded), place);
    let own = layout.span(span_of(layout, group.rank(), group.world_size()));
    let mut devices: Vec<DeviceValues<'_>> = buffers
        .iter_mut()
        .map(|(flat, table)| DeviceValues { flat, table: case.tables.then_some(&mut table[..]) })
        .collect();
    reshard.spread(&mut group, &canonical[own.clone()], &mut devices).unwrap();
    let got = positions.iter().zip(&buffers);
    let got = got.map(|(at, (flat, table))| (*at, flat.clone(), table.clone())).collect();
    for (at, (flat, _)) in positions.iter().zip(&mut buffers) {
        flat.iter_mut().for_each(|value| *value += REPLICA * at.data as f32);
    }
    let flats: Vec<&[f32]> = buffers.iter().map(|(flat, _)| &flat[..]).collect();
    let mut collected = vec![-1.0; own.len()];
    reshard.collect(&mut group, &flats, &mut collected).unwrap();
    Got { devices: got, collected }
}

/// What a device should have: its slices of the whole model, in which every value is its place.
fn expected(sharded: &Sharded, starts: &[usize], at: Position) -> Vec<f32> {
    let mut values = Vec::new();
    for slice in sharded.slices(at.stage, at.tensor) {
        let width = sharded.whole(slice.tensor).columns.end as usize;
        for row in slice.rows.clone() {
            let row = starts[slice.tensor] + row as usize * width;
            values.extend(slice.columns.clone().map(|column| (row + column as usize) as f32));
        }
    }
    values
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let flat_layout = parameters::Layout::new(case.model().tensors());
    let starts: Vec<usize> = flat_layout.ranges().map(|(_, range)| range.start).collect();
    let layout = Arc::new(flat_layout.canonical().unwrap());
    // All of them are exact in f32.
    let flat: Vec<f32> = (0..flat_layout.numel()).map(|index| index as f32).collect();
    let all = 0..layout.pieces();
    let mut canonical = vec![0.0; flat.len()];
    layout.gather(all, &flat, &mut canonical);
    let canonical = &canonical;
    let groups = Group::in_memory(case.ranks);
    let got: Vec<Got> = thread::scope(|scope| {
        let ranks = groups.into_iter().map(|group| {
            let layout = &layout;
            scope.spawn(move || rank(case, layout, group, canonical))
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    let sharded = case.sharded();
    for got in &got {
        for (at, values, table) in &got.devices {
            prop_assert!(*values == expected(&sharded, &starts, *at), "{:?}", at);
            prop_assert!(table.iter().enumerate().all(|(at, value)| *value == at as f32));
        }
    }
    let devices: usize = got.iter().map(|got| got.devices.len()).sum();
    prop_assert_eq!(devices, case.owners.len());
    for (index, got) in got.iter().enumerate() {
        let own = layout.span(span_of(&layout, index as u32, case.ranks));
        // Of several replicas it is a rank's own that it keeps.
        let replica = got.devices[0].0.data;
        let expected = canonical[own].iter().map(|value| value + REPLICA * replica as f32);
        prop_assert!(got.collected.iter().copied().eq(expected), "rank {index}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn every_value_goes_to_each_that_holds_it_and_back_from_one_of_them(case in grids()) {
        check(&case)?;
    }
}

#[test]
fn a_single_device_gets_the_model_in_the_order_of_its_tensors() {
    let case = Case {
        tied: false,
        tensor: 1,
        layers: vec![2],
        data: 1,
        vocabulary: 100,
        hidden: 96,
        tables: false,
        owners: vec![0],
        ranks: 1,
    };
    check(&case).unwrap();
    let sharded = case.sharded();
    let starts: Vec<usize> = parameters::Layout::new(case.model().tensors())
        .ranges()
        .map(|(_, range)| range.start)
        .collect();
    let whole = expected(&sharded, &starts, Position { data: 0, stage: 0, tensor: 0 });
    assert!(whole.iter().enumerate().all(|(index, value)| *value == index as f32));
}

#[test]
fn ranks_send_and_receive_in_turns_that_meet() {
    for world in 1..6u32 {
        let groups = Group::in_memory(world);
        let all: Vec<Vec<(u32, u32)>> = groups.iter().map(|group| turns(group).collect()).collect();
        for (me, mine) in (0..).zip(&all) {
            let mut met: Vec<u32> = mine.iter().map(|(to, _)| *to).collect();
            for (turn, (to, from)) in mine.iter().enumerate() {
                assert_eq!(all[*to as usize][turn].1, me, "whom a rank sends to waits for it");
                assert_eq!(all[*from as usize][turn].0, me);
            }
            met.sort_unstable();
            assert_eq!(met, (0..world).collect::<Vec<_>>(), "each is met once");
        }
    }
}

#[test]
fn a_rank_that_goes_in_the_middle_ends_the_others() {
    let case = Case {
        tied: true,
        tensor: 2,
        layers: vec![1, 1],
        data: 1,
        vocabulary: 200,
        hidden: 128,
        tables: false,
        owners: vec![0, 0, 1, 1],
        ranks: 2,
    };
    let flat_layout = parameters::Layout::new(case.model().tensors());
    let layout = Arc::new(flat_layout.canonical().unwrap());
    let mut groups = Group::in_memory(2);
    drop(groups.pop());
    let mut group = groups.pop().unwrap();
    let sharded = Arc::new(case.sharded());
    let reshard = Reshard::new(Arc::clone(&layout), sharded, case.place(0));
    let mut span = vec![0.0; layout.span(span_of(&layout, 0, 2)).len()];
    let buffers = vec![vec![0.0; flat_layout.numel()]; 2];
    let flats: Vec<&[f32]> = buffers.iter().map(|flat| &flat[..]).collect();
    let error = reshard.collect(&mut group, &flats, &mut span).unwrap_err();
    assert!(matches!(error, CommError::PeerLost { rank: 1 }), "{error}");
}
