//! How the layers of a model are divided over pipeline stages of unlike speed and memory.

/// What a stage can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Layers that its memory holds.
    pub layers: u32,
    /// Seconds that a layer takes.
    pub layer_seconds: f64,
    /// Seconds beside the layers.
    pub other_seconds: f64,
}

/// Layers of each stage, at least one, so that the slowest stage is as fast as possible; `None`
/// where there is no room for all of them.
///
/// One by one, a layer goes to the stage that would be the fastest with it. No division has a
/// faster slowest stage: one that has would give the slowest stage here fewer layers, and so
/// another stage more layers than it has here, which would have been slower with them.
pub(super) fn divide(layers: u32, rooms: &[Room]) -> Option<Vec<u32>> {
    let holds = rooms.iter().map(|room| u64::from(room.layers)).sum::<u64>();
    let stages = u32::try_from(rooms.len()).ok()?;
    if stages > layers || holds < layers.into() || rooms.iter().any(|room| room.layers == 0) {
        return None;
    }
    let mut counts = vec![1; rooms.len()];
    for _ in stages..layers {
        let seconds = |stage: usize| {
            let room = rooms[stage];
            room.other_seconds + f64::from(counts[stage] + 1) * room.layer_seconds
        };
        let free = (0..rooms.len()).filter(|stage| counts[*stage] < rooms[*stage].layers);
        let stage = free.min_by(|a, b| seconds(*a).total_cmp(&seconds(*b)))?;
        counts[stage] += 1;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(layers: u32, layer_seconds: f64, other_seconds: f64) -> Room {
        Room { layers, layer_seconds, other_seconds }
    }

    #[test]
    fn faster_stages_take_more_layers_and_full_ones_no_more_than_they_hold() {
        let fast = room(99, 1.0, 0.0);
        assert_eq!(divide(9, &[fast, room(99, 2.0, 0.0)]), Some(vec![6, 3]));
        assert_eq!(divide(9, &[fast, room(1, 2.0, 0.0)]), Some(vec![8, 1]));
        assert_eq!(divide(8, &[fast, room(99, 1.0, 4.0)]), Some(vec![6, 2]));
        assert_eq!(divide(3, &[room(1, 1.0, 0.0), room(1, 1.0, 0.0)]), None);
        assert_eq!(divide(1, &[fast, fast]), None);
        assert_eq!(divide(4, &[fast, room(0, 1.0, 0.0)]), None);
    }

    proptest! {
        #[test]
        fn no_division_has_a_faster_slowest_stage(
            layers in 3_u32..12,
            rooms in prop::collection::vec((1_u32..12, 0.1_f64..5.0, 0.0_f64..5.0), 3),
        ) {
            let rooms = rooms.into_iter().map(|(l, each, other)| room(l, each, other));
            let rooms: Vec<_> = rooms.collect();
            let slowest = |counts: &[u32]| {
                let seconds = counts.iter().zip(&rooms).map(|(count, room)| {
                    room.other_seconds + f64::from(*count) * room.layer_seconds
                });
                seconds.fold(0.0, f64::max)
            };
            let fits = |counts: &[u32]| {
                let mut pairs = counts.iter().zip(&rooms);
                pairs.all(|(count, room)| (1..=room.layers).contains(count))
            };
            let all = (1..layers).flat_map(|a| (1..layers).map(move |b| [a, b]));
            let all = all.filter_map(|[a, b]| Some([a, b, layers.checked_sub(a + b)?]));
            let best = all.filter(|c| fits(c)).map(|c| slowest(&c)).reduce(f64::min);
            let ours = divide(layers, &rooms);
            prop_assert_eq!(ours.is_some(), best.is_some());
            if let (Some(ours), Some(best)) = (ours, best) {
                prop_assert!(fits(&ours) && ours.iter().sum::<u32>() == layers);
                prop_assert!(slowest(&ours) <= best * (1.0 + 1e-9));
            }
        }
    }
}
