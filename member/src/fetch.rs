//! Fetching from other islands: contributions piece by piece, and θ from several members at once.
//!
//! A contribution may come from any rank that holds the wanted pieces of it: its owner first, then
//! every other member that may have fetched it. Each source is asked once per call, with a bound on
//! the time; what arrives is checked against the offered digest before it counts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use proto::v1::exchange_client::ExchangeClient;
use proto::v1::{ManifestRequest, ManifestResponse, Piece, PullRequest, SnapshotRequest};
use rounds::types::{Contribution, Digest, MemberState, MemberView, RankAddress};
use sparseloco::codec::verify_piece;
use sparseloco::layout::Layout;
use sparseloco::{CodecParams, FrameId, PieceAt};
use tonic::codegen::Bytes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::server::Traffic;
use crate::store::{Store, contribution_digest, piece_digest};

/// Contributions fetched at the same time.
const CONTRIBUTIONS_AT_ONCE: usize = 8;
/// Time to connect to a peer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Room for protobuf around a piece or a manifest.
const MESSAGE_SLACK_BYTES: usize = 64 << 10;

/// Why a fetch from one source failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The peer's address is not one.
    #[error("failed to use the address {address:?} of a peer")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The peer refused or is gone.
    #[error("failed to fetch from {address}: {}", status.message())]
    Peer {
        /// Who was asked.
        address: String,
        /// The answer.
        status: Box<Status>,
    },
    /// The peer took too long.
    #[error("failed to fetch from {address} within {seconds} s")]
    Timeout {
        /// Who was asked.
        address: String,
        /// The bound.
        seconds: u64,
    },
    /// What arrived is not what was offered.
    #[error("failed to accept what {address} sent: {reason}")]
    Content {
        /// Who sent it.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody serves some pieces.
    #[error("failed to find a member that serves pieces {first}..{end}")]
    NoSource {
        /// First piece.
        first: u32,
        /// One past the last.
        end: u32,
    },
}

/// A client whose calls carry the current span's trace context.
type Client = ExchangeClient<InterceptedService<Channel, Propagate>>;
type Propagate = fn(Request<()>) -> Result<Request<()>, Status>;

/// Fetches for one rank.
pub(crate) struct Fetcher {
    pub(crate) layout: Arc<Layout>,
    pub(crate) params: CodecParams,
    pub(crate) store: Arc<Store>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) timeout: Duration,
    channels: Mutex<HashMap<String, Channel>>,
    message_bytes_max: usize,
}

/// The overlap of a rank's pieces with the wanted ones.
fn overlap(rank: &RankAddress, wanted: &Range<u32>) -> Option<Range<u32>> {
    let range = rank.first_piece.max(wanted.start)..rank.end_piece.min(wanted.end);
    (range.start < range.end).then_some(range)
}

/// Members in the order in which they are asked for a contribution: its owner, then the others.
fn sources<'a>(members: &'a [MemberView], owner: &str, me: &str) -> Vec<&'a MemberView> {
    let mut order: Vec<&MemberView> = members.iter().filter(|m| m.island != me).collect();
    order.sort_by_key(|member| member.island != owner);
    order
}

/// Runs of consecutive indices.
fn runs(indices: &[u32]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

impl Fetcher {
    /// A fetcher that checks against `layout` and `params` and keeps what it gets in `store`.
    pub(crate) fn new(
        layout: Arc<Layout>,
        params: CodecParams,
        store: Arc<Store>,
        traffic: Arc<Traffic>,
        timeout: Duration,
    ) -> Fetcher {
        let channels = Mutex::new(HashMap::new());
        let piece_bytes_max = (0..layout.pieces())
            .map(|piece| layout.piece(piece).values.len() * size_of::<f32>())
            .max()
            .unwrap_or(0);
        let manifest_bytes = layout.pieces() as usize * 32;
        let message_bytes_max = piece_bytes_max.max(manifest_bytes) + MESSAGE_SLACK_BYTES;
        Fetcher { layout, params, store, traffic, timeout, channels, message_bytes_max }
    }

    fn client(&self, address: &str) -> Result<Client, FetchError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|source| FetchError::Address { address: address.into(), source })?;
                let channel =
                    endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
                channels.insert(address.to_string(), channel.clone());
                channel
            }
        };
        let client = ExchangeClient::with_interceptor(channel, telemetry::propagate as Propagate);
        Ok(client.max_decoding_message_size(self.message_bytes_max))
    }

    /// Forgets connections to ranks that are no members any more.
    pub(crate) fn retain(&self, members: &[MemberView]) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|address, _| {
            members.iter().any(|m| m.ranks.iter().any(|rank| rank.address == *address))
        });
    }

    /// Fetches what this rank lacks of `set`; returns the islands whose contribution it holds.
    pub(crate) async fn contributions(
        &self,
        id: &FrameId,
        set: &[Contribution],
        members: &[MemberView],
        me: &str,
    ) -> Vec<String> {
        let wanted = set.iter().map(|contribution| async move {
            match self
                .contribution(id, contribution, sources(members, &contribution.island, me))
                .await
            {
                Ok(()) => Some(contribution.island.clone()),
                Err(error) => {
                    let island = contribution.island.as_str();
                    tracing::warn!(%error, island, "A contribution could not be fetched yet.");
                    None
                }
            }
        });
        futures::stream::iter(wanted)
            .buffer_unordered(CONTRIBUTIONS_AT_ONCE)
            .filter_map(|held| async { held })
            .collect()
            .await
    }

    async fn contribution(
        &self,
        id: &FrameId,
        offered: &Contribution,
        sources: Vec<&MemberView>,
    ) -> Result<(), FetchError> {
        let span = self.store.span();
        let mut last = FetchError::NoSource { first: span.start, end: span.end };
        for rank in sources.iter().flat_map(|member| &member.ranks) {
            let missing =
                self.store.missing(id.round, &offered.island, offered.digest, span.clone());
            if missing.is_empty() {
                return Ok(());
            }
            for range in runs(&missing).iter().filter_map(|run| overlap(rank, run)) {
                let pull = self.pull(id, offered, &rank.address, range);
                let result = tokio::time::timeout(self.timeout, pull).await;
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => last = error,
                    Err(_) => {
                        let seconds = self.timeout.as_secs();
                        last = FetchError::Timeout { address: rank.address.clone(), seconds };
                    }
                }
            }
        }
        let missing = self.store.missing(id.round, &offered.island, offered.digest, span);
        if missing.is_empty() { Ok(()) } else { Err(last) }
    }

    async fn pull(
        &self,
        id: &FrameId,
        offered: &Contribution,
        address: &str,
        range: Range<u32>,
    ) -> Result<(), FetchError> {
        let digests = self.manifest(id.round, offered, address).await?;
        let request = PullRequest {
            run: self.store.run().to_string(),
            round: id.round,
            island: offered.island.clone(),
            first_piece: range.start,
            end_piece: range.end,
        };
        let stream = self.client(address)?.pull(request).await;
        let stream = stream.map_err(|status| peer(address, status))?.into_inner();
        let id = id.for_island(&offered.island);
        let accept = |piece: &Piece| {
            if piece_digest(&piece.data) != digests[piece.index as usize] {
                return Err("a piece does not have the digest of the manifest".to_string());
            }
            let at = PieceAt { layout: &self.layout, params: &self.params, piece: piece.index };
            verify_piece(at, &id, &piece.data)
                .map(|_| ())
                .map_err(|error| format!("piece {}: {error}", piece.index))
        };
        let pieces = self.collect(stream, address, range, accept).await?;
        self.store.insert(id.round, &offered.island, digests, pieces);
        Ok(())
    }

    async fn manifest(
        &self,
        round: u64,
        offered: &Contribution,
        address: &str,
    ) -> Result<Vec<Digest>, FetchError> {
        if let Some(known) = self.store.digests(round, &offered.island)
            && contribution_digest(&known) == offered.digest
        {
            return Ok(known);
        }
        let request = ManifestRequest {
            run: self.store.run().to_string(),
            round,
            island: offered.island.clone(),
        };
        let response = self.client(address)?.manifest(request).await;
        let response: ManifestResponse =
            response.map_err(|status| peer(address, status))?.into_inner();
        self.traffic.count_received(&response);
        let (digests, rest) = response.digests.as_chunks::<32>();
        let digests: Vec<Digest> = digests.iter().map(|bytes| Digest(*bytes)).collect();
        let whole = rest.is_empty() && digests.len() == self.layout.pieces() as usize;
        if !whole || contribution_digest(&digests) != offered.digest {
            return Err(content(address, "the manifest is not what was offered".into()));
        }
        Ok(digests)
    }

    /// Takes exactly the pieces `range`, in order, each accepted by `accept`.
    async fn collect(
        &self,
        mut stream: Streaming<Piece>,
        address: &str,
        range: Range<u32>,
        accept: impl Fn(&Piece) -> Result<(), String>,
    ) -> Result<Vec<(u32, Bytes)>, FetchError> {
        let mut pieces = Vec::with_capacity(range.len());
        for index in range {
            let piece = stream.message().await.map_err(|status| peer(address, status))?;
            let piece = piece.ok_or_else(|| {
                content(address, format!("the stream ended before piece {index}"))
            })?;
            self.traffic.count_received(&piece);
            if piece.index != index {
                let reason = format!("piece {} came where {index} was due", piece.index);
                return Err(content(address, reason));
            }
            accept(&piece).map_err(|reason| content(address, reason))?;
            pieces.push((index, piece.data));
        }
        Ok(pieces)
    }

    /// θ at the start of `round` for this rank's span, spread over all members that hold it.
    pub(crate) async fn snapshot(
        &self,
        round: u64,
        members: &[MemberView],
        me: &str,
    ) -> Result<Vec<f32>, FetchError> {
        let span = self.store.span();
        let holders: Vec<&MemberView> = members
            .iter()
            .filter(|m| m.island != me && m.round == round && m.state != MemberState::Syncing)
            .collect();
        let pieces = span.clone().enumerate().map(|(turn, index)| {
            let holders = &holders;
            async move { self.snapshot_piece(round, index, holders, turn).await }
        });
        let parts: Vec<Result<Vec<f32>, FetchError>> =
            futures::stream::iter(pieces).buffered(CONTRIBUTIONS_AT_ONCE).collect().await;
        let mut values = Vec::with_capacity(self.layout.span(span).len());
        for part in parts {
            values.extend(part?);
        }
        Ok(values)
    }

    /// One piece of θ, from the holder whose turn it is, or else from the next.
    async fn snapshot_piece(
        &self,
        round: u64,
        index: u32,
        holders: &[&MemberView],
        turn: usize,
    ) -> Result<Vec<f32>, FetchError> {
        let range = index..index + 1;
        let mut last = FetchError::NoSource { first: index, end: index + 1 };
        for holder in holders.iter().cycle().skip(turn).take(holders.len()) {
            for rank in holder.ranks.iter().filter(|rank| overlap(rank, &range).is_some()) {
                match self.snapshot_from(round, index, &rank.address).await {
                    Ok(values) => return Ok(values),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    async fn snapshot_from(
        &self,
        round: u64,
        index: u32,
        address: &str,
    ) -> Result<Vec<f32>, FetchError> {
        let request = SnapshotRequest {
            run: self.store.run().to_string(),
            round,
            first_piece: index,
            end_piece: index + 1,
        };
        let mut client = self.client(address)?;
        let fetch = async {
            let stream = client.snapshot(request).await.map_err(|status| peer(address, status))?;
            self.collect(stream.into_inner(), address, index..index + 1, |_| Ok(())).await
        };
        let pieces = tokio::time::timeout(self.timeout, fetch).await.map_err(|_| {
            FetchError::Timeout { address: address.into(), seconds: self.timeout.as_secs() }
        })??;
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|(_, data)| data).collect();
        let (words, rest) = bytes.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let expected = self.layout.piece(index).values.len();
        if !rest.is_empty() || values.len() != expected || values.iter().any(|v| !v.is_finite()) {
            return Err(content(address, format!("piece {index} is not {expected} finite values")));
        }
        Ok(values)
    }
}

fn peer(address: &str, status: Status) -> FetchError {
    FetchError::Peer { address: address.to_string(), status: Box::new(status) }
}

fn content(address: &str, reason: String) -> FetchError {
    FetchError::Content { address: address.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pieces_are_asked_for_in_runs() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), vec![1..4, 7..8, 9..11]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn a_rank_is_asked_only_for_what_it_holds() {
        let rank = RankAddress { address: "a:1".into(), first_piece: 4, end_piece: 8 };
        assert_eq!(overlap(&rank, &(0..6)), Some(4..6));
        assert_eq!(overlap(&rank, &(8..9)), None);
    }

    #[test]
    fn the_owner_is_asked_first_and_oneself_never() {
        let member = |island: &str| MemberView {
            island: island.into(),
            epoch: 1,
            state: MemberState::Active,
            ranks: vec![],
            round: 0,
            offered: true,
            tokens: 0,
            samples: vec![],
            rejected: 0,
        };
        let members = [member("a"), member("b"), member("c")];
        let order: Vec<&str> =
            sources(&members, "c", "a").iter().map(|m| m.island.as_str()).collect();
        assert_eq!(order, vec!["c", "b"]);
    }
}
