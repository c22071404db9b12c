//! Conditions, as `metav1.Condition` has them: one of each type, whose time changes with its
//! status.

use api::status::{Condition, ConditionStatus};
use k8s_openapi::jiff::Timestamp;

/// What is to be said of one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub kind: &'static str,
    pub status: ConditionStatus,
    /// One of a closed list.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Longest message that the schema takes, bytes.
const MESSAGE_MAX: usize = 32_768;

impl Said {
    pub(crate) fn yes(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: ConditionStatus::True, reason, message: message.into() }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: ConditionStatus::False, reason, message: message.into() }
    }

    pub(crate) fn unknown(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: ConditionStatus::Unknown, reason, message: message.into() }
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
        let same = before.iter().find(|old| old.kind == said.kind && old.status == said.status);
        let since = same.map_or_else(|| seconds(now), |old| old.last_transition_time.clone());
        Condition {
            kind: said.kind.to_owned(),
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
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    whole.to_string()
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

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let first = conditions(&[], vec![Said::no("Ready", "A", "a")], Some(1), at(10));
        let second = conditions(&first, vec![Said::no("Ready", "B", "b")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("B", Some(2)));
        let third = conditions(&second, vec![Said::yes("Ready", "C", "c")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, "1970-01-01T00:00:30Z");
        assert!(conditions(&third, vec![], Some(2), at(40)).is_empty());
    }

    #[test]
    fn a_message_ends_at_a_character() {
        assert_eq!(shortened("aä".into(), 2), "a");
        assert_eq!(shortened("aä".into(), 3), "aä");
    }
}
