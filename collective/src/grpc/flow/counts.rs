//! Tests of when all that was queued counts as written.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;

use super::*;

/// Whether it is known already, and what.
fn now(flow: &Flow) -> Option<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { timeout(Duration::ZERO, flow.flushed()).await.ok() })
}

#[test]
fn all_is_written_when_every_message_was_taken_and_every_byte_of_it_is_out() {
    let flow = Flow::default();
    assert_eq!(now(&flow), Some(true), "nothing was queued");
    flow.queue();
    assert_eq!(now(&flow), None, "it was not taken");
    flow.take(10);
    assert_eq!(now(&flow), None, "it was not written");
    flow.write(9);
    assert_eq!(now(&flow), None, "a byte is missing");
    flow.queue();
    flow.write(1);
    assert_eq!(now(&flow), None, "another was queued");
    flow.take(3);
    flow.write(3);
    assert_eq!(now(&flow), Some(true));
    flow.queue();
    flow.end();
    assert_eq!(now(&flow), Some(false), "it never will be");
}

#[test]
fn a_stream_that_ended_with_all_written_is_whole() {
    let flow = Flow::default();
    flow.queue();
    flow.take(2);
    flow.write(2);
    flow.end();
    assert_eq!(now(&flow), Some(true));
}

#[test]
fn whoever_waits_is_woken_by_the_last_byte_and_by_the_end() {
    for (ends, expected) in [(false, true), (true, false)] {
        let flow = Arc::new(Flow::default());
        flow.queue();
        flow.take(5);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waiting = Arc::clone(&flow);
        let written = runtime.block_on(async move {
            let waiter = tokio::spawn(async move { waiting.flushed().await });
            tokio::task::yield_now().await;
            if ends {
                flow.end()
            } else {
                flow.write(5)
            }
            timeout(Duration::from_secs(20), waiter).await.expect("it is woken").unwrap()
        });
        assert_eq!(written, expected);
    }
}

proptest! {
    /// However the socket takes them, the bytes of `DATA` frames are counted and no others.
    #[test]
    fn frames_are_counted_by_their_kind_however_they_are_cut(
        frames in proptest::collection::vec((0..10_u8, 0..300_usize), 0..8),
        cuts in proptest::collection::vec(1..40_usize, 1..6),
    ) {
        let mut stream = vec![b'P'; PREFACE_BYTES];
        let mut expected = 0;
        for (kind, length) in frames {
            let [_, a, b, c] = (length as u32).to_be_bytes();
            stream.extend([a, b, c, kind, 0, 0, 0, 0, 1]);
            stream.extend(vec![0; length]);
            expected += if kind == DATA { length as u64 } else { 0 };
        }
        let (mut scan, mut rest, mut counted) = (Scan::new(), &stream[..], 0);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, later) = rest.split_at((*cut).min(rest.len()));
            counted += scan.pass(part);
            rest = later;
        }
        prop_assert_eq!(counted, expected);
    }
}
