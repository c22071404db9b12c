//! What an island's ranks tell each other at every inner step.

use collective::CommError;

/// Sums and flags over the island's ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepControl {
    /// Summed loss in nats.
    pub loss_sum: f64,
    /// Summed squares of the gradient's values, in the order of the ranks: all have the same bits.
    pub squares: f64,
    /// Tokens.
    pub tokens: u64,
    /// Some rank was asked to stop.
    pub stop: bool,
    /// The round closed, or closes before the rest of the steps: they would be in vain.
    pub closed: bool,
    /// Some rank that was asked to stop left the step before its end: it is void.
    pub interrupted: bool,
}

/// Three numbers and three flags.
const BYTES: usize = 3 * 8 + 3;

impl StepControl {
    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let mut message = [0; BYTES];
        message[..8].copy_from_slice(&self.loss_sum.to_le_bytes());
        message[8..16].copy_from_slice(&self.squares.to_le_bytes());
        message[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        let flags = [self.stop, self.closed, self.interrupted];
        message[24..].copy_from_slice(&flags.map(u8::from));
        message
    }

    /// Adds up what the ranks sent, in their order.
    pub(crate) fn sum(all: &[Vec<u8>]) -> Result<StepControl, CommError> {
        let mut sum = StepControl::default();
        for (rank, bytes) in (0..).zip(all) {
            let of_rank = StepControl::decode(bytes).ok_or_else(|| {
                let detail = "a step's control message has the wrong length".to_string();
                CommError::Protocol { rank, detail }
            })?;
            sum.loss_sum += of_rank.loss_sum;
            sum.squares += of_rank.squares;
            sum.tokens = sum.tokens.saturating_add(of_rank.tokens);
            sum.stop |= of_rank.stop;
            sum.closed |= of_rank.closed;
            sum.interrupted |= of_rank.interrupted;
        }
        Ok(sum)
    }

    fn decode(bytes: &[u8]) -> Option<StepControl> {
        let (numbers, flags) = bytes.as_chunks::<8>();
        let &[loss_sum, squares, tokens] = numbers else { return None };
        let &[stop, closed, interrupted] = flags else { return None };
        Some(StepControl {
            loss_sum: f64::from_le_bytes(loss_sum),
            squares: f64::from_le_bytes(squares),
            tokens: u64::from_le_bytes(tokens),
            stop: stop != 0,
            closed: closed != 0,
            interrupted: interrupted != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ranks_sent_is_summed_in_their_order() {
        let rank = |squares, stop| StepControl {
            loss_sum: 1.5,
            squares,
            tokens: 10,
            stop,
            interrupted: stop,
            ..StepControl::default()
        };
        let sent = [rank(1e16, false), rank(1.0, true), rank(-1e16, false)];
        let all: Vec<_> = sent.iter().map(|step| step.encode().to_vec()).collect();
        let squares = 1e16 + 1.0 - 1e16;
        let expected = StepControl { loss_sum: 4.5, tokens: 30, ..rank(squares, true) };
        assert_eq!(StepControl::sum(&all).ok(), Some(expected));
    }

    #[test]
    fn a_message_of_another_length_blames_its_sender() {
        let good = StepControl::default().encode().to_vec();
        let short = good[..18].to_vec();
        let error = StepControl::sum(&[good, short]).expect_err("too short");
        assert_eq!(error.rank(), Some(1));
    }
}
