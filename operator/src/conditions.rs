//! Conditions, as `metav1.Condition` has them: one of each type, whose time changes with its
//! status.

use std::fmt;

use api::status::{Condition, ConditionStatus, ConditionType};
use k8s_openapi::jiff::Timestamp;

/// Why something is as it is: a word for programs, and by its `Display` a sentence for people.
pub(crate) trait AsReason: fmt::Display {
    /// One CamelCase word of a closed list, as conditions and events have it.
    fn as_str(&self) -> &'static str;
}

/// What is to be said of one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub kind: ConditionType,
    pub status: ConditionStatus,
    /// The word of a reason.
    pub reason: &'static str,
    /// Its sentence.
    pub message: String,
}

/// Longest message that the schema takes, bytes.
const MESSAGE_MAX: usize = 32_768;

impl Said {
    pub(crate) fn yes(kind: ConditionType, reason: &dyn AsReason) -> Self {
        Self::new(kind, ConditionStatus::True, reason)
    }

    pub(crate) fn no(kind: ConditionType, reason: &dyn AsReason) -> Self {
        Self::new(kind, ConditionStatus::False, reason)
    }

    pub(crate) fn unknown(kind: ConditionType, reason: &dyn AsReason) -> Self {
        Self::new(kind, ConditionStatus::Unknown, reason)
    }

    fn new(kind: ConditionType, status: ConditionStatus, reason: &dyn AsReason) -> Self {
        Self { kind, status, reason: reason.as_str(), message: reason.to_string() }
    }
}

/// The conditions after what is said now. A type of which nothing is said is no condition any more.
pub(crate) fn conditions(
    before: &[Condition],
    said: Vec<Said>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |said: Said| {
        let same = Condition::find(before, said.kind).filter(|old| old.status == said.status);
        let since = same.map_or_else(|| seconds(now), |old| old.last_transition_time.clone());
        Condition {
            kind: said.kind.as_str().to_owned(),
            status: said.status,
            observed_generation: generation,
            last_transition_time: since,
            reason: said.reason.to_owned(),
            message: shortened(said.message, MESSAGE_MAX),
        }
    };
    said.into_iter().map(condition).collect()
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
pub(crate) fn seconds(time: Timestamp) -> String {
    whole_seconds(time).to_string()
}

/// The time without what is less than a second, which no status has.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// At most so many bytes of a text, at a character's end.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word, and a sentence that is the word again.
    struct Word(&'static str);

    impl AsReason for Word {
        fn as_str(&self) -> &'static str {
            self.0
        }
    }

    impl fmt::Display for Word {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "it is {}", self.0)
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let (yes, no) = (
            |word| vec![Said::yes(ConditionType::Ready, &Word(word))],
            |word| vec![Said::no(ConditionType::Ready, &Word(word))],
        );
        let first = conditions(&[], no("A"), Some(1), at(10));
        assert_eq!((first[0].kind.as_str(), first[0].message.as_str()), ("Ready", "it is A"));
        let second = conditions(&first, no("B"), Some(2), at(20));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("B", Some(2)));
        let third = conditions(&second, yes("C"), Some(2), at(30));
        assert_eq!(third[0].last_transition_time, "1970-01-01T00:00:30Z");
        assert!(conditions(&third, vec![], Some(2), at(40)).is_empty());
    }

    #[test]
    fn a_message_ends_at_a_character() {
        assert_eq!(shortened("aä".into(), 2), "a");
        assert_eq!(shortened("aä".into(), 3), "aä");
    }
}
