//! What programs of different versions agree on: lines that one writes and another reads, and what
//! follows from how ranks end.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod coordinator;
mod events;
mod fate;

use proptest::test_runner::Config;

fn cases(cases: u32) -> Config {
    Config { failure_persistence: None, ..Config::with_cases(cases) }
}
