//! The meeting at which the ranks of one island find each other's addresses.
//!
//! Nothing of it is saved: after a restart of the coordinator the ranks that still wait ask again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rounds::request::Meet;
use rounds::types::Digest;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Longest wait for the other ranks in one call; the caller asks again.
pub(crate) const CALL_WAIT: Duration = Duration::from_secs(30);
/// A meeting nobody waits in and nobody asked for in so long may be given up.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// Islands that meet at a time.
const MEETINGS_MAX: usize = 4096;

/// Why ranks do not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MeetError {
    #[error("failed to meet as epoch {epoch} of island {island:?}: epoch {newest} has its place")]
    Superseded { island: String, epoch: u64, newest: u64 },
    #[error(
        "failed to meet: rank {rank} of epoch {epoch} of island {island:?} is already there with \
         another address; start again with the next epoch"
    )]
    Taken { island: String, epoch: u64, rank: u32 },
    #[error("failed to meet: the ranks of island {island:?} differ in {what}")]
    Differs { island: String, what: &'static str },
    #[error("failed to meet: {MEETINGS_MAX} islands are meeting already")]
    Full,
    #[error("failed to meet: of island {island:?}, {missing} ranks have not come yet")]
    Missing { island: String, missing: usize },
    #[error("failed to meet: the coordinator is stopping")]
    Stopped,
}

struct Meeting {
    epoch: u64,
    world_size: u32,
    plan_hash: Digest,
    /// Addresses by rank; dropping the sender ends the waits of those that were superseded.
    addresses: watch::Sender<Vec<Option<String>>>,
    touched: Instant,
}

/// All meetings, by island.
#[derive(Default)]
pub(crate) struct Meetings {
    by_island: Mutex<BTreeMap<String, Meeting>>,
}

impl Meeting {
    fn new(meet: &Meet) -> Meeting {
        Meeting {
            epoch: meet.who.epoch,
            world_size: meet.world_size,
            plan_hash: meet.plan_hash,
            addresses: watch::Sender::new(vec![None; meet.world_size as usize]),
            touched: Instant::now(),
        }
    }

    fn is_idle(&self) -> bool {
        self.addresses.receiver_count() == 0 && self.touched.elapsed() >= IDLE_AFTER
    }

    fn check(&self, meet: &Meet) -> Result<(), MeetError> {
        let island = meet.who.island.clone();
        if self.world_size != meet.world_size {
            return Err(MeetError::Differs { island, what: "the number of ranks" });
        }
        if self.plan_hash != meet.plan_hash {
            return Err(MeetError::Differs { island, what: "the plan" });
        }
        let there = self.addresses.borrow().get(meet.rank as usize).cloned().flatten();
        if there.is_some_and(|address| address != meet.address) {
            return Err(MeetError::Taken { island, epoch: meet.who.epoch, rank: meet.rank });
        }
        Ok(())
    }
}

impl Meetings {
    /// Names a rank's address and waits for the others; all addresses by rank.
    /// `is_alive`: the island is a member with this epoch, so its addresses stand.
    pub(crate) async fn meet(&self, meet: Meet, is_alive: bool) -> Result<Vec<String>, MeetError> {
        let island = meet.who.island.clone();
        let (epoch, mut addresses) = (meet.who.epoch, self.arrive(meet, is_alive)?);
        let complete = addresses.wait_for(|ranks| ranks.iter().all(Option::is_some));
        match timeout(CALL_WAIT, complete).await {
            Ok(Ok(ranks)) => return Ok(ranks.iter().flatten().cloned().collect()),
            Ok(Err(_)) => {
                let newest = self.lock().get(&island).map_or(epoch, |meeting| meeting.epoch);
                return Err(MeetError::Superseded { island, epoch, newest });
            }
            Err(_) => {}
        }
        let missing = addresses.borrow().iter().filter(|rank| rank.is_none()).count();
        Err(MeetError::Missing { island, missing })
    }

    fn arrive(
        &self,
        meet: Meet,
        is_alive: bool,
    ) -> Result<watch::Receiver<Vec<Option<String>>>, MeetError> {
        let mut meetings = self.lock();
        let (island, epoch) = (meet.who.island.clone(), meet.who.epoch);
        if !meetings.contains_key(&island) && meetings.len() >= MEETINGS_MAX {
            meetings.retain(|_, meeting| !meeting.is_idle());
            if meetings.len() >= MEETINGS_MAX {
                return Err(MeetError::Full);
            }
        }
        let meeting = meetings.entry(island.clone()).or_insert_with(|| Meeting::new(&meet));
        if meeting.epoch > epoch {
            return Err(MeetError::Superseded { island, epoch, newest: meeting.epoch });
        }
        if meeting.epoch < epoch {
            *meeting = Meeting::new(&meet);
        }
        if let Err(error) = meeting.check(&meet) {
            if is_alive || !meeting.is_idle() {
                return Err(error);
            }
            *meeting = Meeting::new(&meet);
        }
        meeting.touched = Instant::now();
        let receiver = meeting.addresses.subscribe();
        meeting.addresses.send_modify(|ranks| {
            if let Some(rank) = ranks.get_mut(meet.rank as usize) {
                *rank = Some(meet.address);
            }
        });
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Meeting>> {
        // Nothing under the lock panics; were it to, every meeting is still whole.
        self.by_island.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
