//! Guesses at what was meant by what was written: texts that are right when they are put in its
//! place. Whoever offers one has it checked first.

use serde_json::Value;

use crate::text::{Decimal, DurationText, Percent, Quantity};

/// Letters of a word for each edit by which it may differ from the one that was meant.
const LETTERS_PER_EDIT: usize = 3;
/// Letters of a word that another may begin with.
const BEGINNING_MIN: usize = 3;
/// Longer words are not compared.
const WORD_MAX: usize = 64;

/// `write …`, with what to write as it stands in YAML.
pub(crate) fn write(what: &str) -> String {
    format!("write `{what}`")
}

/// A text as it is written in YAML: in quotes where it would be something else without them.
pub(crate) fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-./_%".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let same = || serde_yaml::from_str::<Value>(text).is_ok_and(|value| value == text);
    match starts && text.chars().all(plain) && !is_text_here_alone(text) && same() {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

/// Words that YAML 1.1, as kubectl reads it, takes for something else than text.
fn is_text_here_alone(text: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off"];
    let number = |c: char| c.is_ascii_digit() || "_.:eE".contains(c);
    words.contains(&text.to_ascii_lowercase().as_str()) || text.chars().all(number)
}

/// A number and the letters behind it, without spaces and underscores.
fn parts(text: &str) -> Option<(f64, String)> {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && *c != '_').collect();
    if text.starts_with(['-', '+']) {
        return None;
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some((number, text[digits.len()..].to_ascii_lowercase()))
}

/// A quantity; `unit` is taken where there is none.
pub(crate) fn quantity(text: &str, unit: &str) -> Option<String> {
    let (number, suffix) = parts(text)?;
    let suffix = match suffix.as_str() {
        "" => unit,
        "b" | "bytes" => "",
        "k" | "kb" | "kbit" | "kbps" | "kbit/s" => "k",
        "m" | "mb" | "mbit" | "mbps" | "mbit/s" => "M",
        "g" | "gb" | "gbit" | "gbps" | "gbit/s" => "G",
        "t" | "tb" | "tbit" | "tbps" | "tbit/s" => "T",
        "p" | "pb" => "P",
        "ki" | "kib" => "Ki",
        "mi" | "mib" => "Mi",
        "gi" | "gib" => "Gi",
        "ti" | "tib" => "Ti",
        "pi" | "pib" => "Pi",
        _ => return None,
    };
    let meant = format!("{number}{suffix}");
    Quantity::from(meant.as_str()).value().is_some().then_some(meant)
}

/// A quantity of a number without a unit: GiB of memory, or MiB where it is thousands, as
/// nvidia-smi prints it, or bytes where it is millions; Mbit/s of a link, or bits where these are.
pub(crate) fn unitless(text: &str, of_link: bool) -> Option<String> {
    let (number, _) = parts(text).filter(|(_, suffix)| suffix.is_empty())?;
    match number {
        ..1e6 if of_link => quantity(text, "M"),
        _ if of_link => quantity(&(number / 1e6).to_string(), "M"),
        ..1e4 => quantity(text, "Gi"),
        ..1048576.0 => quantity(text, "Mi"),
        ..1e18 => Some(Quantity::from(number as u64).0),
        _ => None,
    }
}

/// A length of time; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Option<String> {
    let mut rest: String = text.chars().filter(|c| !c.is_whitespace() && *c != '_').collect();
    if rest.is_empty() {
        return None;
    }
    let mut millis = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let unit = match after[..letters].to_ascii_lowercase().as_str() {
            "" if millis == 0.0 && after.is_empty() => 1e3,
            "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
            "m" | "min" | "mins" | "minute" | "minutes" => 6e4,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3.6e6,
            "d" | "day" | "days" => 8.64e7,
            "w" | "week" | "weeks" => 6.048e8,
            _ => return None,
        };
        millis += number * unit;
        rest = after[letters..].to_owned();
    }
    let meant = in_units(millis.round() as u64);
    DurationText::from(meant.as_str()).total().is_some().then_some(meant)
}

fn in_units(mut millis: u64) -> String {
    let mut text = String::new();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if millis >= length {
            text += &format!("{}{unit}", millis / length);
            millis %= length;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// A percentage; a fraction below 1 is one too.
pub(crate) fn percent(text: &str) -> Option<String> {
    let (number, suffix) = parts(text)?;
    let whole = match suffix.as_str() {
        "" if number < 1.0 => number * 100.0,
        "" | "%" | "percent" => number,
        _ => return None,
    };
    let meant = format!("{}%", whole.round());
    Percent::from(meant.as_str()).value().is_some().then_some(meant)
}

/// A decimal number.
pub(crate) fn decimal(text: &str) -> Option<String> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace() && *c != '_').collect();
    if Decimal::from(bare.as_str()).value().is_some() {
        return Some(bare);
    }
    let dotted = match bare.contains('.') {
        true => bare,
        false => bare.replacen(',', ".", 1),
    };
    let (number, factor) = match dotted.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (dotted.as_str(), 1.0),
    };
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let meant = (number * factor).to_string();
    Decimal::from(meant.as_str()).value().is_some().then_some(meant)
}

/// A whole number.
pub(crate) fn whole(text: &str) -> Option<i64> {
    let bare: String =
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '_' | ',')).collect();
    if let Ok(number) = bare.parse() {
        return Some(number);
    }
    let (number, suffix) = parts(&bare)?;
    let factor = match suffix.as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" | "million" => 1e6,
        "g" | "b" | "bn" | "billion" => 1e9,
        "t" | "trillion" => 1e12,
        _ => return None,
    };
    let number = (number * factor).round();
    let close = (number / factor - parts(&bare)?.0).abs() < 1e-9 * number.abs().max(1.0);
    (close && number.abs() < 2_f64.powi(63)).then_some(number as i64)
}

/// True or false.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A name for a resource, made of those characters of a text that such a name may have.
pub(crate) fn name(text: &str) -> Option<String> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.trim().chars().map(letter).take(crate::load::NAME_MAX).collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The one of some words that another was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |word: &str| -> Vec<char> {
        let letters = word.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).take(WORD_MAX).collect()
    };
    // Words of other numbers are other things: llama-2b is not llama-1b.
    let digits = |word: &[char]| -> Vec<char> {
        word.iter().copied().filter(char::is_ascii_digit).collect()
    };
    let own = bare(word);
    let near = among.filter_map(|other| {
        let letters = bare(other);
        let (short, long) =
            if own.len() < letters.len() { (&own, &letters) } else { (&letters, &own) };
        let begins = short.len() >= BEGINNING_MIN && long.starts_with(short);
        let edits = edits(&own, &letters);
        let near = begins || edits <= short.len() / LETTERS_PER_EDIT;
        (near && digits(&own) == digits(&letters)).then_some((edits, other))
    });
    let near = near.min_by_key(|(edits, _)| *edits).map(|(_, other)| other);
    near.filter(|_| !own.is_empty())
}

/// Letters to put in, take out or change until two words are the same.
fn edits(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_by_its_number_and_its_unit() {
        let quantities = [
            ("24", "24Gi"),
            ("24GB", "24G"),
            ("24 GiB", "24Gi"),
            ("1e3Mi", "1000Mi"),
            ("1_000 mb", "1000M"),
            ("500Mbit/s", "500M"),
            ("24.5gi", "24.5Gi"),
        ];
        for (text, meant) in quantities {
            assert_eq!(quantity(text, "Gi").as_deref(), Some(meant), "{text}");
        }
        let unitless = [
            ("24", false, "24Gi"),
            ("24576", false, "24576Mi"),
            ("25769803776", false, "24Gi"),
            ("110", true, "110M"),
            ("1e9", true, "1000M"),
        ];
        for (text, of_link, meant) in unitless {
            assert_eq!(super::unitless(text, of_link).as_deref(), Some(meant), "{text}");
        }
        let durations = [
            ("30", "30s"),
            ("1d", "24h"),
            ("1.5h", "1h30m"),
            ("1h 30 min", "1h30m"),
            ("90sec", "1m30s"),
            ("0.25", "250ms"),
            ("0", "0s"),
        ];
        for (text, meant) in durations {
            assert_eq!(duration(text).as_deref(), Some(meant), "{text}");
        }
        for (text, meant) in [("60", "60%"), ("0.6", "60%"), ("66.7 %", "67%"), ("1", "1%")] {
            assert_eq!(percent(text).as_deref(), Some(meant), "{text}");
        }
        for (text, meant) in [("0,95", "0.95"), (".5", "0.5"), ("5%", "0.05"), ("1_0", "10")] {
            assert_eq!(decimal(text).as_deref(), Some(meant), "{text}");
        }
        let numbers = [
            ("1e9", 1_000_000_000),
            ("1_000_000", 1_000_000),
            ("2,000,000", 2_000_000),
            ("2.5B", 2_500_000_000),
            ("010", 10),
        ];
        for (text, meant) in numbers {
            assert_eq!(whole(text), Some(meant), "{text}");
        }
    }

    #[test]
    fn what_could_mean_anything_is_not_guessed() {
        for text in ["", "much", "-1", "12 parsecs", "Gi", "∞"] {
            assert_eq!(quantity(text, "Gi"), None, "{text}");
            assert_eq!(duration(text), None, "{text}");
            assert_eq!(percent(text), None, "{text}");
        }
        for text in ["", "fast", "1/3", "inf", "nan"] {
            assert_eq!(decimal(text), None, "{text}");
            assert_eq!(whole(text), None, "{text}");
        }
        assert_eq!(whole("1.5"), None);
        assert_eq!(nearest("x", ["gpus", "tokens"].into_iter()), None);
        assert_eq!(nearest("", ["a"].into_iter()), None);
    }

    #[test]
    fn words_are_near_by_their_letters() {
        let words = || ["learningRate", "warmupSteps", "minLearningRateRatio"].into_iter();
        for word in ["learning_rate", "learningrate", "LearningRate", "learnigRate", "lerningRat"] {
            assert_eq!(nearest(word, words()), Some("learningRate"), "{word}");
        }
        assert_eq!(nearest("batch", words()), None);
        let models = || ["llama-160m", "llama-1b"].into_iter();
        assert_eq!(nearest("llama-2b", models()), None);
        assert_eq!(nearest("Llama160M", models()), Some("llama-160m"));
    }

    #[test]
    fn texts_are_quoted_where_yaml_would_take_them_for_something_else() {
        for text in ["30s", "60%", "24Gi", "lab-a", "/data/x"] {
            assert_eq!(scalar(text), text);
        }
        for text in ["30", "3e-4", "true", "no", "null", "", "1_0", "12:30", "-x", "a: b", "%"] {
            assert_eq!(scalar(text), format!("{text:?}"));
        }
    }
}
