//! Replicas of unlike sizes, rounds that follow each other, and data that is away.

use std::fs;

use super::*;
use crate::text::TextOptions;
use crate::text::tests::{corpus, options};

const LENGTH: usize = 16;

fn batch(micro_batches: u32, micro_batch_size: u32) -> BatchSpec {
    BatchSpec { micro_batches, micro_batch_size }
}

fn shape(batches: &[BatchSpec], here: &[bool]) -> Shape {
    Shape { batches: batches.to_vec(), here: here.to_vec(), length: LENGTH }
}

fn expected(text: &Text, positions: std::ops::Range<u64>) -> Vec<u32> {
    let rows = positions.map(|position| {
        let mut row = vec![0; LENGTH + 1];
        text.sample(position, &mut row).expect("a sample");
        row
    });
    rows.flatten().collect()
}

#[test]
fn replicas_of_unlike_sizes_share_a_step_and_those_elsewhere_keep_their_samples() {
    let (_folder, out) = corpus();
    let text = Arc::new(Text::open(&options(&out)).expect("whole data"));
    let batches = [batch(2, 3), batch(1, 1), batch(1, 4)];
    // A step has 6 + 1 + 4 samples, whoever reads them.
    for here in [[true, true, true], [false, true, true], [true, false, false], [false; 3]] {
        let mut ahead =
            ReadAhead::new(Arc::clone(&text), shape(&batches, &here)).expect("a thread");
        ahead.begin(Allotment::new(std::iter::once(2..24)), 2).expect("asked");
        for step in 0..2u32 {
            let work = ahead.take(step).expect("read");
            let first = 2 + 11 * u64::from(step);
            let firsts = [vec![first, first + 3], vec![first + 6], vec![first + 7]];
            for (replica, work) in work.iter().enumerate() {
                let size = batches[replica].micro_batch_size;
                assert_eq!((work.batch, work.length), (size as usize, LENGTH));
                let own = firsts[replica].iter().filter(|_| here[replica]);
                let own: Vec<Vec<u32>> =
                    own.map(|first| expected(&text, *first..first + u64::from(size))).collect();
                assert_eq!(work.tokens, own, "step {step}, replica {replica}, {here:?}");
            }
        }
    }
}

#[test]
fn rounds_that_are_left_again_and_again_never_give_another_one_s_samples() {
    let (_folder, out) = corpus();
    let text = Arc::new(Text::open(&options(&out)).expect("whole data"));
    let mut ahead =
        ReadAhead::new(Arc::clone(&text), shape(&[batch(1, 1)], &[true])).expect("a thread");
    for round in 0..20u64 {
        ahead.begin(Allotment::new(std::iter::once(round..round + 4)), 4).expect("asked");
        // As many steps as this round happens to make.
        for step in 0..round as u32 % 5 {
            let read = ahead.take(step).expect("read");
            let position = round + u64::from(step);
            assert_eq!(read[0].tokens, [expected(&text, position..position + 1)], "{round} {step}");
        }
    }
}

#[test]
fn a_round_of_no_steps_asks_for_nothing() {
    let (_folder, out) = corpus();
    let text = Arc::new(Text::open(&options(&out)).expect("whole data"));
    let mut ahead =
        ReadAhead::new(Arc::clone(&text), shape(&[batch(1, 1)], &[true])).expect("a thread");
    for _ in 0..10 {
        ahead.begin(Allotment::default(), 0).expect("nothing waits");
    }
    ahead.begin(Allotment::new(std::iter::once(3..4)), 1).expect("asked");
    assert_eq!(ahead.take(0).expect("read")[0].tokens, [expected(&text, 3..4)]);
}

#[test]
fn tokens_that_are_none_end_the_step_that_has_them() {
    let (_folder, out) = corpus();
    let mut shards: Vec<_> =
        fs::read_dir(&out).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    shards.retain(|path| path.extension().is_some_and(|ending| ending == "bin"));
    assert!(!shards.is_empty());
    for path in shards {
        let mut bytes = fs::read(&path).expect("a shard");
        // All tokens of the shard, behind whatever it begins with.
        let half = bytes.len() / 2;
        bytes[half..].fill(0xff);
        fs::write(&path, bytes).expect("written");
    }
    let unchecked = TextOptions { checks: false, ..options(&out) };
    let text = Arc::new(Text::open(&unchecked).expect("nobody has looked"));
    let windows = text.windows();
    let mut ahead = ReadAhead::new(text, shape(&[batch(1, 1)], &[true])).expect("a thread");
    ahead.begin(Allotment::new(std::iter::once(0..windows)), windows as u32).expect("asked");
    let read: Vec<_> = (0..windows as u32).map(|step| ahead.take(step)).collect();
    let wrong = read.iter().filter(|step| step.is_err()).count();
    assert!(wrong > 0 && wrong < read.len(), "{wrong} of {}", read.len());
    for error in read.into_iter().filter_map(Result::err) {
        let text = crate::error::chain(&error);
        assert!(text.contains("is not in the vocabulary"), "{text}");
    }
}
