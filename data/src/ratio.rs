//! The share of documents that is held out, as users write it.

use std::fmt;
use std::str::FromStr;

const BILLION: u64 = 1_000_000_000;

/// A share in `0 <= r < 1`, kept exactly to nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    billionths: u32,
}

/// A text is not a share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse {text:?} as a share: write for example 1% or 0.01, from 0 to under 100%")]
pub struct ParseRatioError {
    text: String,
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Ratio = Ratio { billionths: 0 };

    /// Says whether the share is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.billionths == 0
    }

    /// A uniformly drawn 64-bit number below this falls into the share.
    pub(crate) fn threshold(self) -> u64 {
        let scaled = (u128::from(self.billionths) << 64) / u128::from(BILLION);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

impl FromStr for Ratio {
    type Err = ParseRatioError;

    /// Reads a percentage (`1%`, `0.5%`) or a plain decimal (`0.01`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseRatioError { text: text.to_owned() };
        let (number, divisor) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100),
            None => (text.trim(), 1),
        };
        let billionths = decimal_billionths(number).ok_or_else(wrong)? / divisor;
        if billionths >= BILLION {
            return Err(wrong());
        }
        u32::try_from(billionths).map(|billionths| Ratio { billionths }).map_err(|_| wrong())
    }
}

/// Parses `digits[.digits]` into billionths; digits beyond the ninth decimal are dropped.
fn decimal_billionths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 3 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let padded = format!("{fraction:0<9}");
    let fraction: u64 = padded.get(..9)?.parse().ok()?;
    Some(whole * BILLION + fraction)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.billionths / 10_000_000, self.billionths % 10_000_000);
        let fraction = format!("{rest:07}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{whole}{point}{fraction}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_from_percentages_and_decimals() {
        let table = [
            ("1%", "1%"),
            ("0.5%", "0.5%"),
            (" 12.25 % ", "12.25%"),
            ("0.01", "1%"),
            ("0", "0%"),
            (".25", "25%"),
            ("99.9999999%", "99.9999999%"),
        ];
        for (text, shown) in table {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "%", "1", "100%", "-1%", "1e-2", "one", "1%%", ".", "9999999999999999999%"]
        {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_threshold_is_the_share_of_all_numbers() {
        assert_eq!(Ratio::ZERO.threshold(), 0);
        assert_eq!("50%".parse::<Ratio>().unwrap().threshold(), 1 << 63);
    }
}

#[cfg(test)]
mod laws;
