//! How a step's work is divided over stages and replicas of unlike speed and memory.

/// The room of a stage for layers. Its seconds do not fall with its layers.
pub(crate) struct Room<F> {
    /// Layers that its memory holds.
    pub layers: u32,
    /// Seconds of so many layers.
    pub seconds: F,
}

/// Layers of each stage, at least one, so that the slowest stage is as fast as possible; `None`
/// where there is no room for all of them.
///
/// One by one, a layer goes to the stage that would be the fastest with it. No division has a
/// faster slowest stage: one that has would give the slowest stage here fewer layers, and so
/// another stage more layers than it has here, which would have been slower with them.
pub(crate) fn layers<F: Fn(u32) -> f64>(layers: u32, rooms: &[Room<F>]) -> Option<Vec<u32>> {
    let holds = rooms.iter().map(|room| u64::from(room.layers)).sum::<u64>();
    let stages = u32::try_from(rooms.len()).ok()?;
    if stages > layers || holds < layers.into() || rooms.iter().any(|room| room.layers == 0) {
        return None;
    }
    let mut counts = vec![1; rooms.len()];
    let next = |room: &Room<F>, count: u32| {
        if count < room.layers { (room.seconds)(count + 1) } else { f64::INFINITY }
    };
    let mut seconds: Vec<f64> = rooms.iter().map(|room| next(room, 1)).collect();
    for _ in stages..layers {
        let stage = (0..rooms.len()).min_by(|a, b| seconds[*a].total_cmp(&seconds[*b]))?;
        counts[stage] += 1;
        seconds[stage] = next(&rooms[stage], counts[stage]);
    }
    Some(counts)
}

/// The cost of a replica's micro-batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Seconds before and after the slowest stage works.
    pub once: f64,
    /// Seconds of the slowest stage for each.
    pub each: f64,
}

/// Divides micro-batches over replicas, at least one to each, so that the last ends as early as
/// possible: first the whole part of each replica's share by speed but one, then the rest one by
/// one to whoever would end it first. There are as many as replicas.
pub(crate) fn micro_batches(count: u32, turns: &[Turn]) -> Vec<u32> {
    let speed: f64 = turns.iter().map(|turn| 1.0 / turn.each).sum();
    let once: f64 = turns.iter().map(|turn| turn.once / turn.each).sum();
    // All would end together here.
    let end = (f64::from(count) + once) / speed;
    let share = |turn: &Turn| (((end - turn.once) / turn.each) as u32).saturating_sub(1).max(1);
    let mut counts: Vec<u32> = turns.iter().map(share).collect();
    let ends = |counts: &[u32], at: usize, more: f64| {
        turns[at].once + (f64::from(counts[at]) + more) * turns[at].each
    };
    let mut given = counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    while given > u64::from(count) {
        let many = (0..turns.len()).filter(|at| counts[*at] > 1);
        let last = many.max_by(|a, b| ends(&counts, *a, 0.0).total_cmp(&ends(&counts, *b, 0.0)));
        let Some(last) = last else { break };
        counts[last] -= 1;
        given -= 1;
    }
    while given < u64::from(count) {
        let by_end =
            |a: &usize, b: &usize| ends(&counts, *a, 1.0).total_cmp(&ends(&counts, *b, 1.0));
        let Some(first) = (0..turns.len()).min_by(by_end) else { break };
        counts[first] += 1;
        given += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(layers: u32, each: f64, other: f64) -> Room<impl Fn(u32) -> f64> {
        Room { layers, seconds: move |count| other + f64::from(count) * each }
    }

    #[test]
    fn faster_stages_take_more_layers_and_full_ones_no_more_than_they_hold() {
        assert_eq!(layers(9, &[room(99, 1.0, 0.0), room(99, 2.0, 0.0)]), Some(vec![6, 3]));
        assert_eq!(layers(9, &[room(99, 1.0, 0.0), room(1, 2.0, 0.0)]), Some(vec![8, 1]));
        assert_eq!(layers(8, &[room(99, 1.0, 0.0), room(99, 1.0, 4.0)]), Some(vec![6, 2]));
        assert_eq!(layers(3, &[room(1, 1.0, 0.0), room(1, 1.0, 0.0)]), None);
        assert_eq!(layers(1, &[room(99, 1.0, 0.0), room(99, 1.0, 0.0)]), None);
        assert_eq!(layers(4, &[room(99, 1.0, 0.0), room(0, 1.0, 0.0)]), None);
    }

    proptest! {
        #[test]
        fn no_division_has_a_faster_slowest_stage(
            count in 3_u32..12,
            rooms in prop::collection::vec((1_u32..12, 0.1_f64..5.0, 0.0_f64..5.0), 3),
        ) {
            let rooms: Vec<_> = rooms.into_iter().map(|(l, e, o)| room(l, e, o)).collect();
            let slowest = |counts: &[u32]| {
                let seconds = counts.iter().zip(&rooms).map(|(count, room)| (room.seconds)(*count));
                seconds.fold(0.0, f64::max)
            };
            let fits = |counts: &[u32]| {
                let mut pairs = counts.iter().zip(&rooms);
                pairs.all(|(count, room)| (1..=room.layers).contains(count))
            };
            let all = (1..count).flat_map(|a| (1..count).map(move |b| [a, b]));
            let all = all.filter_map(|[a, b]| Some([a, b, count.checked_sub(a + b)?]));
            let best = all.filter(|c| fits(c)).map(|c| slowest(&c)).reduce(f64::min);
            let ours = layers(count, &rooms);
            prop_assert_eq!(ours.is_some(), best.is_some());
            if let (Some(ours), Some(best)) = (ours, best) {
                prop_assert!(fits(&ours) && ours.iter().sum::<u32>() == count);
                prop_assert!(slowest(&ours) <= best * (1.0 + 1e-9));
            }
        }

        #[test]
        fn no_division_of_micro_batches_ends_earlier(
            count in 3_u32..30,
            turns in prop::collection::vec((0.0_f64..9.0, 0.1_f64..5.0), 3),
        ) {
            let turns = turns.iter().map(|(once, each)| Turn { once: *once, each: *each });
            let turns: Vec<_> = turns.collect();
            let end = |counts: &[u32]| {
                let ends = counts.iter().zip(&turns).map(|(n, t)| t.once + f64::from(*n) * t.each);
                ends.fold(0.0, f64::max)
            };
            let ours = micro_batches(count, &turns);
            prop_assert_eq!(ours.iter().sum::<u32>(), count);
            prop_assert!(ours.iter().all(|count| *count > 0));
            let all = (1..count).flat_map(|a| (1..count).map(move |b| [a, b]));
            let all = all.filter(|[a, b]| a + b < count).map(|[a, b]| [a, b, count - a - b]);
            let best = all.map(|counts| end(&counts)).fold(f64::INFINITY, f64::min);
            prop_assert!(end(&ours) <= best * (1.0 + 1e-9), "{:?}", ours);
        }
    }
}
