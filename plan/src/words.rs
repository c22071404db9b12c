//! Amounts, lists and errors in words, the same in all that people read.

use std::error::Error;

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

/// An error and its causes in one line, the outermost first, each said once.
pub fn chain(error: &dyn Error) -> String {
    chain_of(error, &|cause| cause.to_string())
}

/// As [`chain`], of errors that say more than a sentence each: `say` makes one of it.
pub fn chain_of(error: &dyn Error, say: &dyn Fn(&dyn Error) -> String) -> String {
    let mut text = say(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let said = say(cause);
        // Some errors have their cause in their own text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Level {
        #[error("failed to open: disk full")]
        Repeats(#[source] Box<Level>),
        #[error("failed to start")]
        Over(#[source] Box<Level>),
        #[error("disk full")]
        Deepest,
    }

    #[test]
    fn causes_follow_their_error_and_none_is_said_twice() {
        let repeats = Level::Repeats(Box::new(Level::Deepest));
        assert_eq!(chain(&repeats), "failed to open: disk full");
        let over = Level::Over(Box::new(repeats));
        assert_eq!(chain(&over), "failed to start: failed to open: disk full");
        let first = |error: &dyn Error| error.to_string().chars().take(14).collect();
        assert_eq!(chain_of(&over, &first), "failed to star: failed to open: disk full");
    }

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
