//! What tests of the exchange share: a layout and a contribution, ranks that misbehave, a line that
//! goes dead without a word, and a coordinator that says what it is told to.

mod coordinator;
mod line;
mod peer;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use collective::Group;
use rounds::types::{
    Commit, Contribution, Digest, MemberState, MemberView, Phase, RankAddress, RunView,
};
use sparseloco::codec::{FrameId, PieceAt, PieceInput, compress_piece};
use sparseloco::layout::{Layout, TensorShape};
use sparseloco::outer::{OuterParams, Rule};
use sparseloco::{CodecParams, ValueBits};
use tonic::codegen::Bytes;

pub(crate) use self::coordinator::{Call, Scripted};
pub(crate) use self::line::Line;
pub(crate) use self::peer::{Manner, Rank};

use crate::fetch::Fetcher;
use crate::server::Traffic;
use crate::store::{Store, piece_digest, root_digest};
use crate::{MemberConfig, Theta, ThetaError, Timeouts, span_of};

/// No test waits longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The longest silence that fetchers of tests bear.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);
pub(crate) const ROUND: u64 = 3;

pub(crate) fn params() -> CodecParams {
    CodecParams::new(64, ValueBits::Two, 0.95, 0.0).expect("valid parameters")
}

/// 16 pieces.
pub(crate) fn layout() -> Arc<Layout> {
    let shape = TensorShape { name: "w".into(), shape: vec![2048, 2048] };
    Arc::new(Layout::new(&[shape]).expect("a valid shape"))
}

pub(crate) fn id(layout: &Layout) -> FrameId {
    FrameId::new("run", "owner", ROUND, layout.hash(&params()))
}

/// A fetcher of a lone rank of island `me`, which holds nothing yet.
pub(crate) fn fetcher(layout: &Arc<Layout>) -> Arc<Fetcher> {
    let store = Arc::new(Store::new("run".into(), 0..layout.pieces()));
    let timeouts = Timeouts { transfer: SILENCE, ..Timeouts::default() };
    let traffic = Arc::new(Traffic::default());
    let me = ("me".to_string(), &timeouts);
    Arc::new(Fetcher::new(Arc::clone(layout), params(), store, traffic, me))
}

/// One piece, and little of it.
pub(crate) fn small_layout() -> Arc<Layout> {
    let shape = TensorShape { name: "b".into(), shape: vec![5000] };
    Arc::new(Layout::new(&[shape]).expect("a valid shape"))
}

/// Two pieces, the second of which is small.
pub(crate) fn two_pieces() -> Arc<Layout> {
    let shape = TensorShape { name: "b".into(), shape: vec![(64 << 12) + 100] };
    Arc::new(Layout::new(&[shape]).expect("a valid shape"))
}

/// The frames of a contribution.
pub(crate) fn frames(layout: &Layout) -> Vec<Bytes> {
    frames_of(layout, &id(layout), 1.0)
}

/// The frames of an island's contribution to a round, whose values are all the larger for `scale`.
pub(crate) fn frames_of(layout: &Layout, id: &FrameId, scale: f32) -> Vec<Bytes> {
    let frame = |piece| {
        let values = layout.piece(piece).values.len();
        let theta = (0..values).map(|i| scale * ((i % 31) as f32 - 15.0) / 31.0);
        let theta: Vec<f32> = theta.collect();
        let (anchor, mut error, mut out) = (vec![0.0; values], vec![0.0; values], Vec::new());
        let at = PieceAt { layout, params: &params(), piece };
        let input = PieceInput { anchor: &anchor, theta: &theta };
        compress_piece(at, id, input, &mut error, &mut out).expect("finite");
        Bytes::from(out)
    };
    (0..layout.pieces()).map(frame).collect()
}

/// The pieces of θ.
pub(crate) fn theta(layout: &Layout) -> Vec<Bytes> {
    let piece = |piece: u32| {
        let values = layout.piece(piece).values;
        values.flat_map(|at| (at as f32).to_le_bytes()).collect::<Vec<u8>>().into()
    };
    (0..layout.pieces()).map(piece).collect()
}

pub(crate) fn digests(pieces: &[Bytes]) -> Arc<[Digest]> {
    pieces.iter().map(|piece| piece_digest(piece)).collect()
}

/// What an island might offer; its digest is its own.
pub(crate) fn contribution(island: &str) -> Contribution {
    Contribution { digest: piece_digest(island.as_bytes()), ..offered(island, &[]) }
}

pub(crate) fn commit_of(round: u64, set: &[Contribution]) -> Commit {
    Commit { round, set: set.to_vec(), record_hash: Digest([0; 32]), tokens: 0, samples: 0 }
}

pub(crate) fn offered(island: &str, pieces: &[Bytes]) -> Contribution {
    Contribution {
        island: island.into(),
        epoch: 1,
        digest: root_digest(&digests(pieces)),
        bytes: 1,
        tokens: 1,
        steps: 1,
        loss: 1.0,
    }
}

pub(crate) fn member(island: &str, address: &str) -> MemberView {
    let rank = RankAddress { address: address.into(), first_piece: 0, end_piece: 1 << 16 };
    MemberView {
        island: island.into(),
        epoch: 1,
        state: MemberState::Active,
        ranks: vec![rank],
        round: ROUND,
        offered: true,
        tokens: 0,
        samples: vec![],
        rejected: 0,
        complaint: String::new(),
    }
}

/// The view of a run in which these take part, and which is in round `round`.
pub(crate) fn view(phase: Phase, round: u64, members: &[MemberView]) -> RunView {
    let members = members.to_vec();
    RunView { version: 1, phase, round, highest: round, members, ..RunView::default() }
}

/// A rank of an island; nobody is at the coordinator's address.
pub(crate) fn config(island: &str, rank: u32, world_size: u32) -> MemberConfig {
    MemberConfig {
        run: "run".into(),
        island: island.into(),
        epoch: 1,
        rank,
        world_size,
        coordinator: "http://127.0.0.1:9".into(),
        listen: "127.0.0.1:0".into(),
        collective_listen: "127.0.0.1:0".into(),
        plan_hash: Digest([3; 32]),
        codec: params(),
        outer: OuterParams { rule: Rule::Paper, alpha: 1.0 },
        inner_steps: 4,
        round_samples: 4,
        tokens_per_second: 1.5,
        timeouts: Timeouts {
            group: PATIENCE,
            coordinator: PATIENCE,
            transfer: Duration::from_secs(5),
            ..Timeouts::default()
        },
    }
}

/// A model of which every rank holds all, in canonical order.
pub(crate) struct Flat {
    layout: Arc<Layout>,
    pub(crate) values: Vec<f32>,
}

impl Flat {
    pub(crate) fn new(layout: &Arc<Layout>) -> Flat {
        Flat { layout: Arc::clone(layout), values: vec![0.0; layout.values()] }
    }

    fn spans(&self, world_size: u32) -> Vec<Range<usize>> {
        let spans = (0..world_size).map(|rank| span_of(&self.layout, rank, world_size));
        spans.map(|pieces| self.layout.span(pieces)).collect()
    }
}

impl Theta for Flat {
    fn collect(&mut self, group: &mut Group, span: &mut [f32]) -> Result<(), ThetaError> {
        let own = self.spans(group.world_size())[group.rank() as usize].clone();
        span.copy_from_slice(&self.values[own]);
        Ok(())
    }

    fn spread(&mut self, group: &mut Group, span: &[f32]) -> Result<(), ThetaError> {
        let spans = self.spans(group.world_size());
        self.values[spans[group.rank() as usize].clone()].copy_from_slice(span);
        for (rank, span) in (0..).zip(spans) {
            group.broadcast(&mut self.values[span], rank)?;
        }
        Ok(())
    }
}
