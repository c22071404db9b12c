//! Rests that end, and clones that are one.

use super::*;

#[test]
fn a_rest_ends_at_once_where_the_step_is_to_be_left() {
    let stop = Arc::new(AtomicBool::new(true));
    let interrupt = Interrupt::new(stop);
    // The stop was seen long ago.
    let _ = interrupt.since.set(Instant::now() - 2 * STEP_WAIT);
    let begun = Instant::now();
    interrupt.rest(Duration::from_secs(3600));
    assert!(begun.elapsed() < Duration::from_secs(60), "nobody waits for an hour");
    assert!(matches!(interrupt.check(), Err(ModelError::Interrupted)));
}

#[test]
fn a_default_never_interrupts() {
    let interrupt = Interrupt::default();
    assert!(!interrupt.is_due(Instant::now() + 1000 * STEP_WAIT));
    interrupt.check().expect("nobody asked");
}

#[test]
fn all_clones_count_from_when_the_first_of_them_saw_the_stop() {
    let stop = Arc::new(AtomicBool::new(false));
    let first = Interrupt::new(Arc::clone(&stop));
    let second = first.clone();
    let now = Instant::now();
    stop.store(true, Ordering::Relaxed);
    assert!(!first.is_due(now));
    assert!(second.is_due(now + STEP_WAIT), "it does not begin to wait anew");
    // A clock that is read out of order by two threads is no panic.
    assert!(!second.is_due(now - STEP_WAIT / 2));
}
