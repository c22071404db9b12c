//! Tests of how ranks of one process come by their links.

use super::*;

#[test]
fn the_ranks_of_a_world_share_it_and_the_next_of_its_name_is_another() {
    let worlds = Worlds::default();
    let first = worlds.take("pair", 0, 2);
    // Who comes for another name does not get the other end.
    let other = worlds.take("other", 1, 2);
    assert_eq!(worlds.waiting.lock().unwrap().len(), 2);
    let second = worlds.take("pair", 1, 2);
    assert_eq!((first.rank, second.rank, other.rank), (0, 1, 1));
    assert_eq!(worlds.waiting.lock().unwrap().len(), 1, "a world that is whole is let go of");
    let again = worlds.take("pair", 0, 3);
    assert_eq!((again.rank, again.world_size()), (0, 3));
}

#[test]
fn every_rank_has_links_with_all_others_and_none_with_itself() {
    use crate::links::Call;
    use crate::wire::Operation;
    let timeout = std::time::Duration::from_secs(1);
    let call = Call { operation: Operation::Barrier, timeout, total: None };
    for world in 1..=4 {
        let mut ranks = links(world, &Faults::new());
        assert_eq!(ranks.len(), world as usize);
        for (rank, own) in (0..).zip(&mut ranks) {
            let (ins, outs) = own.all(call);
            assert_eq!((ins.len(), outs.len()), (world as usize - 1, world as usize - 1));
            let peers: Vec<u32> = ins.iter().map(|from| from.peer()).collect();
            let others: Vec<u32> = (0..world).filter(|other| *other != rank).collect();
            assert_eq!(peers, others);
        }
    }
}
