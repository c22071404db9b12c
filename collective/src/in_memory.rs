//! Links within one process: the queues are joined directly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::faults::Faults;
use crate::links::{Links, QUEUE_MESSAGES_MAX};

/// The worlds of subgroups that some of their ranks have not come into yet, by name.
#[derive(Clone, Default)]
pub(crate) struct Worlds {
    waiting: Arc<Mutex<HashMap<String, Vec<Option<Links>>>>>,
}

impl Worlds {
    /// The links of one rank of a world: who comes first makes them all. Each rank takes its own
    /// before any comes for the next world of that name.
    pub(crate) fn take(&self, name: &str, rank: u32, world_size: u32) -> Links {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || links(world_size, &Faults::new()).into_iter().map(Some).collect();
        let world = waiting.entry(name.to_owned()).or_insert_with(make);
        let taken = world[rank as usize].take().expect("each rank comes once");
        if world.iter().all(Option::is_none) {
            waiting.remove(name);
        }
        taken
    }
}

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
            let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
            row.push(Some((sender, None)));
            ins.push(Some(receiver));
        }
        outs.push(row);
    }
    let ranks = (0..world_size).zip(outs.into_iter().zip(ins));
    ranks.map(|(rank, (outs, ins))| Links::new(rank, outs, ins, faults.clone())).collect()
}

#[cfg(test)]
mod tests;
