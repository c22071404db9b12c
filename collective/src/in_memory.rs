//! Links within one process: the queues are joined directly.

use tokio::sync::mpsc;

use crate::faults::Faults;
use crate::links::{Links, QUEUE_MESSAGES};

/// The links of all ranks of a world.
pub(crate) fn links(world_size: u32, faults: &Faults) -> Vec<Links> {
    let world = world_size as usize;
    let mut outs: Vec<Vec<_>> = Vec::with_capacity(world);
    let mut ins: Vec<Vec<_>> = (0..world).map(|_| Vec::with_capacity(world)).collect();
    for from in 0..world {
        let mut row = Vec::with_capacity(world);
        for (to, ins) in ins.iter_mut().enumerate() {
            if from == to {
                row.push(None);
                ins.push(None);
                continue;
            }
            let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
            row.push(Some((sender, None)));
            ins.push(Some(receiver));
        }
        outs.push(row);
    }
    let ranks = (0..world_size).zip(outs.into_iter().zip(ins));
    ranks.map(|(rank, (outs, ins))| Links::new(rank, outs, ins, faults.clone())).collect()
}
