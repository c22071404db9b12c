//! How long messages take: between devices, between processes, and between machines.

use std::thread;

use collective::{Endpoint, Group};
use plan::cluster::{Bandwidth, Curve, Point};
use tch::{Device, Kind, TchError, Tensor};

use super::ProbeError;
use super::device::settle;
use super::extent::BUDGET_MAX;
use super::pair::{self, FOLLOWER, LEADER, Leader, Work};
use super::timing::{curve, median_seconds};

/// What comes back of a message that is timed one way.
const WORD_BYTES: u64 = 4;

/// Copies from the first card to the second.
pub(super) fn process(messages: &[u64]) -> Result<Curve, ProbeError> {
    let copied = |bytes: &u64| {
        copy_seconds(*bytes).map(|seconds| Point { bytes: *bytes, seconds }).map_err(|source| {
            let operation = "copy tensors from card 0";
            ProbeError::Torch { operation, device: "card 1".to_owned(), source }
        })
    };
    let points = messages.iter().map(copied).collect::<Result<Vec<_>, _>>()?;
    curve(points).map_err(|source| ProbeError::Curve { link: "the process", source })
}

fn copy_seconds(bytes: u64) -> Result<f64, TchError> {
    let values = [(bytes / 4).max(1) as i64];
    let ones = |index| Tensor::f_ones(values, (Kind::Float, Device::Cuda(index)));
    let (source, mut copy) = (ones(0)?, ones(1)?);
    settle(&source)?;
    median_seconds(BUDGET_MAX, || {
        copy.f_copy_(&source)?;
        settle(&copy)
    })
}

/// Messages, and all-reduces, between two ranks of this node: over loopback, as between processes.
pub(super) fn node(messages: &[u64]) -> Result<(Curve, Curve), ProbeError> {
    let bind = || Endpoint::bind("127.0.0.1:0").map_err(ProbeError::group("listen for"));
    let ends = [bind()?, bind()?];
    let addresses = ends.each_ref().map(|end| end.address().to_string());
    let connect = |end: Endpoint, rank| -> Result<Group, ProbeError> {
        let group = end.connect(pair::config(rank), &addresses);
        group.map_err(ProbeError::group("connect over loopback to"))
    };
    let [own, other] = ends;
    thread::scope(|scope| {
        let follower = thread::Builder::new()
            .name("follower".into())
            .spawn_scoped(scope, || pair::follow(&mut connect(other, FOLLOWER)?))
            .map_err(ProbeError::Thread)?;
        let lead = || {
            let mut leader = Leader::of(connect(own, LEADER)?);
            let curves =
                (point_to_point(&mut leader, messages)?, all_reduce(&mut leader, messages)?);
            leader.end()?;
            Ok(curves)
        };
        let led = lead();
        let followed = follower.join().unwrap_or(Err(ProbeError::Broken));
        // Where the follower began it, the leader only knows that it is gone.
        match (led, followed) {
            (Err(ProbeError::Group { .. }), Err(cause)) => Err(cause),
            (led, _) => led,
        }
    })
}

/// One way, of trips there and back with the same message.
pub(super) fn point_to_point(leader: &mut Leader, messages: &[u64]) -> Result<Curve, ProbeError> {
    let mut points = leader.ladder(messages, |bytes| Work::Trip { out: bytes, back: bytes })?;
    points.iter_mut().for_each(|point| point.seconds /= 2.0);
    curve(points).map_err(|source| ProbeError::Curve { link: "the link", source })
}

fn all_reduce(leader: &mut Leader, messages: &[u64]) -> Result<Curve, ProbeError> {
    let points = leader.ladder(messages, |bytes| Work::AllReduce { bytes })?;
    curve(points).map_err(|source| ProbeError::Curve { link: "all-reduce", source })
}

/// Bits per second to the other rank and from it.
pub(super) fn uplink(leader: &mut Leader, messages: &[u64]) -> Result<Bandwidth, ProbeError> {
    let up = leader.ladder(messages, |bytes| Work::Trip { out: bytes, back: WORD_BYTES })?;
    let down = leader.ladder(messages, |bytes| Work::Trip { out: WORD_BYTES, back: bytes })?;
    Ok(Bandwidth { up: bits_per_second(&up), down: bits_per_second(&down) })
}

/// Between the smallest message and the largest, so that latency does not count.
fn bits_per_second(points: &[Point]) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return 0.0 };
    let (bytes, seconds) = (last.bytes - first.bytes, last.seconds - first.seconds);
    if seconds > 0.0 {
        return 8.0 * bytes as f64 / seconds;
    }
    8.0 * last.bytes as f64 / last.seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_no_part_of_a_bandwidth() {
        let at = |bytes, seconds| Point { bytes, seconds };
        assert_eq!(bits_per_second(&[at(1000, 1.5), at(5000, 2.5)]), 32_000.0);
        assert_eq!(bits_per_second(&[at(1000, 2.0), at(5000, 2.0)]), 20_000.0);
    }
}
