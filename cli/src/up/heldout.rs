//! Held-out loss that rises, which a curve shows and a line at a time does not.

use std::collections::BTreeMap;

/// Times the lowest loss from which one evaluation is a rise; less may be noise.
const RISE: f64 = 1.01;

/// Says that held-out loss rises: once for each loss that was the lowest before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The round of the lowest loss after which a rise was told of.
    told: Option<u64>,
}

impl Watch {
    /// The sentence on the losses by round, of which the last is new.
    pub fn note(&mut self, losses: &BTreeMap<u64, f64>) -> Option<String> {
        let (at, lowest) = lowest(losses)?;
        let (round, loss) = losses.last_key_value()?;
        let mut newest = losses.values().rev();
        let [last, before, first] = [newest.next(), newest.next(), newest.next()];
        let twice = last > before && before > first && first.is_some();
        if self.told == Some(at)
            || at == *round
            || !(twice || *loss > RISE * lowest || loss.is_nan())
        {
            return None;
        }
        self.told = Some(at);
        Some(format!(
            "held-out loss rises: {loss:.4} at the start of round {round}, {lowest:.4} at that of \
             round {at}; a lower optimizer.learningRate, a longer warm-up or more text may help"
        ))
    }
}

/// The lowest loss and its round.
pub fn lowest(losses: &BTreeMap<u64, f64>) -> Option<(u64, f64)> {
    let numbers = losses.iter().filter(|(_, loss)| !loss.is_nan());
    numbers.min_by(|a, b| a.1.total_cmp(b.1)).map(|(round, loss)| (*round, *loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rounds at which something is said.
    fn told(losses: &[f64]) -> Vec<u64> {
        let (mut watch, mut known) = (Watch::default(), BTreeMap::new());
        let mut rounds = Vec::new();
        for (round, loss) in (0..).zip(losses) {
            known.insert(round, *loss);
            // Every island reports it.
            rounds.extend(
                [watch.note(&known), watch.note(&known)].into_iter().flatten().map(|_| round),
            );
        }
        rounds
    }

    #[test]
    fn a_rise_is_said_once_for_each_loss_that_it_rises_from() {
        assert_eq!(told(&[]), [0; 0]);
        assert_eq!(told(&[5.0, 4.0, 3.0]), [0; 0]);
        assert_eq!(told(&[5.0, 5.2, 5.3, 5.4]), [1]);
        assert_eq!(told(&[5.0, 4.0, 4.01, 3.9, 3.91]), [0; 0], "noise");
        assert_eq!(told(&[5.0, 4.0, 4.01, 4.02, 4.03]), [3], "twice in a row");
        assert_eq!(told(&[5.0, 4.0, 4.5, 3.0, 3.5]), [2, 4]);
        assert_eq!(told(&[5.0, f64::NAN]), [1]);
        assert_eq!(told(&[f64::NAN, 5.0, 4.0]), [0; 0]);
    }
}
