//! Islands of CPU devices, as the benchmarks of sharding need them.

use std::sync::Arc;

use anyhow::Result;
use collective::Group;
use member::{Theta, span_of};
use plan::model::Llama;
use plan::spec::{
    BatchSpec, CardSpec, DeviceSpec, IslandSpec, OptimizerSpec, RankSpec, Sharding, StageSpec,
};
use worker::devices::{Devices, DevicesSetup};
use worker::interrupt::Interrupt;
use worker::{init, parameters};

/// Seed of initial parameters and of the subspace.
const SEED: u64 = 5;

/// Pipeline stages of so many layers each.
pub fn stages(layers: &[u32]) -> Vec<StageSpec> {
    layers.iter().map(|layers| StageSpec { layers: *layers, recompute: false }).collect()
}

/// The only island of a run: a thread for every device, `devices` of them in a process.
pub fn island(sharding: Sharding, batches: Vec<BatchSpec>, devices: usize) -> IslandSpec {
    let positions = sharding.tensor as usize * sharding.stages.len() * batches.len();
    let card = CardSpec {
        product: "cpu".into(),
        device: DeviceSpec::Cpu { threads: 1, speed: 1.0 },
        memory_bytes: 0,
        planned_bytes: 0,
    };
    IslandSpec {
        name: "bench".into(),
        index: 0,
        epoch: 1,
        inner_steps: 1,
        tokens_per_second: 1.0,
        sharding,
        batches,
        ranks: vec![RankSpec { node: None, devices: vec![card; devices] }; positions / devices],
    }
}

/// This rank's devices with initial parameters; all ranks of the group call it together.
///
/// # Errors
/// An island that does not fit the model, a rank that is gone.
pub fn connect(
    group: &mut Group,
    model: &Llama,
    island: &IslandSpec,
    optimizer: &OptimizerSpec,
) -> Result<Devices> {
    let tensors = parameters::Layout::new(model.tensors());
    let layout = Arc::new(tensors.canonical()?);
    let setup = DevicesSetup {
        model,
        layout: Arc::clone(&layout),
        island,
        optimizer,
        seed: SEED,
        listen: "127.0.0.1:0",
        interrupt: &Interrupt::default(),
    };
    let mut devices = Devices::connect(group, &setup)?;
    let mut flat = vec![0.0; tensors.numel()];
    init::fill_all(SEED, &tensors, model.config().initializer_range, &mut flat);
    let pieces = span_of(&layout, group.rank(), group.world_size());
    let mut span = vec![0.0; layout.span(pieces.clone()).len()];
    layout.gather(pieces, &flat, &mut span);
    devices.spread(group, &span)?;
    Ok(devices)
}
