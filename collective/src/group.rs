//! A group: one rank's end of the collective operations.

mod subgroup;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::faults::Faults;
use crate::in_memory::Worlds;
use crate::links::{Call, Links};
use crate::wire::Operation;
use crate::{CommError, chain, direct, in_memory, ring};

/// The timeout of [`Group::in_memory`].
const IN_MEMORY_WAIT: Duration = Duration::from_secs(30);

/// The configuration of a rank and of those with whom it talks. All but the rank must be the same
/// on all ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The run's name.
    pub run: String,
    /// The island's name.
    pub island: String,
    /// The epoch of the island's plan.
    pub epoch: u64,
    /// This rank, less than the world size.
    pub rank: u32,
    /// How many ranks there are, at least 1.
    pub world_size: u32,
    /// Longest wait for a peer. It has to cover what other ranks do between their calls.
    pub timeout: Duration,
}

/// One rank of a group. All ranks make the same calls in the same order, with buffers of the same
/// length; each call blocks until this rank's part is done, so it must not be made on a thread
/// that runs asynchronous tasks (a thread of `spawn_blocking` is fine).
///
/// Nothing moves between calls; the group has no thread of its own. After an error the group is
/// closed, and each later call returns the first error again. The contents of the buffers are then
/// unspecified. Dropping the group takes leave of the peers, which may take up to a second when a
/// peer does not listen.
pub struct Group {
    /// Closed after a failure.
    open: Result<Open, CommError>,
    config: GroupConfig,
    transport: Transport,
    /// The ranks of a subgroup, by their numbers in the group that it was made from. Errors call
    /// them so.
    members: Option<Vec<u32>>,
    /// Calls made so far.
    calls: u64,
}

/// How a subgroup comes by its links.
#[derive(Clone)]
pub(crate) enum Transport {
    /// Its ranks connect.
    Grpc,
    /// Its ranks take them from what they share.
    InMemory(Worlds),
}

struct Open {
    links: Links,
    runtime: Runtime,
}

impl Group {
    /// All ranks of a world within this process, each to be moved to a thread of its own.
    pub fn in_memory(world_size: u32) -> Vec<Self> {
        Self::in_memory_with(world_size, IN_MEMORY_WAIT, &Faults::new())
    }

    /// The same with a timeout and scheduled faults.
    pub fn in_memory_with(world_size: u32, timeout: Duration, faults: &Faults) -> Vec<Self> {
        let worlds = Worlds::default();
        let config = |rank| GroupConfig {
            run: String::new(),
            island: String::new(),
            epoch: 0,
            rank,
            world_size,
            timeout,
        };
        let ranks = (0..world_size).zip(in_memory::links(world_size, faults));
        ranks.map(|(rank, links)| Self::of_memory(links, config(rank), worlds.clone())).collect()
    }

    fn of_memory(links: Links, config: GroupConfig, worlds: Worlds) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("without I/O it needs nothing of the system");
        Self::new(runtime, links, config, Transport::InMemory(worlds))
    }

    pub(crate) fn new(
        runtime: Runtime,
        links: Links,
        config: GroupConfig,
        transport: Transport,
    ) -> Self {
        Self { open: Ok(Open { links, runtime }), config, transport, members: None, calls: 0 }
    }

    /// This rank.
    pub fn rank(&self) -> u32 {
        self.config.rank
    }

    /// How many ranks the group has.
    pub fn world_size(&self) -> u32 {
        self.config.world_size
    }

    /// Longest wait for a peer.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Replaces `values` by the sum over all ranks: the same bits on every rank, whatever the
    /// timing.
    pub fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        let total = Some(bytes_of(values));
        self.call(Operation::AllReduce, total, async |links, call| {
            ring::all_reduce(links, call, values).await
        })
    }

    /// Replaces `values` by those of rank `root`.
    pub fn broadcast(&mut self, values: &mut [f32], root: u32) -> Result<(), CommError> {
        let total = Some(bytes_of(values));
        self.call(Operation::Broadcast, total, async |links, call| {
            chain::broadcast(links, call, values, root).await
        })
    }

    /// Each rank's bytes, by rank. For control data: at most 16 MiB per rank.
    pub fn all_gather_bytes(&mut self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.call(Operation::AllGatherBytes, None, async |links, call| {
            direct::all_gather_bytes(links, call, mine).await
        })
    }

    /// Replaces `data` by that of rank `root`, whatever its length. For control data: at most
    /// 16 MiB.
    pub fn broadcast_bytes(&mut self, data: &mut Vec<u8>, root: u32) -> Result<(), CommError> {
        self.call(Operation::BroadcastBytes, None, async |links, call| {
            direct::broadcast_bytes(links, call, data, root).await
        })
    }

    /// Sends `values` to rank `to`, which calls [`Group::recv`] with as many. Blocks until the peer
    /// has taken all but what the link's buffers hold: two ranks that want to send much to each
    /// other must not both begin with `send`.
    pub fn send(&mut self, to: u32, values: &[f32]) -> Result<(), CommError> {
        let total = Some(bytes_of(values));
        self.call(Operation::Send, total, async |links, call| {
            chain::send(links, call, values, to).await
        })
    }

    /// Receives what rank `from` sends with [`Group::send`].
    pub fn recv(&mut self, from: u32, values: &mut [f32]) -> Result<(), CommError> {
        let total = Some(bytes_of(values));
        self.call(Operation::Send, total, async |links, call| {
            chain::recv(links, call, values, from).await
        })
    }

    /// Sends `values` to rank `to` while `into` is received from rank `from`; the two may be one,
    /// or this rank itself, which is a copy. The peers call it as well, each with the lengths that
    /// its own peers expect. Pairs and whole rings may do so at once, whatever the lengths.
    pub fn exchange(
        &mut self,
        to: u32,
        values: &[f32],
        from: u32,
        into: &mut [f32],
    ) -> Result<(), CommError> {
        let total = Some(bytes_of(into));
        self.call(Operation::Exchange, total, async |links, call| {
            chain::exchange(links, call, (to, values), (from, into)).await
        })
    }

    /// Returns when all ranks have come here.
    pub fn barrier(&mut self) -> Result<(), CommError> {
        self.call(Operation::Barrier, None, async |links, call| {
            direct::all_gather_bytes(links, call, &[]).await.map(drop)
        })
    }

    fn call<T>(
        &mut self,
        operation: Operation,
        total: Option<u64>,
        body: impl AsyncFnOnce(&mut Links, Call) -> Result<T, CommError>,
    ) -> Result<T, CommError> {
        let Open { links, runtime } = self.open.as_mut().map_err(|error| error.clone())?;
        let call = Call { operation, timeout: self.config.timeout, total };
        let number = self.calls;
        self.calls += 1;
        let result = runtime.block_on(async {
            links.strike(number)?;
            let value = body(links, call).await?;
            links.flush(call).await?;
            Ok(value)
        });
        result.map_err(|error| self.fail(error))
    }

    /// Closes the group for good, tells the peers whom to blame, and gives the error to the caller.
    fn fail(&mut self, error: CommError) -> CommError {
        let culprit = error.rank().unwrap_or(self.config.rank);
        let killed = matches!(error, CommError::Killed);
        let error = match &self.members {
            Some(members) => error.renumbered(members),
            None => error,
        };
        let open = std::mem::replace(&mut self.open, Err(error.clone()));
        if let Ok(Open { mut links, runtime }) = open {
            if !killed {
                runtime.block_on(links.abort(culprit));
            }
            drop(links);
            runtime.shutdown_background();
        }
        error
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let left = CommError::PeerLost { rank: self.config.rank };
        let Ok(Open { links, runtime }) = std::mem::replace(&mut self.open, Err(left)) else {
            return;
        };
        // On a thread of its own, so that a group may also be dropped where blocking is forbidden.
        std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(links.close()));
        });
        runtime.shutdown_background();
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group(rank {} of {})", self.config.rank, self.config.world_size)
    }
}

/// The runtime that moves a group's messages while a call runs.
pub(crate) fn runtime() -> Result<Runtime, CommError> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|source| CommError::Runtime { source: Arc::new(source) })
}

fn bytes_of(values: &[f32]) -> u64 {
    size_of_val(values) as u64
}

#[cfg(test)]
mod tests;
