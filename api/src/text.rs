//! Values that stand as text in YAML: quantities, durations, percentages, decimals.
//!
//! Kubernetes wants no floats in an API, because clients round them differently. Each type keeps
//! the text as it was written and is parsed once, where a resource becomes a plan's input.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::advice;

/// Less memory than this is that of no card, nor of several: the quantity lacks its unit.
const BYTES_MIN: u64 = 1 << 20;
/// A slower link lacks its unit.
const BITS_MIN: u64 = 1000;
/// Digits behind a point that are computed with; those that follow only round up.
const FRACTION_DIGITS: usize = 20;

macro_rules! text_type {
    ($name:ident, $pattern:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            const PATTERN: &'static str = $pattern;
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "maxLength": 32, "pattern": Self::PATTERN })
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_type!(
    Quantity,
    r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
    "A Kubernetes quantity, such as `24Gi` or `110M`."
);
text_type!(
    DurationText,
    r"^([0-9]+(h|ms|m|s))+$",
    "A length of time, such as `30s`, `25m` or `1h30m`."
);
text_type!(Percent, r"^[0-9]{1,3}%$", "A percentage, such as `60%`.");
text_type!(
    Decimal,
    r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
    "A decimal number as text, such as `\"0.95\"` or `\"3e-4\"`."
);

/// Why a text is not what it has to be; the sentence says how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

/// The error of a text whose schema has one of the patterns above.
pub(crate) fn check(pattern: &str, text: &str) -> Option<TextError> {
    match pattern {
        Quantity::PATTERN => Quantity::from(text).parse().err(),
        DurationText::PATTERN => DurationText::from(text).parse().err(),
        Percent::PATTERN => Percent::from(text).parse().err(),
        Decimal::PATTERN => Decimal::from(text).parse().err(),
        _ => None,
    }
}

/// The error of a number where a schema has one of the patterns above, and the text that was meant;
/// `of_link` is a quantity of bits a second, others are memory.
pub(crate) fn check_number(
    pattern: &str,
    number: &str,
    of_link: bool,
) -> Option<(String, Option<String>)> {
    let (lacks, meant, example) = match pattern {
        Quantity::PATTERN => ("has no unit", advice::unitless(number, of_link), "24Gi"),
        DurationText::PATTERN => ("has no unit", advice::duration(number), "30s"),
        Percent::PATTERN => ("is not a percentage", advice::percent(number), "60%"),
        Decimal::PATTERN => ("has to be text", advice::decimal(number), "0.95"),
        _ => return None,
    };
    let message = match &meant {
        Some(meant) => format!("{number} {lacks}: {}", advice::write(&advice::scalar(meant))),
        None => {
            let example = advice::scalar(example);
            format!("{number} {lacks}: write it as text, such as `{example}`")
        }
    };
    Some((message, meant))
}

impl Quantity {
    /// The quantity in units, rounded up.
    ///
    /// # Errors
    /// Another form, or a number beyond 64 bits.
    pub fn parse(&self) -> Result<u64, TextError> {
        let text = self.0.as_str();
        self.value().ok_or_else(|| {
            TextError(match advice::quantity(text, "") {
                Some(meant) => format!("{text:?} is not a quantity: {}", advice::write(&meant)),
                None => format!(
                    "{text:?} is not a quantity: write a number with k, M, G, T, P, Ki, Mi, Gi, Ti \
                     or Pi, such as `24Gi`"
                ),
            })
        })
    }

    pub(crate) fn value(&self) -> Option<u64> {
        let text = self.0.as_str();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        scaled(digits, unit(&text[digits.len()..])?)
    }

    /// The quantity as memory, bytes.
    ///
    /// # Errors
    /// Another form, or less than is meant by anyone; 0 is nothing, and taken.
    pub fn bytes(&self) -> Result<u64, TextError> {
        let bytes = self.parse()?;
        let text = self.0.as_str();
        if bytes == 0 || bytes >= BYTES_MIN {
            return Ok(bytes);
        }
        Err(TextError(format!("{text} is {bytes} bytes: {}", self.with_unit(false, "24Gi"))))
    }

    /// The quantity as speed of a link, bits a second.
    ///
    /// # Errors
    /// Another form, or less than is meant by anyone.
    pub fn bits(&self) -> Result<u64, TextError> {
        let bits = self.parse()?;
        if bits >= BITS_MIN {
            return Ok(bits);
        }
        let written = self.with_unit(true, "110M");
        Err(TextError(format!("{} is {bits} bits a second: {written}", self.0)))
    }

    /// The advice for a number without a unit.
    fn with_unit(&self, of_link: bool, example: &str) -> String {
        let bare = self.0.ends_with(|c: char| c.is_ascii_digit()) && self.parse() != Ok(0);
        let meant = bare.then(|| advice::unitless(&self.0, of_link)).flatten();
        meant.map_or_else(
            || format!("write it with its unit, such as `{example}`"),
            |meant| advice::write(&meant),
        )
    }
}

impl From<u64> for Quantity {
    /// The same quantity in the largest binary unit that gives a whole number: `200Gi`.
    fn from(mut units: u64) -> Self {
        let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi"].into_iter();
        let mut suffix = suffixes.next();
        while units > 0 && units.is_multiple_of(1024) {
            let Some(larger) = suffixes.next() else { break };
            units /= 1024;
            suffix = Some(larger);
        }
        Self(format!("{units}{}", suffix.unwrap_or_default()))
    }
}

/// The factor that a suffix stands for.
fn unit(suffix: &str) -> Option<u64> {
    match suffix {
        "" => Some(1),
        "k" => Some(1000),
        "M" => Some(1000_u64.pow(2)),
        "G" => Some(1000_u64.pow(3)),
        "T" => Some(1000_u64.pow(4)),
        "P" => Some(1000_u64.pow(5)),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        "Ti" => Some(1 << 40),
        "Pi" => Some(1 << 50),
        _ => None,
    }
}

/// A number in digits, perhaps with a point, times `factor`, rounded up; what Kubernetes' 63 bits
/// do not hold is none. Floats would make 16,101 of `16.1k`.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(FRACTION_DIGITS));
    let more = u128::from(rest.bytes().any(|digit| digit != b'0'));
    let parts = 10_u128.pow(kept.len() as u32);
    let factor = u128::from(factor);
    let below = ((kept.parse::<u128>().ok()? + more) * factor).div_ceil(parts);
    let value = u128::from(whole.parse::<u64>().ok()?) * factor + below;
    u64::try_from(value).ok().filter(|value| *value <= i64::MAX as u64)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

impl Decimal {
    pub(crate) fn value(&self) -> Option<f64> {
        decimal(&self.0)
    }
}

/// A finite number in digits, sign, point and exponent; Rust also reads `inf`, `nan`, `.5` and
/// `1.`.
fn decimal(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let plain = [whole, fraction, exponent].into_iter().all(is_digits);
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

impl DurationText {
    /// The length of time.
    ///
    /// # Errors
    /// Another form, or longer than a thousand years.
    pub fn parse(&self) -> Result<Duration, TextError> {
        self.total().ok_or_else(|| {
            let text = &self.0;
            TextError(match advice::duration(text) {
                Some(meant) => {
                    format!("{text:?} is not a length of time: {}", advice::write(&meant))
                }
                None => format!(
                    "{text:?} is not a length of time: write hours, minutes and seconds, such as \
                     `1h30m`, `25m` or `30s`"
                ),
            })
        })
    }

    pub(crate) fn total(&self) -> Option<Duration> {
        const DURATION_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().ok()?;
            let after = &rest[digits..];
            let letters = after.len() - after.trim_start_matches(char::is_alphabetic).len();
            let millis = match &after[..letters] {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1000,
                "ms" => 1,
                _ => return None,
            };
            let part = Duration::from_millis(number.checked_mul(millis)?);
            total = total.checked_add(part)?;
            rest = &after[letters..];
        }
        (!self.0.is_empty() && total <= DURATION_MAX).then_some(total)
    }
}

impl Percent {
    /// The percentage, 1 to 100.
    ///
    /// # Errors
    /// Another form or range.
    pub fn parse(&self) -> Result<u8, TextError> {
        self.value().ok_or_else(|| {
            let text = &self.0;
            TextError(match advice::percent(text) {
                Some(meant) => format!("{text:?} is not a percentage: {}", advice::write(&meant)),
                None => {
                    format!(
                        "{text:?} is not a percentage: write one from 1% to 100%, such as `60%`"
                    )
                }
            })
        })
    }

    pub(crate) fn value(&self) -> Option<u8> {
        let digits = self.0.strip_suffix('%').filter(|digits| is_digits(digits))?;
        let percent = digits.parse().ok().filter(|_| digits.len() <= 3);
        percent.filter(|percent| (1..=100).contains(percent))
    }
}

impl Decimal {
    /// The number.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(&self) -> Result<f64, TextError> {
        self.value().ok_or_else(|| {
            let text = &self.0;
            TextError(match advice::decimal(text) {
                Some(meant) => {
                    let meant = advice::write(&advice::scalar(&meant));
                    format!("{text:?} is not a number: {meant}")
                }
                None => format!(
                    "{text:?} is not a number: write one in quotes, such as `\"0.95\"` or \
                     `\"3e-4\"`"
                ),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, value) in [
            ("24Gi", Some(24 << 30)),
            ("110M", Some(110_000_000)),
            ("1.5Ki", Some(1536)),
            ("7", Some(7)),
            ("24GB", None),
            ("24 Gi", None),
            ("-1", None),
            ("", None),
            ("Gi", None),
            ("1e3", None),
            ("99999999Pi", None),
        ] {
            let read = Quantity::from(text).parse();
            assert_eq!(read.as_ref().ok().copied(), value, "{text:?}: {read:?}");
        }
    }

    #[test]
    fn quantities_are_written_in_the_largest_whole_unit_and_read_back() {
        for (units, text) in [
            (0, "0"),
            (1023, "1023"),
            (1025, "1025"),
            (1536, "1536"),
            (200 << 30, "200Gi"),
            (3 << 60, "3072Pi"),
        ] {
            let written = Quantity::from(units);
            assert_eq!((written.0.as_str(), written.parse()), (text, Ok(units)));
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        for (text, seconds) in [
            ("30s", Some(30.0)),
            ("1h30m", Some(5400.0)),
            ("1m500ms", Some(60.5)),
            ("0s", Some(0.0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("5 m", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("9999999999999999h", None),
        ] {
            let read = DurationText::from(text).parse();
            assert_eq!(read.ok().map(|d| d.as_secs_f64()), seconds, "{text:?}");
        }
    }

    #[test]
    fn percentages_lie_between_1_and_100() {
        for (text, value) in
            [("60%", Some(60)), ("100%", Some(100)), ("0%", None), ("101%", None), ("0.6", None)]
        {
            assert_eq!(Percent::from(text).parse().ok(), value, "{text:?}");
        }
    }

    #[test]
    fn decimals_are_plain_finite_numbers() {
        for (text, value) in [
            ("0.95", Some(0.95)),
            ("3e-4", Some(3e-4)),
            ("-2", Some(-2.0)),
            ("inf", None),
            ("nan", None),
            (".5", None),
            ("1e999", None),
            ("0,5", None),
        ] {
            assert_eq!(Decimal::from(text).parse().ok(), value, "{text:?}");
        }
    }
}

#[cfg(test)]
mod forms;
