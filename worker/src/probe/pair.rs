//! Two ranks of a group: one says what both do and takes the times, the other follows.

use std::num::NonZero;
use std::time::{Duration, Instant};

use collective::{CommError, Group, GroupConfig};
use plan::cluster::Point;
use serde::{Deserialize, Serialize};

use super::ProbeError;
use super::extent::{BUDGET, LONGEST_SECONDS};
use super::timing::{REPEATS_MAX, REPEATS_MIN, median};

/// The rank that leads.
pub(super) const LEADER: u32 = 0;
/// The rank that follows.
pub(super) const FOLLOWER: u32 = 1;

/// Longest wait for the other rank.
const WAIT: Duration = Duration::from_secs(30);
/// Longest that a rank follows or repeats.
const ALL: Duration = Duration::from_secs(120);
/// A follower holds no larger message.
const BYTES_MAX: u64 = 64 << 20;
/// By this much messages grow from one to the next, at most.
const GROWTH: f64 = 4.0;
const VALUE_BYTES: u64 = size_of::<f32>() as u64;

/// What both ranks do, in bytes, of which whole values are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Work {
    /// A message to the follower, and then one back.
    Trip { out: u64, back: u64 },
    /// An all-reduce.
    AllReduce { bytes: u64 },
}

/// A work and how often it is done.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    work: Work,
    times: NonZero<u32>,
}

/// How the two ranks find each other.
pub(super) fn config(rank: u32) -> GroupConfig {
    let name = || "probe".to_owned();
    GroupConfig { run: name(), island: name(), epoch: 1, rank, world_size: 2, timeout: WAIT }
}

/// The rank that takes the times.
#[derive(Debug)]
pub(super) struct Leader(Group);

impl Leader {
    /// Leads the other rank of `group`.
    pub(super) fn of(group: Group) -> Leader {
        Leader(group)
    }

    /// Seconds of each work, from the smallest to the largest, or to the last that does not take
    /// too long; two at least.
    pub(super) fn ladder(
        &mut self,
        messages: &[u64],
        work: impl Fn(u64) -> Work,
    ) -> Result<Vec<Point>, ProbeError> {
        let mut points = Vec::new();
        for bytes in messages.iter().copied() {
            let once = self.seconds(work(bytes), 1)?;
            let repeats = (BUDGET.as_secs_f64() / once) as usize;
            let repeats = repeats.clamp(REPEATS_MIN, REPEATS_MAX) as u32;
            let seconds = self.seconds(work(bytes), repeats)?;
            points.push(Point { bytes, seconds });
            if points.len() > 1 && seconds * GROWTH > LONGEST_SECONDS {
                break;
            }
        }
        Ok(points)
    }

    fn seconds(&mut self, work: Work, times: u32) -> Result<f64, ProbeError> {
        let times = NonZero::new(times).unwrap_or(NonZero::<u32>::MIN);
        let order = Order { work, times };
        self.tell(Some(&order))?;
        let end = Instant::now() + ALL;
        Ok(median(carry_out(&mut self.0, &order, end)?))
    }

    /// Lets the follower go.
    pub(super) fn end(mut self) -> Result<(), ProbeError> {
        self.tell(None)
    }

    fn tell(&mut self, order: Option<&Order>) -> Result<(), ProbeError> {
        let strange = |error: serde_json::Error| strange(&error.to_string());
        let mut bytes = serde_json::to_vec(&order).map_err(strange)?;
        self.0
            .broadcast_bytes(&mut bytes, LEADER)
            .map_err(ProbeError::group("tell what is measured to"))
    }
}

/// Does what the leader says, until it says that it is done.
pub(super) fn follow(group: &mut Group) -> Result<(), ProbeError> {
    let end = Instant::now() + ALL;
    loop {
        let mut bytes = Vec::new();
        let told = group.broadcast_bytes(&mut bytes, LEADER);
        told.map_err(ProbeError::group("learn what is measured from"))?;
        let Some(order) = parse(&bytes)? else { return Ok(()) };
        carry_out(group, &order, end)?;
    }
}

/// What a leader said, if it is within bounds.
fn parse(bytes: &[u8]) -> Result<Option<Order>, ProbeError> {
    let order: Option<Order> =
        serde_json::from_slice(bytes).map_err(|error| strange(&error.to_string()))?;
    let Some(order) = order else { return Ok(None) };
    let most = match order.work {
        Work::Trip { out, back } => out.max(back),
        Work::AllReduce { bytes } => bytes,
    };
    if most > BYTES_MAX || order.times.get() > REPEATS_MAX as u32 {
        let detail = format!("{order:?} is more than {BYTES_MAX} bytes, {REPEATS_MAX} times");
        return Err(strange(&detail));
    }
    Ok(Some(order))
}

fn strange(detail: &str) -> ProbeError {
    ProbeError::Strange { who: "the other rank".to_owned(), detail: detail.to_owned() }
}

/// Seconds of each time, as this rank sees them.
fn carry_out(group: &mut Group, order: &Order, end: Instant) -> Result<Vec<f64>, ProbeError> {
    let (out, back) = match order.work {
        Work::Trip { out, back } => (out, back),
        Work::AllReduce { bytes } => (bytes, 0),
    };
    let (mut out, mut back) = (values(out)?, values(back)?);
    // Memory is had and touched on both sides before a time is taken.
    group.barrier().map_err(ProbeError::group("begin together with"))?;
    let mut seconds = Vec::new();
    for _ in 0..order.times.get() {
        let started = Instant::now();
        let done = once(group, order.work, &mut out, &mut back);
        done.map_err(ProbeError::group("exchange messages with"))?;
        seconds.push(started.elapsed().as_secs_f64());
        if Instant::now() > end {
            return Err(ProbeError::Slow { seconds: ALL.as_secs() });
        }
    }
    Ok(seconds)
}

fn once(group: &mut Group, work: Work, out: &mut [f32], back: &mut [f32]) -> Result<(), CommError> {
    match (work, group.rank() == LEADER) {
        (Work::AllReduce { .. }, _) => group.all_reduce(out),
        (Work::Trip { .. }, true) => {
            group.send(FOLLOWER, out)?;
            group.recv(FOLLOWER, back)
        }
        (Work::Trip { .. }, false) => {
            group.recv(LEADER, out)?;
            group.send(LEADER, back)
        }
    }
}

/// So many bytes of zeros; a host that is full is told of, not crashed by.
fn values(bytes: u64) -> Result<Vec<f32>, ProbeError> {
    let count = (bytes / VALUE_BYTES).max(1) as usize;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| ProbeError::NoMemory { bytes })?;
    values.resize(count, 0.0);
    Ok(values)
}

#[cfg(test)]
mod bounds;

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ranks at once, in memory; what each ended with.
    fn pair<T>(lead: impl FnOnce(Leader) -> T) -> (T, Result<(), ProbeError>) {
        let mut groups = Group::in_memory(2);
        let mut follower = groups.pop().unwrap();
        let leader = Leader::of(groups.pop().unwrap());
        std::thread::scope(|scope| {
            let follower = scope.spawn(move || follow(&mut follower));
            (lead(leader), follower.join().unwrap())
        })
    }

    #[test]
    fn each_work_is_timed_and_the_follower_let_go() {
        let trip = |bytes| Work::Trip { out: bytes, back: 4 };
        let all_reduce = |bytes| Work::AllReduce { bytes };
        let (points, followed) = pair(|mut leader| {
            let mut points = leader.ladder(&[4, 400], trip).unwrap();
            points.extend(leader.ladder(&[4, 4000], all_reduce).unwrap());
            leader.end().unwrap();
            points
        });
        followed.unwrap();
        assert_eq!(points.iter().map(|point| point.bytes).collect::<Vec<_>>(), [4, 400, 4, 4000]);
        assert!(points.iter().all(|point| point.seconds > 0.0), "{points:?}");
    }

    #[test]
    fn a_follower_refuses_what_is_beyond_its_bounds_or_no_order() {
        let huge = r#"{"work":{"AllReduce":{"bytes":67108868}},"times":1}"#;
        let often = r#"{"work":{"Trip":{"out":4,"back":4}},"times":51}"#;
        let never = r#"{"work":{"Trip":{"out":4,"back":4}},"times":0}"#;
        for bytes in [huge, often, never, "", "7", "{}", "\u{0}"] {
            let refused = parse(bytes.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with("failed to understand the other rank"), "{refused}");
        }
        let sound = r#"{"work":{"Trip":{"out":67108864,"back":0}},"times":50}"#;
        assert!(parse(sound.as_bytes()).unwrap().is_some());
        assert!(parse(b"null").unwrap().is_none());
    }

    #[test]
    fn a_leader_that_goes_ends_the_follower() {
        let ((), followed) = pair(drop);
        let refused = followed.unwrap_err().to_string();
        assert!(refused.starts_with("failed to learn what is measured"), "{refused}");
    }
}
