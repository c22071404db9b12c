//! Tests of whom a schedule strikes, and when.

use super::*;

#[test]
fn a_fault_strikes_its_rank_at_its_operation_and_nobody_else() {
    let by = Duration::from_secs(3);
    let faults = Faults::new().kill(2, 5).drop_link(0, 1, 5).delay(1, 0, 6, by).garble(1, 2, 6);
    let struck = |rank, operation| faults.at(rank, operation).collect::<Vec<_>>();
    assert_eq!(struck(2, 5), [Fault::Kill { rank: 2 }]);
    assert_eq!(struck(0, 5), [Fault::DropLink { from: 0, to: 1 }]);
    // Both, in the order in which they were scheduled.
    let both = [Fault::Delay { from: 1, to: 0, by }, Fault::Garble { from: 1, to: 2 }];
    assert_eq!(struck(1, 6), both);
    for (rank, operation) in [(2, 4), (2, 6), (1, 5), (0, 6), (9, 5), (0, u64::MAX)] {
        assert_eq!(struck(rank, operation), [], "rank {rank} at {operation}");
    }
    assert_eq!(Faults::new().at(0, 0).count(), 0);
}
