//! Emulation of a slower card: after each piece of work the rank rests, so that work takes as long
//! as it would at a share of this machine's speed.

use std::time::Duration;

use plan::spec::DeviceSpec;
use rustix::time::{ClockId, clock_gettime};

use crate::interrupt::Interrupt;

/// Keeps a rank to its emulated speed. Processor time counts, not wall time, so ranks that share a
/// busy machine keep their relative speeds.
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    since: Duration,
    interrupt: Interrupt,
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// How long to rest after `work` at a share `speed` of full speed.
fn rest(work: Duration, speed: f64) -> Duration {
    work.mul_f64((1.0 / speed - 1.0).max(0.0))
}

impl Pace {
    /// Starts to count. Speeds outside (0, 1] and real devices are not slowed down; `interrupt`
    /// ends a rest.
    pub fn new(device: &DeviceSpec, interrupt: Interrupt) -> Pace {
        let speed = match device {
            DeviceSpec::Cpu { speed, .. } if *speed > 0.0 && *speed < 1.0 => *speed,
            _ => 1.0,
        };
        Pace { speed, since: processor_time(), interrupt }
    }

    /// Begins a piece of work.
    pub fn begin(&mut self) {
        self.since = processor_time();
    }

    /// Ends it, resting as long as the emulated card would still compute.
    pub fn end(&mut self) {
        if self.speed < 1.0 {
            let work = processor_time().saturating_sub(self.since);
            self.interrupt.rest(rest(work, self.speed));
        }
    }
}

#[cfg(test)]
mod devices;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_of_a_quarter_of_the_speed_rests_three_times_as_long_as_it_works() {
        assert_eq!(rest(Duration::from_secs(1), 0.25), Duration::from_secs(3));
        assert_eq!(rest(Duration::from_secs(1), 1.0), Duration::ZERO);
    }
}
