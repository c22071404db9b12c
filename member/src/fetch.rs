//! What is fetched from other islands, piece by piece: a contribution, or θ.
//!
//! Either is content-addressed: the digest of the whole is known from the view, stands for the list
//! of its pieces' digests (the manifest), and that for the pieces. So it does not matter who serves
//! it, each piece is checked on its own when it arrives, and is kept from then on. Whom to ask for
//! what is `sources`' to decide.

mod error;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::v1::{ManifestRequest, Piece, PullRequest, SnapshotRequest, ThetaManifestRequest};
use rounds::types::{Contribution, Digest, MemberState, MemberView};
use sparseloco::codec::verify_piece;
use sparseloco::layout::Layout;
use sparseloco::{CodecParams, FrameId, PieceAt};
use tokio::sync::Semaphore;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};

pub(crate) use self::error::FetchError;

use crate::Timeouts;
use crate::peers::{Client, Peers};
use crate::server::Traffic;
use crate::store::{Store, piece_digest, root_digest};

/// Streams of pieces that come to this rank at a time; more wait for their turn.
const PULLS_MAX: usize = 32;
/// Room for protobuf around a piece or a manifest.
const MESSAGE_SLACK_BYTES: usize = 64 << 10;

/// What a rank needs to fetch.
pub(crate) struct Fetcher {
    pub(crate) layout: Arc<Layout>,
    pub(crate) params: CodecParams,
    pub(crate) store: Arc<Store>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) peers: Peers,
    pub(crate) pulls: Semaphore,
    /// Name of this island.
    pub(crate) island: String,
    /// The longest that a source may give nothing.
    pub(crate) silence: Duration,
}

impl Fetcher {
    /// A fetcher that checks against `layout` and `params` and keeps what it gets in `store`.
    pub(crate) fn new(
        layout: Arc<Layout>,
        params: CodecParams,
        store: Arc<Store>,
        traffic: Arc<Traffic>,
        (island, timeouts): (String, &Timeouts),
    ) -> Fetcher {
        let piece_bytes_max = (0..layout.pieces())
            .map(|piece| layout.piece(piece).values.len() * size_of::<f32>())
            .max()
            .unwrap_or(0);
        let manifest_bytes = layout.pieces() as usize * 32;
        let message_bytes_max = piece_bytes_max.max(manifest_bytes) + MESSAGE_SLACK_BYTES;
        let peers = Peers::new(timeouts.keepalive, message_bytes_max);
        let (pulls, silence) = (Semaphore::new(PULLS_MAX), timeouts.transfer);
        Fetcher { layout, params, store, traffic, peers, pulls, island, silence }
    }
}

/// θ at the start of a round, as far as it has arrived.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    arrived: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    digests: Option<Arc<[Digest]>>,
    pieces: BTreeMap<u32, Bytes>,
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of all pieces, in order, which were checked when they arrived.
    pub(crate) fn values(&self) -> Vec<f32> {
        let arrived = self.lock();
        let words = arrived.pieces.values().flat_map(|data| data.as_chunks::<4>().0);
        words.map(|word| f32::from_le_bytes(*word)).collect()
    }
}

/// What is wanted of other islands.
#[derive(Clone)]
pub(crate) enum Wanted {
    /// The rank's span of a contribution; it goes to the store.
    Contribution {
        /// What its frames belong to.
        id: FrameId,
        /// What was offered.
        offered: Contribution,
    },
    /// The rank's span of θ.
    Theta {
        /// At the start of this round,
        round: u64,
        /// with this hash.
        hash: Digest,
        /// What has arrived.
        parts: Arc<Parts>,
    },
}

impl Wanted {
    /// Pieces of the rank's span that are not here yet.
    pub(crate) fn missing(&self, fetcher: &Fetcher) -> Vec<u32> {
        match self {
            Wanted::Contribution { id, offered } => {
                fetcher.store.missing(id.round, &offered.island, offered.digest)
            }
            Wanted::Theta { parts, .. } => {
                let arrived = parts.lock();
                fetcher.store.span().filter(|piece| !arrived.pieces.contains_key(piece)).collect()
            }
        }
    }

    /// Whether a member may have it.
    pub(crate) fn may_be_at(&self, member: &MemberView) -> bool {
        match self {
            Wanted::Contribution { .. } => true,
            Wanted::Theta { round, .. } => {
                member.round == *round && member.state != MemberState::Syncing
            }
        }
    }

    /// Whether a member is the one who offered it.
    pub(crate) fn is_of(&self, member: &MemberView) -> bool {
        match self {
            Wanted::Contribution { offered, .. } => {
                (&member.island, member.epoch) == (&offered.island, offered.epoch)
            }
            Wanted::Theta { .. } => false,
        }
    }

    /// The digests of all pieces: those that are known, or those of the rank at `address`, whose
    /// lie is the offer's where it `owns` it.
    pub(crate) async fn manifest(
        &self,
        fetcher: &Fetcher,
        (address, owns): (&str, bool),
        mut client: Client,
    ) -> Result<Arc<[Digest]>, FetchError> {
        let run = fetcher.store.run().to_string();
        let (root, response) = match self {
            Wanted::Contribution { id, offered } => {
                let Contribution { island, digest, .. } = offered;
                if let Some(known) = fetcher.store.digests(id.round, island, *digest) {
                    return Ok(known);
                }
                let request = ManifestRequest { run, round: id.round, island: island.clone() };
                (*digest, client.manifest(request).await)
            }
            Wanted::Theta { round, hash, parts } => {
                if let Some(known) = parts.lock().digests.clone() {
                    return Ok(known);
                }
                let request = ThetaManifestRequest { run, round: *round };
                (*hash, client.theta_manifest(request).await)
            }
        };
        let response = response.map_err(|status| FetchError::peer(address, status))?.into_inner();
        fetcher.traffic.count_received(&response);
        let (digests, rest) = response.digests.as_chunks::<32>();
        let digests: Arc<[Digest]> = digests.iter().map(|bytes| Digest(*bytes)).collect();
        let whole = rest.is_empty() && digests.len() == fetcher.layout.pieces() as usize;
        if !whole || root_digest(&digests) != root {
            let reason = "its manifest is not that of the digest".to_string();
            return Err(match self {
                Wanted::Contribution { offered, .. } if owns => {
                    FetchError::Offered { island: offered.island.clone(), reason }
                }
                _ => FetchError::content(address, reason),
            });
        }
        match self {
            Wanted::Contribution { id, offered } => {
                fetcher.store.insert(id.round, &offered.island, &digests, []);
            }
            Wanted::Theta { parts, .. } => parts.lock().digests = Some(Arc::clone(&digests)),
        }
        Ok(digests)
    }

    /// A stream of the pieces `range`.
    pub(crate) async fn open(
        &self,
        fetcher: &Fetcher,
        mut client: Client,
        range: Range<u32>,
    ) -> Result<Streaming<Piece>, Status> {
        let run = fetcher.store.run().to_string();
        let (first_piece, end_piece) = (range.start, range.end);
        let response = match self {
            Wanted::Contribution { id, offered } => {
                let (round, island) = (id.round, offered.island.clone());
                client.pull(PullRequest { run, round, island, first_piece, end_piece }).await
            }
            Wanted::Theta { round, .. } => {
                let round = *round;
                client.snapshot(SnapshotRequest { run, round, first_piece, end_piece }).await
            }
        };
        response.map(tonic::Response::into_inner)
    }

    /// Checks a piece and keeps it.
    pub(crate) fn accept(
        &self,
        fetcher: &Fetcher,
        digests: &Arc<[Digest]>,
        (address, piece): (&str, Piece),
    ) -> Result<(), FetchError> {
        let Piece { index, data } = piece;
        let wrong = |reason| Err(FetchError::content(address, reason));
        if digests.get(index as usize) != Some(&piece_digest(&data)) {
            return wrong(format!("piece {index} does not have the digest of the manifest"));
        }
        match self {
            Wanted::Contribution { id, offered } => {
                let Fetcher { layout, params, .. } = fetcher;
                if let Err(error) =
                    verify_piece(PieceAt { layout, params, piece: index }, id, &data)
                {
                    let (island, reason) =
                        (offered.island.clone(), format!("piece {index}: {error}"));
                    return Err(FetchError::Offered { island, reason });
                }
                fetcher.store.insert(id.round, &offered.island, digests, [(index, data)]);
            }
            Wanted::Theta { parts, .. } => {
                let expected = fetcher.layout.piece(index).values.len();
                let (words, rest) = data.as_chunks::<4>();
                let finite = words.iter().all(|word| f32::from_le_bytes(*word).is_finite());
                if !rest.is_empty() || words.len() != expected || !finite {
                    return wrong(format!("piece {index} is not {expected} finite values"));
                }
                parts.lock().pieces.insert(index, data);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
