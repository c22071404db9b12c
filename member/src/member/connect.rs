//! How a rank meets the others of its island.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use collective::{Endpoint, Group, GroupConfig};
use rounds::types::RankAddress;
use sparseloco::layout::Layout;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::Member;
use crate::exchange::Exchange;
use crate::lockstep::{Lockstep, Ties, during};
use crate::outer::span_of;
use crate::server::{ExchangeHandle, serve};
use crate::session::Session;
use crate::{MemberConfig, MemberError, Timeouts};

const NETWORK_THREADS: usize = 2;

impl Member {
    /// Starts to serve, meets the island's other ranks, and forms their group.
    ///
    /// `stop` may be set at any time from anywhere, for example by a signal.
    ///
    /// # Errors
    /// When an address is taken, the coordinator refuses or is silent for too long, or a rank of
    /// the island does not come.
    pub fn connect(
        config: MemberConfig,
        layout: Arc<Layout>,
        stop: Arc<AtomicBool>,
    ) -> Result<Member, MemberError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(MemberError::Runtime)?;
        let exchange = Exchange::new(&config, layout);
        let server = listen(&runtime, &config, &exchange)?;
        let session = session(&runtime, &config)?;
        let mut group = meet(&runtime, &config, &session)?;
        let ranks = addresses(&mut group, exchange.layout(), &server)?;
        let session = (config.rank == 0).then_some(session);
        let ties = Ties { group, session, ranks, stop, runtime };
        let lockstep = Lockstep::new(config, exchange.layout_hash(), ties);
        Ok(Member { _server: server, exchange, lockstep })
    }
}

fn listen(
    runtime: &Runtime,
    config: &MemberConfig,
    exchange: &Exchange,
) -> Result<ExchangeHandle, MemberError> {
    let (store, layout) = (Arc::clone(exchange.store()), Arc::clone(exchange.layout()));
    let traffic = Arc::clone(&exchange.fetcher.traffic);
    let bind = async {
        let listener = TcpListener::bind(&config.listen).await?;
        serve(listener, store, layout, traffic, config.timeouts.keepalive)
    };
    let address = config.listen.clone();
    runtime.block_on(bind).map_err(|source| MemberError::Listen { address, source })
}

fn session(runtime: &Runtime, config: &MemberConfig) -> Result<Session, MemberError> {
    // A channel is bound to the runtime that it is made in.
    let _guard = runtime.enter();
    let Timeouts { coordinator, keepalive, .. } = config.timeouts;
    Ok(Session::new(&config.coordinator, config.who().into(), (coordinator, keepalive))?)
}

fn meet(runtime: &Runtime, config: &MemberConfig, session: &Session) -> Result<Group, MemberError> {
    let endpoint = Endpoint::bind(&config.collective_listen).map_err(during("listen"))?;
    let address = endpoint.address().to_string();
    let met = session.meet(config.rank, config.world_size, &address, config.plan_hash);
    let addresses = runtime.block_on(met)?;
    let group = GroupConfig {
        run: config.run.clone(),
        island: config.island.clone(),
        epoch: config.epoch,
        rank: config.rank,
        world_size: config.world_size,
        timeout: config.timeouts.group,
    };
    endpoint.connect(group, &addresses).map_err(during("form the group"))
}

/// Exchange addresses and spans of all ranks.
fn addresses(
    group: &mut Group,
    layout: &Layout,
    exchange: &ExchangeHandle,
) -> Result<Vec<RankAddress>, MemberError> {
    let mine = exchange.address.to_string();
    let all = group.all_gather_bytes(mine.as_bytes()).map_err(during("exchange addresses"))?;
    let ranks = all.iter().zip(0..).map(|(address, rank)| {
        let span = span_of(layout, rank, group.world_size());
        let address = String::from_utf8_lossy(address).into_owned();
        RankAddress { address, first_piece: span.start, end_piece: span.end }
    });
    Ok(ranks.collect())
}
