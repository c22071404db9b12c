//! Tests of what ranks may ask for together, and of what a subgroup is called.

use std::collections::BTreeSet;

use super::*;
use crate::wire::NAME_BYTES_MAX;

/// Whether these wishes, by rank, are the same to all: `MEMBERS`, a line end, a name.
fn refused(wishes: &[&str]) -> Option<String> {
    match check(wishes) {
        Ok(()) => None,
        Err(CommError::Config { detail }) => Some(detail),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn wishes_agree_where_all_members_of_a_group_ask_for_it() {
    for wishes in [
        &["0-1\na", "0-1\na", "\na"][..],
        &["0-2\na", "1-3\na", "0-2\na", "1-3\na"],
        &["0\na", "1\nb", "\n"],
        &["\n", "\nanything"],
        &["0-1\nof two\nlines", "0-1\nof two\nlines"],
        &[],
    ] {
        assert_eq!(refused(wishes), None, "{wishes:?}");
    }
}

#[test]
fn wishes_that_no_group_fits_are_refused_with_who_asks_for_them() {
    let list = "is not a list of ascending ranks with itself among them";
    let table: [(&[&str], &str, &str); 12] = [
        (&["1\na", "1\na"], "rank 0", list),
        (&["0-0\na"], "rank 0", list),
        (&["1-0\na", "1-0\na"], "rank 0", list),
        (&["\na", "0-1-1\na"], "rank 1", list),
        (&["0-x\na", "\na"], "rank 0", list),
        (&["0--1\na", "0--1\na"], "rank 0", list),
        (&["-0\na"], "rank 0", list),
        (&["0-99999999999999999999999\na"], "rank 0", list),
        (&["0 \na"], "rank 0", list),
        (&["0-1\na", "0-1\nb"], "ranks 0 and 1", "ask for unlike subgroups"),
        (&["0-1\na", "\na"], "ranks 0 and 1", "ask for unlike subgroups"),
        (&["0-5\na", "\na"], "ranks 0 and 5", "ask for unlike subgroups"),
    ];
    for (wishes, who, why) in table {
        let detail = refused(wishes).unwrap_or_else(|| panic!("{wishes:?} were taken"));
        assert!(detail.contains(who) && detail.contains(why), "{wishes:?}: {detail}");
    }
}

fn called(name: &str, members: &[u32]) -> Option<String> {
    let mut groups = Group::in_memory(1);
    groups[0].config.run = "run".into();
    groups[0].config.island = "lab".into();
    let config = groups[0].config_of(name, members)?;
    assert_eq!((config.rank as usize, config.world_size as usize), (0, members.len()));
    assert_eq!((config.run.as_str(), config.timeout), ("run", groups[0].timeout()));
    Some(config.island)
}

#[test]
fn a_subgroup_is_called_by_its_island_what_it_is_for_and_who_is_in_it() {
    assert_eq!(called("grid", &[0, 3]).as_deref(), Some("lab/grid.0-3"));
    assert_eq!(called("grid", &[1, 3]), None, "this rank has no part in it");
    assert_eq!(called("grid", &[]), None);
}

/// As many ranks as an island may have cards, all of them one group.
#[test]
fn a_subgroup_of_many_ranks_has_a_name_that_a_hello_may_carry() {
    let all: Vec<u32> = (0..4096).collect();
    let even: Vec<u32> = all.iter().copied().filter(|rank| rank % 2 == 0).collect();
    let without_last = &all[..all.len() - 1];
    let without_one: Vec<u32> = all.iter().copied().filter(|rank| *rank != 2000).collect();
    let mut names = BTreeSet::new();
    for members in [&all[..], &even, without_last, &without_one, &all[..300]] {
        for name in ["grid", "data"] {
            let called = called(name, members).unwrap();
            assert!(called.len() <= NAME_BYTES_MAX, "{} bytes", called.len());
            names.insert(called);
        }
    }
    assert_eq!(names.len(), 10, "unlike groups have unlike names");
}
