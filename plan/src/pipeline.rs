//! The order in which a pipeline stage works through the micro-batches of an inner step.

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
    let ahead = in_flight(stage, stages, micro_batches).saturating_sub(1);
    let mut work: Vec<Work> = (0..ahead).map(Work::Forward).collect();
    for turn in 0..micro_batches - ahead {
        work.push(Work::Forward(ahead + turn));
        work.push(Work::Backward(turn));
    }
    work.extend((micro_batches - ahead..micro_batches).map(Work::Backward));
    work
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

    #[test]
    fn a_pipeline_of_one_has_no_bubble() {
        assert_eq!(bubble(1, 8), 0.0);
        assert!((bubble(4, 9) - 0.25).abs() < 1e-12);
    }
}
