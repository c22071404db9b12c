//! Links between processes: standard gRPC, one client-streaming RPC per ordered pair of ranks.

mod body;
mod client;
mod flow;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use tokio::sync::mpsc;

use crate::faults::Faults;
use crate::group::{self, Group, GroupConfig, Transport};
use crate::links::{Call, Links, QUEUE_MESSAGES_MAX};
use crate::wire::Operation;
use crate::{CommError, wire};

pub(crate) use client::Carrier;

/// HTTP/2 windows of a stream and of its connection, between ranks of one machine: two messages.
/// Larger ones leave the caches, and with a single one the sender waits for the receiver.
const WINDOW_BYTES_LOOPBACK: u32 = 2 * wire::MESSAGE_BYTES_MAX as u32;

/// The same over a network: its bandwidth times its delay, such as 100 Gbit/s over 0.3 ms.
const WINDOW_BYTES_NETWORK: u32 = 4 << 20;

/// Largest HTTP/2 frame.
const FRAME_BYTES_MAX: u32 = wire::MESSAGE_BYTES_MAX as u32;

/// How long a rank that could not join goes on to refuse the others, so that they learn why.
const REFUSAL_WAIT: Duration = Duration::from_millis(250);

/// A rank's listening socket, before it knows its peers.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Listens at `listen`, `host:port`; port 0 takes a free one.
    pub fn bind(listen: &str) -> Result<Self, CommError> {
        let bound = TcpListener::bind(listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        bound.map_err(|source| CommError::Listen {
            address: listen.to_owned(),
            source: Arc::new(source),
        })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Joins the group; `addresses` has `host:port` of each rank, its own included. Returns when
    /// all ranks are there and agree on run, island and epoch.
    pub fn connect(self, config: GroupConfig, addresses: &[String]) -> Result<Group, CommError> {
        self.connect_with(config, addresses, Faults::new())
    }

    /// The same with scheduled faults.
    pub fn connect_with(
        self,
        config: GroupConfig,
        addresses: &[String],
        faults: Faults,
    ) -> Result<Group, CommError> {
        check(&config, addresses)?;
        let runtime = group::runtime()?;
        let links = runtime.block_on(join(self.listener, &config, addresses, faults))?;
        Ok(Group::new(runtime, links, config, Transport::Grpc))
    }
}

fn check(config: &GroupConfig, addresses: &[String]) -> Result<(), CommError> {
    let GroupConfig { run, island, epoch: _, rank, world_size, timeout } = config;
    let detail = if rank >= world_size {
        format!("there is no rank {rank} in a world of {world_size}")
    } else if addresses.len() != *world_size as usize {
        format!("{} addresses for {world_size} ranks", addresses.len())
    } else if run.len().max(island.len()) > wire::NAME_BYTES_MAX {
        format!("the names of run and island have at most {} bytes", wire::NAME_BYTES_MAX)
    } else if timeout.is_zero() {
        "the timeout is zero".to_owned()
    } else {
        return Ok(());
    };
    Err(CommError::Config { detail })
}

async fn join(
    listener: TcpListener,
    config: &GroupConfig,
    addresses: &[String],
    faults: Faults,
) -> Result<Links, CommError> {
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|source| CommError::Runtime { source: Arc::new(source) })?;
    let (mut outs, mut inboxes, mut ins) = (Vec::new(), Vec::new(), Vec::new());
    for (peer, address) in (0..config.world_size).zip(addresses) {
        if peer == config.rank {
            outs.push(None);
            inboxes.push(None);
            ins.push(None);
            continue;
        }
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        inboxes.push(Some(sender));
        ins.push(Some(receiver));
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let hello = wire::encode_hello(hello(config, peer));
        let dial = client::Dial { peer, address: address.clone(), timeout: config.timeout };
        outs.push(Some((sender, Some(client::carry(dial, hello, receiver)))));
    }
    server::serve(listener, config.clone(), inboxes, window_bytes(addresses));
    let mut links = Links::new(config.rank, outs, ins, faults);
    let call = Call { operation: Operation::Connect, timeout: config.timeout, total: Some(0) };
    match links.greet(call).await {
        Ok(()) => Ok(links),
        Err(error) => {
            links.abort(error.rank().unwrap_or(config.rank)).await;
            tokio::time::sleep(REFUSAL_WAIT).await;
            Err(error)
        }
    }
}

/// The windows for peers at these addresses.
fn window_bytes(addresses: &[String]) -> u32 {
    let loopback = |address: &String| match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.starts_with("localhost:"),
    };
    if addresses.iter().all(loopback) { WINDOW_BYTES_LOOPBACK } else { WINDOW_BYTES_NETWORK }
}

fn hello(config: &GroupConfig, to_rank: u32) -> v1::Hello {
    v1::Hello {
        run: config.run.clone(),
        island: config.island.clone(),
        epoch: config.epoch,
        from_rank: config.rank,
        to_rank,
        world_size: config.world_size,
    }
}

#[cfg(test)]
mod tests;
