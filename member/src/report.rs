//! What a round was, seen from one island.

use rounds::types::{Commit, Digest};

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

impl RoundReport {
    /// Takes down what was committed, and what every rank sent and received meanwhile.
    pub(crate) fn close(&mut self, commit: &Commit, hash: Digest, traffic: &[Vec<u8>]) {
        for message in traffic {
            let (words, _) = message.as_chunks::<8>();
            self.bytes_sent += words.first().map_or(0, |word| u64::from_le_bytes(*word));
            self.bytes_received += words.get(1).map_or(0, |word| u64::from_le_bytes(*word));
        }
        self.round = commit.round;
        self.set_tokens = commit.set.iter().map(|c| c.tokens).sum();
        self.islands = u32::try_from(commit.set.len()).unwrap_or(u32::MAX);
        let weighted: f64 = commit.set.iter().map(|c| f64::from(c.loss) * c.tokens as f64).sum();
        self.loss = (weighted / self.set_tokens.max(1) as f64) as f32;
        self.theta_hash = Some(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commit_of, contribution};

    #[test]
    fn the_loss_is_weighted_by_tokens_and_bytes_are_summed_over_ranks() {
        let small = rounds::types::Contribution { tokens: 1, loss: 5.0, ..contribution("a") };
        let large = rounds::types::Contribution { tokens: 3, loss: 1.0, ..contribution("b") };
        let traffic =
            |sent: u64, received: u64| [sent.to_le_bytes(), received.to_le_bytes()].concat();
        let mut report = RoundReport { contribution_bytes: 7, ..RoundReport::default() };
        let hash = Digest([9; 32]);
        report.close(&commit_of(4, &[small, large]), hash, &[traffic(10, 1), traffic(20, 2)]);
        let expected = RoundReport {
            round: 4,
            set_tokens: 4,
            islands: 2,
            loss: 2.0,
            theta_hash: Some(hash),
            contribution_bytes: 7,
            bytes_sent: 30,
            bytes_received: 3,
            ..RoundReport::default()
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_round_that_nobody_gave_anything_to_has_a_loss_that_is_a_number() {
        let mut report = RoundReport::default();
        report.close(&commit_of(4, &[]), Digest([9; 32]), &[vec![]]);
        assert_eq!((report.islands, report.set_tokens, report.loss), (0, 0, 0.0));
        assert_eq!(report.bytes_sent, 0, "a message without numbers adds none");
    }
}
