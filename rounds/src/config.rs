//! The rules of a run: how many islands, how long to wait, when it is done.

use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest accepted time of any rule: 30 days.
const TIME_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Members tell how far they are with a closed set once a second; a few of these may be late.
const STALL_MIN_MS: u64 = 4_000;
/// Most members that any run may have, and a view carries.
pub const MEMBERS_MAX: u32 = 1024;
/// Bytes of the run's name: Kubernetes' bound on an object's name.
const NAME_BYTES_MAX: usize = 253;

/// The rules as they are written down; [`RunConfig::validate`] makes them usable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunConfig {
    /// Name of the run.
    pub name: String,
    /// Islands that are expected; the run begins at once when all have joined.
    pub islands: u32,
    /// Islands with which it begins when `grace_ms` has passed since so many were there.
    pub minimum: u32,
    /// Share of the active members, 1 to 100, whose offers suffice once the grace has passed.
    pub quorum_percent: u8,
    /// Wait for the others after a quorum, milliseconds.
    pub grace_ms: u64,
    /// Longest training phase of a round with an offer, milliseconds.
    pub deadline_ms: u64,
    /// Longest fetching phase of a round, milliseconds.
    #[serde(default = "default_fetch_deadline_ms")]
    pub fetch_deadline_ms: u64,
    /// A member that is not heard of for so long is no member any more, milliseconds.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// Time that the run waits for the holders of a round, where all of them are away, before it
    /// goes back to a round that is still held, milliseconds.
    #[serde(default = "default_go_back_after_ms")]
    pub go_back_after_ms: u64,
    /// A person's word that the run may go back behind checkpoints that are known, and begin
    /// without islands that hold newer rounds.
    #[serde(default)]
    pub go_back: bool,
    /// Tokens after which the run is done.
    pub tokens: u64,
    /// Most members at a time.
    #[serde(default = "default_max_members")]
    pub max_members: u32,
}

fn default_fetch_deadline_ms() -> u64 {
    120_000
}

/// Members renew their lease from a thread of their own, so this covers a busy machine, not a long
/// step.
fn default_lease_ms() -> u64 {
    15_000
}

fn default_go_back_after_ms() -> u64 {
    600_000
}

fn default_max_members() -> u32 {
    256
}

/// Least time in which the members may fetch each other's contributions.
const FETCH_DEADLINE_MIN: Duration = Duration::from_secs(120);
/// Times the planned exchange that they have where that is more: uplinks are shared with others.
const FETCH_PATIENCE: f64 = 3.0;

/// The figures of a plan that a run's rounds depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Name of the run.
    pub name: String,
    /// Islands that are expected.
    pub islands: u32,
    /// Share of the members, 1 to 100, whose offers suffice once `grace` has passed.
    pub quorum_percent: u8,
    /// Wait for the others after the quorum.
    pub grace: Duration,
    /// Longest training phase of a round with an offer.
    pub deadline: Duration,
    /// See [`RunConfig::go_back`].
    pub go_back: bool,
    /// Seconds that an exchange is expected to take.
    pub exchange_seconds: f64,
    /// Tokens after which the run is done.
    pub tokens: u64,
}

impl Planned {
    /// The rules of a run whose known members are its planned islands.
    pub fn rules(self) -> RunConfig {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let quorum = u32::from(self.quorum_percent);
        let exchange = Duration::try_from_secs_f64(FETCH_PATIENCE * self.exchange_seconds);
        RunConfig {
            name: self.name,
            islands: self.islands,
            minimum: self
                .islands
                .saturating_mul(quorum)
                .div_ceil(100)
                .clamp(1, self.islands.max(1)),
            quorum_percent: self.quorum_percent,
            grace_ms: milliseconds(self.grace),
            deadline_ms: milliseconds(self.deadline),
            fetch_deadline_ms: milliseconds(
                exchange.unwrap_or(FETCH_DEADLINE_MIN).max(FETCH_DEADLINE_MIN),
            ),
            lease_ms: default_lease_ms(),
            go_back_after_ms: default_go_back_after_ms(),
            go_back: self.go_back,
            tokens: self.tokens,
            max_members: MEMBERS_MAX,
        }
    }
}

/// A rule that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept the run's rules: `{field}` {problem}")]
pub struct ConfigError {
    /// The field as it is written.
    pub field: &'static str,
    /// The problem with it.
    pub problem: String,
}

/// Rules that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config(RunConfig);

impl Deref for Config {
    type Target = RunConfig;

    fn deref(&self) -> &RunConfig {
        &self.0
    }
}

impl RunConfig {
    /// Checks every rule once.
    ///
    /// # Errors
    /// Names the first field that cannot be followed.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let no = |field, problem: &str| Err(ConfigError { field, problem: problem.into() });
        let letter = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return no("name", "has to have 1 to 253 bytes");
        }
        if !self.name.bytes().all(letter) {
            return no("name", "consists of letters, digits, `-`, `.` and `_`");
        }
        if self.max_members == 0 || self.max_members > MEMBERS_MAX {
            return no("maxMembers", "has to be 1 to 1024");
        }
        if self.islands == 0 || self.islands > self.max_members {
            return no("islands", "has to be at least 1 and at most `maxMembers`");
        }
        if self.minimum == 0 || self.minimum > self.islands {
            return no("minimum", "has to be at least 1 and at most `islands`");
        }
        if self.quorum_percent == 0 || self.quorum_percent > 100 {
            return no("quorumPercent", "has to be 1 to 100");
        }
        if self.tokens == 0 {
            return no("tokens", "has to be at least 1");
        }
        if self.grace_ms > TIME_MS_MAX {
            return no("graceMs", "has to be at most 30 days");
        }
        let times = [
            ("deadlineMs", self.deadline_ms),
            ("fetchDeadlineMs", self.fetch_deadline_ms),
            ("leaseMs", self.lease_ms),
            ("goBackAfterMs", self.go_back_after_ms),
        ];
        for (field, value) in times {
            if value == 0 || value > TIME_MS_MAX {
                return no(field, "has to be at least 1 ms and at most 30 days");
            }
        }
        Ok(Config(self))
    }
}

impl Config {
    /// How long a closed set is waited for while nobody gets any further with it, milliseconds: the
    /// grace, and at least the time in which members tell how far they are.
    pub fn stall_ms(&self) -> u64 {
        self.grace_ms.max(STALL_MIN_MS)
    }

    /// How long a contribution that no source serves is waited for while nobody gets any further,
    /// milliseconds: whoever fetches asks each source a few times within it.
    pub fn unserved_ms(&self) -> u64 {
        self.grace_ms.min(STALL_MIN_MS)
    }

    /// How many of `members` are a quorum: their share rounded up, at least one.
    pub fn quorum(&self, members: usize) -> usize {
        (members * usize::from(self.quorum_percent)).div_ceil(100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> RunConfig {
        RunConfig {
            name: "mini".into(),
            islands: 3,
            minimum: 2,
            quorum_percent: 60,
            grace_ms: 0,
            deadline_ms: 1000,
            fetch_deadline_ms: 1000,
            lease_ms: 1000,
            go_back_after_ms: 10_000,
            go_back: false,
            tokens: 1,
            max_members: 256,
        }
    }

    #[test]
    fn a_rule_that_cannot_be_followed_is_named() {
        type Spoil = fn(&mut RunConfig);
        let table: [(&str, Spoil); 12] = [
            ("name", |c| c.name.clear()),
            ("name", |c| c.name = "a b".into()),
            ("islands", |c| c.islands = 0),
            ("islands", |c| c.islands = 257),
            ("minimum", |c| c.minimum = 4),
            ("minimum", |c| c.minimum = 0),
            ("quorumPercent", |c| c.quorum_percent = 101),
            ("quorumPercent", |c| c.quorum_percent = 0),
            ("tokens", |c| c.tokens = 0),
            ("graceMs", |c| c.grace_ms = u64::MAX),
            ("leaseMs", |c| c.lease_ms = 0),
            ("maxMembers", |c| c.max_members = 1025),
        ];
        assert!(good().validate().is_ok());
        for (field, spoil) in table {
            let mut config = good();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn a_quorum_is_rounded_up_and_never_empty() {
        let config = good().validate().unwrap();
        let quorums: Vec<_> = (0..=5).map(|members| config.quorum(members)).collect();
        assert_eq!(quorums, [1, 1, 2, 2, 3, 3]);
    }
}
