//! Requests from which no round can be planned.

use std::ops::RangeInclusive;

use super::{ISLANDS_MAX, OuterRequest, Participant};
use crate::request::InnerSteps;

/// Seconds that a step and a deadline may have.
const SECONDS: RangeInclusive<f64> = 1e-6..=30.0 * 86_400.0;
/// Bits a second that an uplink may have.
const BITS: RangeInclusive<f64> = 1.0..=1e18;

/// Figures that no round can be planned from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OuterError {
    /// Nobody takes part.
    #[error("failed to plan rounds: the run has no island; add one")]
    NoIslands,
    /// More than [`ISLANDS_MAX`].
    #[error(
        "failed to plan rounds of {0} islands: a run has at most {ISLANDS_MAX}; leave some out"
    )]
    TooManyIslands(usize),
    /// A step that takes no time, or no end of it.
    #[error(
        "failed to plan rounds of {island}: a step of {seconds} s is none; \
         measure it again (it has to take a microsecond to 30 days)"
    )]
    Step {
        /// The island.
        island: String,
        /// The figure that was given.
        seconds: f64,
    },
    /// A step that trains nothing.
    #[error(
        "failed to plan rounds of {island}: a step of 0 tokens trains nothing; raise its batch"
    )]
    NoTokens {
        /// The island.
        island: String,
    },
    /// A link that carries nothing.
    #[error(
        "failed to plan rounds of {island}: an uplink of {bits} bit/s is none; \
         set uplink to at least 1 bit/s each way, or leave it out to have it measured"
    )]
    Uplink {
        /// The island.
        island: String,
        /// The figure that was given.
        bits: f64,
    },
    /// H of 0.
    #[error("failed to plan rounds of 0 inner steps: set sparseLoCo.innerSteps to at least 1")]
    NoSteps,
    /// A deadline that is none.
    #[error(
        "failed to plan rounds with a deadline of {0} s: \
         set rounds.deadline to more than 0 and at most 30 days"
    )]
    Deadline(f64),
}

pub(super) fn check(request: &OuterRequest) -> Result<(), OuterError> {
    match request.islands.len() {
        0 => return Err(OuterError::NoIslands),
        count if count > ISLANDS_MAX => return Err(OuterError::TooManyIslands(count)),
        _ => {}
    }
    if request.inner_steps == InnerSteps::Fixed(0) {
        return Err(OuterError::NoSteps);
    }
    if !SECONDS.contains(&request.deadline_seconds) {
        return Err(OuterError::Deadline(request.deadline_seconds));
    }
    request.islands.iter().try_for_each(check_island)
}

fn check_island(island: &Participant) -> Result<(), OuterError> {
    let name = || island.name.clone();
    if !SECONDS.contains(&island.step_seconds) {
        return Err(OuterError::Step { island: name(), seconds: island.step_seconds });
    }
    if island.step_tokens == 0 {
        return Err(OuterError::NoTokens { island: name() });
    }
    let ways = island.uplink.map_or([1.0; 2], |uplink| [uplink.up, uplink.down]);
    match ways.into_iter().find(|bits| !BITS.contains(bits)) {
        Some(bits) => Err(OuterError::Uplink { island: name(), bits }),
        None => Ok(()),
    }
}
