//! Amounts in words, the same in all reasons and refusals.

/// Bytes of memory; small cards differ by less than a tenth of a GiB.
pub fn gib(bytes: u64) -> String {
    if bytes < 2 << 30 {
        return format!("{} MiB", bytes.div_ceil(1 << 20));
    }
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The first `most` of some names, and how many more there are: `a, b and 3 more`.
pub fn named<Name: AsRef<str>>(names: &[Name], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_up_to_a_bound_and_the_others_counted() {
        let table: [(&[&str], &str); 4] = [
            (&[], ""),
            (&["a"], "a"),
            (&["a", "b"], "a, b"),
            (&["a", "b", "c", "d"], "a, b and 2 more"),
        ];
        for (names, expected) in table {
            assert_eq!(named(names, 2), expected);
        }
    }

    #[test]
    fn little_memory_is_said_more_exactly_than_much() {
        assert_eq!(gib(1), "1 MiB");
        assert_eq!(gib((2 << 30) - 1), "2048 MiB");
        assert_eq!(gib(2 << 30), "2.0 GiB");
        assert_eq!(gib(80 << 30), "80.0 GiB");
    }
}
