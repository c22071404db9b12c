//! Words and numbers of the tables.

use std::collections::BTreeMap;

/// The widest cell: longer ones lose their middle.
pub(super) const CELL: usize = 44;

/// Bytes of memory.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A time of any length.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s > 0.0 && s < 1e-4 => format!("{:.1} µs", s * 1e6),
        s if s > 0.0 && s < 1e-2 => format!("{:.1} ms", s * 1000.0),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A share of 1 in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Ascending numbers, as `0–3, 8`; of many parts the first and the last.
pub(super) fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}–{last}"),
        _ => run[0].to_string(),
    });
    fitting(&runs.collect::<Vec<_>>(), numbers.len())
}

/// Names that differ in a number at the end, as `dc-0-[0–7]`; others one after another.
pub(super) fn listed<Name: AsRef<str>>(names: &[Name]) -> String {
    let mut stems: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut plain = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        match numbered(name) {
            Some((stem, number)) => stems.entry(stem).or_default().push(number),
            None => plain.push(name.to_owned()),
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for (stem, mut numbers) in stems {
        numbers.sort_unstable();
        numbers.dedup();
        parts.push(match numbers[..] {
            [one] => format!("{stem}{one}"),
            _ => format!("{stem}[{}]", ranges(&numbers)),
        });
    }
    plain.sort_unstable();
    plain.dedup();
    parts.extend(plain);
    fitting(&parts, names.len())
}

/// A name's number at its end, where the number alone gives the name back.
fn numbered(name: &str) -> Option<(&str, u32)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some((stem, number))
}

/// All parts where they fit a cell; else some of the first, the last, and how many things there
/// are.
fn fitting(parts: &[String], count: usize) -> String {
    let all = parts.join(", ");
    match parts {
        [first, second, .., last] if all.chars().count() > CELL => {
            format!("{first}, {second} … {last} ({count})")
        }
        _ => all,
    }
}

/// At most so many characters: the beginning and the end of a longer text.
pub fn clip(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    if most == 0 {
        return String::new();
    }
    let head: String = text.chars().take(most / 2).collect();
    let tail: String = text.chars().skip(count - (most - most / 2 - 1)).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_shown_as_ranges_and_many_by_their_ends() {
        assert_eq!(ranges(&[0, 1, 2, 4, 7, 8]), "0–2, 4, 7–8");
        assert_eq!(ranges(&[3]), "3");
        let even: Vec<u32> = (0..512).map(|number| number * 2).collect();
        assert_eq!(ranges(&even), "0, 2 … 1022 (512)");
    }

    #[test]
    fn nodes_are_shown_by_what_they_share() {
        assert_eq!(listed(&["dc-0-1", "dc-0-0", "dc-0-2", "dc-0-2", "lab"]), "dc-0-[0–2], lab");
        assert_eq!(listed(&["gpu-01", "gpu-1"]), "gpu-1, gpu-01");
        let many: Vec<_> = (0..9).map(|at| format!("node-{at}.example.org")).collect();
        let expected = "node-0.example.org, node-1.example.org … node-8.example.org (9)";
        assert_eq!(listed(&many), expected);
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(clip("abcdefghij", 10), "abcdefghij");
        assert_eq!(clip("abcdefghijk", 10), "abcde…hijk");
        assert_eq!([clip("abc", 2), clip("abc", 1), clip("abc", 0)], ["a…", "…", ""]);
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(80 << 30), "80.0 GiB");
        assert_eq!(seconds(0.0), "0 ms");
        assert_eq!(seconds(0.000_042), "42.0 µs");
        assert_eq!(seconds(0.000_42), "0.4 ms");
        assert_eq!(seconds(0.0421), "42 ms");
        assert_eq!(seconds(5400.0), "90.0 min");
        assert_eq!(percent(0.125), "12.5%");
        assert_eq!(grouped(72_747_327_488), "72,747,327,488");
        assert_eq!(grouped(100), "100");
    }
}
