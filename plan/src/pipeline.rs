//! The order in which a pipeline stage works through the micro-batches of an inner step.

#[cfg(test)]
mod laws;

/// One piece of a stage's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Forward of a micro-batch.
    Forward(u32),
    /// Its backward.
    Backward(u32),
}

/// One forward, one backward (1F1B, Narayanan et al. 2021, section 2.2): a stage begins with as
/// many forwards as stages follow it, then takes turns, then ends the backwards that are left. At
/// most [`in_flight`] micro-batches are between their forward and their backward.
pub fn one_forward_one_backward(stage: u32, stages: u32, micro_batches: u32) -> Vec<Work> {
    (0..2 * micro_batches).map(|turn| work(stage, stages, micro_batches, turn)).collect()
}

/// The work of a stage in its turn of [`one_forward_one_backward`], of twice as many turns as there
/// are micro-batches.
fn work(stage: u32, stages: u32, micro_batches: u32, turn: u32) -> Work {
    let ahead = in_flight(stage, stages, micro_batches).saturating_sub(1);
    let alternating = 2 * (micro_batches - ahead);
    match turn.checked_sub(ahead) {
        None => Work::Forward(turn),
        Some(turn) if turn >= alternating => Work::Backward(turn - alternating / 2),
        Some(turn) if turn.is_multiple_of(2) => Work::Forward(ahead + turn / 2),
        Some(turn) => Work::Backward(turn / 2),
    }
}

/// Micro-batches whose activations a stage holds at a time, at most.
pub fn in_flight(stage: u32, stages: u32, micro_batches: u32) -> u32 {
    (stages - stage).min(micro_batches)
}

/// Share of a step in which an evenly divided pipeline idles: (p − 1) / (m + p − 1).
pub fn bubble(stages: u32, micro_batches: u32) -> f64 {
    let waiting = f64::from(stages) - 1.0;
    waiting / (f64::from(micro_batches) + waiting)
}

/// Seconds that a stage takes for one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageSeconds {
    /// Forward.
    pub forward: f64,
    /// Backward.
    pub backward: f64,
    /// One message to the next stage; messages to it go one after another.
    pub forward_link: f64,
    /// One message back from the next stage.
    pub backward_link: f64,
}

impl StageSeconds {
    /// Forward and backward.
    pub fn both(&self) -> f64 {
        self.forward + self.backward
    }
}

/// The time at which each stage is done with an inner step of so many micro-batches, by the
/// schedule of [`one_forward_one_backward`], in seconds from the step's start. Messages go beside
/// the work; a stage waits for those that it needs.
pub fn simulate(stages: &[StageSeconds], micro_batches: u32) -> Vec<f64> {
    let count = stages.len() as u32;
    let mut state = vec![Progress::default(); stages.len()];
    // Messages that have come to a stage, by micro-batch: activations from before, gradients from
    // after. Each comes in order, so the next one is all that is asked for.
    let mut open = stages.len();
    while open > 0 {
        for at in 0..stages.len() {
            while state[at].turn < 2 * micro_batches {
                let next = work(at as u32, count, micro_batches, state[at].turn);
                let Some(came) = came(&state, at, next) else { break };
                advance(&mut state, stages, at, next, came);
                if state[at].turn == 2 * micro_batches {
                    open -= 1;
                }
            }
        }
    }
    state.into_iter().map(|stage| stage.clock).collect()
}

/// [`simulate`] for many micro-batches without going through all of them: once the pipeline is full
/// its end moves by the same time for as many further ones as there are stages, or nearly so.
pub fn estimate(stages: &[StageSeconds], micro_batches: u32) -> Vec<f64> {
    let turn = stages.len() as u32;
    let full = 3 * turn + 4;
    if micro_batches <= full {
        return simulate(stages, micro_batches);
    }
    let (before, now) = (simulate(stages, full - turn), simulate(stages, full));
    let turns = f64::from(micro_batches - full) / f64::from(turn);
    before.into_iter().zip(now).map(|(before, now)| now + turns * (now - before)).collect()
}

#[derive(Clone, Debug, Default)]
struct Progress {
    turn: u32,
    clock: f64,
    /// The times at which its messages to the next stage, and to the one before, arrive.
    activations: Vec<f64>,
    gradients: Vec<f64>,
}

/// The time at which a stage has everything that it needs for its work; `None` where that is not
/// known yet.
fn came(state: &[Progress], at: usize, next: Work) -> Option<f64> {
    match next {
        Work::Forward(_) if at == 0 => Some(0.0),
        Work::Forward(micro_batch) => state[at - 1].activations.get(micro_batch as usize).copied(),
        Work::Backward(_) if at + 1 == state.len() => Some(0.0),
        Work::Backward(micro_batch) => state[at + 1].gradients.get(micro_batch as usize).copied(),
    }
}

fn advance(state: &mut [Progress], stages: &[StageSeconds], at: usize, next: Work, came: f64) {
    let own = &mut state[at];
    own.turn += 1;
    let start = own.clock.max(came);
    // A link is free once its last message has come.
    match next {
        Work::Forward(_) => {
            own.clock = start + stages[at].forward;
            let free = own.activations.last().map_or(own.clock, |last| own.clock.max(*last));
            own.activations.push(free + stages[at].forward_link);
        }
        Work::Backward(_) => {
            own.clock = start + stages[at].backward;
            let link = at.checked_sub(1).map_or(0.0, |before| stages[before].backward_link);
            let free = own.gradients.last().map_or(own.clock, |last| own.clock.max(*last));
            own.gradients.push(free + link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Work::{Backward, Forward};
    use super::*;

    #[test]
    fn a_stage_runs_ahead_by_the_stages_after_it() {
        let work = one_forward_one_backward(0, 3, 4);
        let expected = [
            Forward(0),
            Forward(1),
            Forward(2),
            Backward(0),
            Forward(3),
            Backward(1),
            Backward(2),
            Backward(3),
        ];
        assert_eq!(work, expected);
        assert_eq!(
            one_forward_one_backward(2, 3, 2),
            [Forward(0), Backward(0), Forward(1), Backward(1)]
        );
    }

    #[test]
    fn every_micro_batch_goes_forward_then_backward_and_few_are_in_flight() {
        for stages in 1..6 {
            for stage in 0..stages {
                for micro_batches in 1..9 {
                    let (mut open, mut done) = (Vec::new(), 0);
                    for work in one_forward_one_backward(stage, stages, micro_batches) {
                        match work {
                            Forward(at) => {
                                open.push(at);
                                let bound = in_flight(stage, stages, micro_batches);
                                assert!(open.len() as u32 <= bound);
                            }
                            Backward(at) => {
                                assert_eq!((open.remove(0), done), (at, at));
                                done += 1;
                            }
                        }
                    }
                    assert_eq!((open.len(), done), (0, micro_batches));
                }
            }
        }
    }

    fn even(stages: usize, link: f64) -> Vec<StageSeconds> {
        let link = [link; 2];
        let [forward_link, backward_link] = link;
        vec![StageSeconds { forward: 1.0, backward: 2.0, forward_link, backward_link }; stages]
    }

    fn end(stages: &[StageSeconds], micro_batches: u32) -> f64 {
        simulate(stages, micro_batches).into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn equal_stages_and_free_links_take_what_the_formula_says() {
        for (stages, micro_batches) in [(1, 1), (1, 7), (2, 1), (3, 2), (4, 9), (8, 3)] {
            let busy = 3.0 * f64::from(micro_batches);
            let step = end(&even(stages as usize, 0.0), micro_batches);
            assert!((1.0 - busy / step - bubble(stages, micro_batches)).abs() < 1e-12);
        }
    }

    #[test]
    fn unequal_stages_wait_for_the_slowest_and_slow_links_for_their_messages() {
        let slow = StageSeconds { forward: 2.0, backward: 4.0, ..StageSeconds::default() };
        let fast = StageSeconds { forward: 1.0, backward: 2.0, ..StageSeconds::default() };
        // The first micro-batch enters in 2, the others follow at 6 each, the last leaves in 3.
        assert_eq!(end(&[fast, slow], 4), 1.0 + 4.0 * 6.0 + 2.0);
        assert_eq!(end(&[slow, fast], 1), 9.0);
        // A message of 10 seconds each way for each micro-batch.
        assert!(end(&even(2, 10.0), 8) >= 8.0 * 10.0 + 3.0);
        assert_eq!(end(&even(2, 0.5), 1), 7.0);
    }

    proptest::proptest! {
        #[test]
        fn no_simulated_step_beats_its_bounds(
            times in proptest::collection::vec((0.1_f64..3.0, 0.1_f64..3.0, 0.0_f64..2.0), 1..7),
            micro_batches in 1_u32..20,
        ) {
            let stages: Vec<_> = times.iter().map(|(forward, backward, link)| StageSeconds {
                forward: *forward,
                backward: *backward,
                forward_link: *link,
                backward_link: *link / 2.0,
            }).collect();
            let sum: f64 = stages.iter().map(StageSeconds::both).sum();
            let before = |at: usize| stages[..at].iter().map(StageSeconds::both).sum::<f64>();
            let of = |at: usize| f64::from(micro_batches) * stages[at].both() + before(at);
            let bound = (0..stages.len()).map(of).fold(sum, f64::max);
            let step = end(&stages, micro_batches);
            proptest::prop_assert!(step >= bound * (1.0 - 1e-9), "{} < {}", step, bound);
            let many = 3 * micro_batches + 20;
            let estimate = estimate(&stages, many).into_iter().fold(0.0, f64::max);
            proptest::prop_assert!((estimate / end(&stages, many) - 1.0).abs() < 0.1);
        }
    }

    #[test]
    fn a_pipeline_of_one_has_no_bubble() {
        assert_eq!(bubble(1, 8), 0.0);
        assert!((bubble(4, 9) - 0.25).abs() < 1e-12);
    }
}
