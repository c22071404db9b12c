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

    #[test]
    fn every_flag_and_number_has_its_place_in_the_message() {
        let numbers = StepControl {
            loss_sum: -0.0,
            squares: f64::MIN_POSITIVE,
            tokens: u64::MAX,
            ..StepControl::default()
        };
        for (stop, closed, interrupted) in
            [(true, false, false), (false, true, false), (false, false, true), (true, true, true)]
        {
            let step = StepControl { stop, closed, interrupted, ..numbers };
            let back = StepControl::decode(&step.encode()).expect("whole");
            assert_eq!(back, step);
            assert_eq!(back.loss_sum.to_bits(), step.loss_sum.to_bits(), "bit by bit");
        }
    }

    #[test]
    fn a_flag_of_one_rank_is_the_islands_and_no_flag_raises_another() {
        let none = StepControl::default();
        let flags = [
            StepControl { stop: true, ..none },
            StepControl { closed: true, ..none },
            StepControl { interrupted: true, ..none },
        ];
        for flagged in flags {
            for place in 0..3 {
                let mut ranks = [none; 3];
                ranks[place] = flagged;
                let all = ranks.map(|step| step.encode().to_vec());
                assert_eq!(StepControl::sum(&all).ok(), Some(flagged), "rank {place}");
            }
        }
    }

    #[test]
    fn sums_neither_wrap_nor_hide_what_is_not_a_number() {
        let many = StepControl { tokens: u64::MAX - 1, ..StepControl::default() };
        let odd = StepControl { loss_sum: f64::NAN, squares: f64::INFINITY, ..many };
        let sum = StepControl::sum(&[many, odd].map(|step| step.encode().to_vec()));
        let sum = sum.expect("whole messages");
        assert_eq!(sum.tokens, u64::MAX);
        assert!(sum.loss_sum.is_nan() && sum.squares.is_infinite());
    }

    #[test]
    fn messages_of_every_other_length_are_refused() {
        let whole = StepControl::default().encode();
        for length in (0..BYTES).chain([BYTES + 1, 2 * BYTES]) {
            let mut message = whole.to_vec();
            message.resize(length, 0);
            assert!(StepControl::sum(&[message]).is_err(), "{length} bytes");
        }
    }
}
