//! Mishaps: faults, done to the world.

use super::{Happening, World};
use crate::coordinator::Disk;
use crate::faults::Mishap;
use crate::island::Busy;

impl World {
    pub(crate) fn mishap(&mut self, mishap: Mishap) {
        self.tell(|| format!("MISHAP {mishap:?}"));
        let until = |ms: u64, now: u64, quiet: u64| (now + ms).min(quiet);
        let (now, quiet) = (self.now, self.plan.quiet_at);
        match mishap {
            Mishap::Crash { island, away } => self.kill(island, away),
            Mishap::Freeze { island, ms } => {
                self.islands[island].frozen_until = until(ms, now, quiet);
            }
            Mishap::CutOff { island, ms } => {
                self.islands[island].cut_until = until(ms, now, quiet);
            }
            Mishap::LoseDisk { island, away } => {
                self.kill(island, away);
                self.islands[island].disk.clear();
                self.islands[island].kept = 0;
            }
            Mishap::FlipBit { island } => {
                // Once in a world: what most hold is right.
                self.islands[island].flips = !std::mem::replace(&mut self.flipped, true);
            }
            Mishap::Join { island } => {
                let life = self.islands[island].life;
                self.after(0, Happening::Restart { island, life });
            }
            Mishap::CrashCoordinator { away } => self.kill_coordinator(away),
            Mishap::OlderStore { away } => {
                let older = self.older.front().cloned().unwrap_or_default();
                self.lose_store(older, away);
            }
            Mishap::LoseStore { away } => {
                self.lose_store(Disk::default(), away);
            }
        }
    }

    pub(crate) fn kill(&mut self, island: usize, away: u64) {
        if !self.islands[island].alive || self.islands[island].busy == Busy::Ended {
            return;
        }
        self.islands[island].die();
        let life = self.islands[island].life;
        self.after(away, Happening::Restart { island, life });
    }

    fn kill_coordinator(&mut self, away: u64) {
        self.coordinator = None;
        self.term += 1;
        let term = self.term;
        self.after(away, Happening::CoordinatorUp { term });
    }

    /// Loses the coordinator's store. Views that were shown before are not on the disk any more,
    /// and cannot be held against it.
    fn lose_store(&mut self, left: Disk, away: u64) {
        if self.islands.iter().any(|island| island.busy == Busy::Ended) {
            // Nobody is left to bring the run back, and nobody has to.
            return;
        }
        self.disk = left;
        self.shown = None;
        self.judge.store_lost();
        self.kill_coordinator(away);
    }
}
