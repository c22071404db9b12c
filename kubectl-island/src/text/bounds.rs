//! Ages at the bounds of their units, tables of unlike rows, and texts that others wrote.

use super::*;

#[test]
fn an_age_has_its_largest_unit_or_two_at_every_bound() {
    let table = [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (659, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (35_999, "9h59m"),
        (36_000, "10h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (31_536_000, "365d"),
    ];
    let at = |second| Timestamp::from_second(second).expect("a time");
    for (seconds, expected) in table {
        assert_eq!(age(Some(at(1_000)), at(1_000 + seconds)), expected, "{seconds}");
    }
    assert_eq!(age(Some(Timestamp::MAX), Timestamp::MIN), "0s");
    let longest = age(Some(Timestamp::MIN), Timestamp::MAX);
    assert!(longest.ends_with('d'), "{longest}");
}

#[test]
fn a_time_is_read_with_its_offset_and_parts_of_a_second() {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
    for then in ["2026-01-01T00:59:30Z", "2026-01-01T01:59:30+01:00", "2026-01-01T00:59:30.000001Z"]
    {
        assert_eq!(since(then, now), "30s", "{then}");
    }
    for none in ["", "yesterday", "2026-01-01", "0"] {
        assert_eq!(since(none, now), "-", "{none:?}");
    }
}

#[test]
fn rows_may_be_shorter_than_others_and_cells_wider_than_bytes() {
    assert_eq!(table("", &[]), "");
    let rows = [heads(&["A", "B", "C"]), heads(&["äöü"]), heads(&["x", "", "z"])];
    assert_eq!(table("", &rows), "A    B  C\näöü\nx       z\n");
}

#[test]
fn what_others_wrote_stays_in_its_line() {
    let table = [
        ("one\r\ntwo\tthree", "one  two three"),
        ("  \n padded \u{7} ", "padded  "),
        ("\u{9b}31m red", "31m red"),
        ("größer 語", "größer 語"),
        ("", ""),
    ];
    for (text, expected) in table {
        assert_eq!(plain(text).trim_start(), expected, "{text:?}");
    }
    assert_eq!(or_dash(Some("a\nb")), "a b");
    assert_eq!(or_dash(None::<u32>), "-");
    assert_eq!([0, 1, 2].map(|count| counted(count, "card")), ["0 cards", "1 card", "2 cards"]);
}
