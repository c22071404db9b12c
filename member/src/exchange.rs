//! The exchange of a round: what the island offers, and how it applies what was committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rounds::decide::Standing;
use rounds::types::{Commit, Contribution, Digest};
use sparseloco::codec::{PieceAt, PieceInput, compress_piece, restore_piece};
use sparseloco::outer::{ApplyError, PieceState, Weighted, apply_piece, local_start};
use tonic::codegen::Bytes;

use crate::hold::Hold;
use crate::member::{Known, Member, during};
use crate::outer::theta_piece_digest;
use crate::store::{piece_digest, root_digest};
use crate::{MemberError, StepControl, Theta};

/// Tries to train a round before the island gives up.
const ROUND_TRIES: u32 = 3;
/// Why a round was forgone by [`Member::offer`].
const NOT_FINITE: &str = "the update is not finite: no contribution";
/// What is sent is less than this; see `sparseloco`'s codec.
const SENT_MAX: f32 = 7.9e28;

/// What a round was, seen from this island. Bytes are summed over its ranks; seconds are the
/// leader's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundReport {
    /// The committed round.
    pub round: u64,
    /// Tokens of the committed set.
    pub set_tokens: u64,
    /// Islands in the committed set.
    pub islands: u32,
    /// Mean training loss of the set, weighted by tokens.
    pub loss: f32,
    /// Hash of θ after the round.
    pub theta_hash: Option<Digest>,
    /// Whether this island's own contribution is in the set.
    pub contributed: bool,
    /// Encoded bytes of this island's contribution.
    pub contribution_bytes: u64,
    /// Values in it.
    pub contribution_values: u64,
    /// Bytes sent to other islands since the last report.
    pub bytes_sent: u64,
    /// Bytes received from other islands since the last report.
    pub bytes_received: u64,
    /// Compressing, fetching, applying.
    pub exchange_seconds: f64,
    /// Waiting for other islands.
    pub waiting_seconds: f64,
}

impl Member {
    /// Compresses the round's update and offers it. `trained` holds the island's sums over `steps`
    /// inner steps. Where the round closed meanwhile, the update stays in the error feedback. An
    /// update that is not finite is none: see [`Member::forgo`].
    pub fn offer(
        &mut self,
        theta: &mut dyn Theta,
        trained: StepControl,
        steps: u32,
    ) -> Result<(), MemberError> {
        let started = Instant::now();
        let round = self.standing.round;
        let mut after = vec![0.0; self.span_values().len()];
        theta.collect(&mut self.group, &mut after)?;
        let finite =
            self.store.with_anchor(|anchor| is_finite(&anchor.values, &after, &self.error));
        if !self.all_agree(finite)? {
            return self.forgo(theta, NOT_FINITE);
        }
        let (pieces, values) = self.compress(&after)?;
        let bytes: usize = pieces.iter().map(|(_, data)| data.len()).sum();
        let mut message = [(bytes as u64).to_le_bytes(), values.to_le_bytes()].concat();
        message.extend(pieces.iter().flat_map(|(_, data)| piece_digest(data).0));
        let all = self.group.all_gather_bytes(&message).map_err(during("gather digests"))?;
        let (mut digests, mut bytes, mut values) = (Vec::new(), 0, 0);
        for message in &all {
            let (words, rest) = message.as_chunks::<8>();
            debug_assert!(rest.is_empty());
            bytes += words.first().map_or(0, |word| u64::from_le_bytes(*word));
            values += words.get(1).map_or(0, |word| u64::from_le_bytes(*word));
            let listed = message.get(16..).unwrap_or_default().as_chunks::<32>().0;
            digests.extend(listed.iter().map(|bytes| Digest(*bytes)));
        }
        let digests: Arc<[Digest]> = digests.into();
        let digest = root_digest(&digests);
        self.store.insert(round, &self.config.island, &digests, pieces.iter().cloned());
        // Others ask every rank as soon as they hear of the offer.
        self.all_agree(true)?;
        self.sent = pieces;
        self.report.contribution_bytes = bytes;
        self.report.contribution_values = values;
        let contribution = Contribution {
            island: self.config.island.clone(),
            epoch: self.config.epoch,
            digest,
            bytes,
            tokens: trained.tokens,
            steps,
            loss: (trained.loss_sum / trained.tokens.max(1) as f64) as f32,
        };
        self.offer = Some((contribution, trained.stop));
        self.make_offer()?;
        self.standing.offered = true;
        self.report.exchange_seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Why the round has no contribution of this island after [`Member::offer`]; empty where it
    /// has one.
    pub fn forgone_for(&self) -> &'static str {
        if self.standing.forgone { NOT_FINITE } else { "" }
    }

    /// Ends the round without a contribution, for example because its steps were not finite; all
    /// ranks call it together. The replica is put back to where the round began, and the error
    /// feedback stays as it is.
    ///
    /// [`Member::next`] then waits for the others' commit and applies it. Where no other island
    /// takes part, or none offers for long, it has the round trained again.
    ///
    /// # Errors
    /// When the round was tried too often.
    pub fn forgo(&mut self, theta: &mut dyn Theta, reason: &str) -> Result<(), MemberError> {
        let round = self.standing.round;
        let times = self.forgone.map_or(0, |(times, _)| times) + 1;
        if times >= ROUND_TRIES {
            return Err(MemberError::Forgone { round, times, reason: reason.to_string() });
        }
        tracing::warn!(round, times, reason, "This island forgoes its contribution.");
        self.forgone = Some((times, Instant::now()));
        self.standing.forgone = true;
        self.load_local_start(theta)
    }

    /// The leader commits to the round's contribution; saying it twice does no harm.
    pub(crate) fn make_offer(&mut self) -> Result<(), MemberError> {
        let round = self.standing.round;
        if let (Some(session), Some((contribution, leaving))) = (&self.session, &self.offer) {
            let offer = session.offer(round, contribution.clone(), *leaving);
            if self.runtime.block_on(offer)? == Some(false) {
                tracing::info!(round, "This island's offer came too late: it counts in the next.");
            }
        }
        Ok(())
    }

    /// Encodes the rank's span; the error feedback keeps what is not sent.
    fn compress(&mut self, after: &[f32]) -> Result<(Vec<(u32, Bytes)>, u64), MemberError> {
        let round = self.standing.round;
        let id = self.frame_id(&self.config.island);
        let span = self.span_values();
        let start = span.start;
        let (mut pieces, mut values) = (Vec::new(), 0);
        for piece in self.span() {
            let range = self.layout.piece(piece).values;
            let own = range.start - start..range.end - start;
            let mut out = Vec::new();
            let stats = self.store.with_anchor(|anchor| {
                let at = PieceAt { layout: &self.layout, params: &self.config.codec, piece };
                let input =
                    PieceInput { anchor: &anchor.values[own.clone()], theta: &after[own.clone()] };
                compress_piece(at, &id, input, &mut self.error[own.clone()], &mut out)
            });
            values +=
                stats.map_err(|source| MemberError::Compress { round, source })?.values as u64;
            pieces.push((piece, Bytes::from(out)));
        }
        Ok((pieces, values))
    }

    /// Applies a commit; `None` when it is not here yet, or only a snapshot helps any more.
    pub(crate) fn apply(
        &mut self,
        commit: &Commit,
        theta: &mut dyn Theta,
    ) -> Result<Option<RoundReport>, MemberError> {
        let started = Instant::now();
        match self.hold_commit(commit)? {
            Hold::Whole => {}
            Hold::Partly => {
                self.report.exchange_seconds += started.elapsed().as_secs_f64();
                return Ok(None);
            }
            Hold::Lost => {
                tracing::warn!(
                    round = commit.round,
                    "A commit is out of reach; taking a snapshot."
                );
                self.standing.needs_snapshot = true;
                return Ok(None);
            }
        }
        let own = self.own(commit);
        self.apply_span(commit, own)?;
        self.stand_at(commit.round + 1);
        self.known = Known { tokens: commit.tokens, samples: commit.samples };
        let hash = self.theta_hash(self.standing.round)?;
        self.load_local_start(theta)?;
        if let Some(session) = &self.session {
            let applied = self.runtime.block_on(session.applied(commit.round, hash))?;
            // A coordinator that forgot the island learns of its θ when it joins again.
            let agrees = applied.unwrap_or(true);
            if !agrees {
                tracing::warn!(round = commit.round, "This island's θ differs from the others'.");
            }
            self.standing.needs_snapshot = !agrees;
        }
        self.report.exchange_seconds += started.elapsed().as_secs_f64();
        self.finish_report(commit, hash, own.is_some()).map(Some)
    }

    /// Begins a round, in which nothing has happened yet.
    pub(crate) fn stand_at(&mut self, round: u64) {
        let Standing { island, epoch, needs_snapshot, .. } = &self.standing;
        let at = Standing::at(island.clone(), *epoch, round);
        self.standing = Standing { needs_snapshot: *needs_snapshot, ..at };
        self.offer = None;
        self.sent.clear();
        self.forgone = None;
        self.told = None;
        self.gather = None;
        self.snapshot = None;
        self.holding_since = None;
    }

    /// Where in a commit this island's contribution is: the one that it made itself, not one that
    /// an earlier epoch of it offered.
    fn own(&self, commit: &Commit) -> Option<usize> {
        let (mine, _) = self.offer.as_ref()?;
        let is_mine = |c: &Contribution| (&c.island, c.digest) == (&mine.island, mine.digest);
        commit.set.iter().position(is_mine)
    }

    /// Aggregates a commit and steps. `own` is where this island's contribution is in it; one that
    /// is not in it goes back into the error feedback, and counts in a later round.
    fn apply_span(&mut self, commit: &Commit, own: Option<usize>) -> Result<(), MemberError> {
        let round = commit.round;
        let failed = |source| MemberError::Apply { round, source };
        let start = self.span_values().start;
        let id = self.frame_id(&self.config.island);
        if own.is_none() {
            self.take_back()?;
        }
        for piece in self.span() {
            let range = self.layout.piece(piece).values;
            let range = range.start - start..range.end - start;
            let at = PieceAt { layout: &self.layout, params: &self.config.codec, piece };
            let error = &mut self.error[range.clone()];
            let pieces = commit.set.iter().map(|c| self.store.piece(round, &c.island, piece));
            // What is not there is as good as a frame without a byte.
            let held: Vec<Bytes> = pieces.map(Option::unwrap_or_default).collect();
            let weighted = commit.set.iter().zip(&held);
            let weighted = weighted.map(|(c, bytes)| (c, id.for_island(&c.island), bytes));
            let set: Vec<Weighted<'_>> =
                weighted.map(|(c, id, bytes)| Weighted { weight: c.tokens, id, bytes }).collect();
            self.store.with_anchor_mut(|anchor| {
                anchor.round = None;
                let state = PieceState { anchor: &mut anchor.values[range], residual: error };
                apply_piece(at, &self.config.outer, &set, own, state).map_err(failed)
            })?;
        }
        self.store.with_anchor_mut(|anchor| anchor.round = Some(round + 1));
        Ok(())
    }

    /// What was compressed in this round was sent in vain.
    fn take_back(&mut self) -> Result<(), MemberError> {
        let (round, start) = (self.standing.round, self.span_values().start);
        let id = self.frame_id(&self.config.island);
        for (piece, bytes) in std::mem::take(&mut self.sent) {
            let range = self.layout.piece(piece).values;
            let error = &mut self.error[range.start - start..range.end - start];
            let at = PieceAt { layout: &self.layout, params: &self.config.codec, piece };
            restore_piece(at, &id, &bytes, error).map_err(|source| MemberError::Apply {
                round,
                source: ApplyError::Frame { index: 0, source },
            })?;
        }
        Ok(())
    }

    fn finish_report(
        &mut self,
        commit: &Commit,
        hash: Digest,
        contributed: bool,
    ) -> Result<RoundReport, MemberError> {
        let mut report = std::mem::take(&mut self.report);
        let sent = self.traffic.sent.swap(0, Ordering::Relaxed);
        let received = self.traffic.received.swap(0, Ordering::Relaxed);
        let message = [sent.to_le_bytes(), received.to_le_bytes()].concat();
        let all = self.group.all_gather_bytes(&message).map_err(during("sum traffic"))?;
        for message in &all {
            let (words, _) = message.as_chunks::<8>();
            report.bytes_sent += words.first().map_or(0, |word| u64::from_le_bytes(*word));
            report.bytes_received += words.get(1).map_or(0, |word| u64::from_le_bytes(*word));
        }
        report.round = commit.round;
        report.set_tokens = commit.set.iter().map(|c| c.tokens).sum();
        report.islands = u32::try_from(commit.set.len()).unwrap_or(u32::MAX);
        let weighted: f64 = commit.set.iter().map(|c| f64::from(c.loss) * c.tokens as f64).sum();
        report.loss = (weighted / report.set_tokens.max(1) as f64) as f32;
        report.contributed = contributed;
        report.theta_hash = Some(hash);
        Ok(report)
    }

    /// blake3 over the digests of all pieces of θ at the start of `round`; the same on every rank,
    /// whatever the spans. The digests are kept for others. All ranks call it together.
    pub fn theta_hash(&mut self, round: u64) -> Result<Digest, MemberError> {
        let start = self.span_values().start;
        let mine: Vec<u8> = self.store.with_anchor(|anchor| {
            let digest = |piece| {
                let range = self.layout.piece(piece).values;
                theta_piece_digest(&anchor.values[range.start - start..range.end - start]).0
            };
            self.store.span().flat_map(digest).collect()
        });
        let all = self.group.all_gather_bytes(&mine).map_err(during("hash parameters"))?;
        let digests = all.iter().flat_map(|bytes| bytes.as_chunks::<32>().0);
        let digests: Vec<Digest> = digests.map(|bytes| Digest(*bytes)).collect();
        let hash = root_digest(&digests);
        self.store.set_theta_digests(round, digests);
        Ok(hash)
    }

    /// Puts θ itself into the replica, for evaluation; undo it with [`Member::load_local_start`].
    pub fn load_theta(&mut self, theta: &mut dyn Theta) -> Result<(), MemberError> {
        let mine = self.anchor();
        Ok(theta.spread(&mut self.group, &mine)?)
    }

    /// Puts the point that this island trains from into the replica: θ less λ of its residual.
    pub fn load_local_start(&mut self, theta: &mut dyn Theta) -> Result<(), MemberError> {
        let mut mine = vec![0.0; self.error.len()];
        self.store.with_anchor(|anchor| {
            local_start(&self.config.codec, &anchor.values, &self.error, &mut mine);
        });
        Ok(theta.spread(&mut self.group, &mine)?)
    }
}

/// Whether a round's update, with what is left of earlier ones, can be encoded.
fn is_finite(anchor: &[f32], after: &[f32], error: &[f32]) -> bool {
    let updates = anchor.iter().zip(after).zip(error);
    updates.into_iter().all(|((anchor, after), error)| {
        (anchor - after).abs() + error.abs() < SENT_MAX && after.is_finite()
    })
}

#[cfg(test)]
mod tests {
    use super::is_finite;

    #[test]
    fn an_update_with_a_value_that_is_not_finite_or_too_large_is_none() {
        let table = [
            ([0.5, -2.0], [0.25, 0.0], true),
            ([f32::NAN, 0.0], [0.0, 0.0], false),
            ([f32::INFINITY, 0.0], [0.0, 0.0], false),
            ([0.0, 1e30], [0.0, 0.0], false),
            ([0.0, 0.0], [0.0, f32::NAN], false),
        ];
        for (after, error, expected) in table {
            assert_eq!(is_finite(&[1.0, 1.0], &after, &error), expected, "{after:?} {error:?}");
        }
    }
}
