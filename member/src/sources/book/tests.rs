//! Whom to ask for what, under a clock that the tests hold.

use tonic::{Code, Status};

use super::*;

const SILENCE: Duration = Duration::from_secs(5);

fn holder(pieces: Range<u32>, owns: bool, place: usize) -> Holder {
    Holder { pieces, owns, place }
}

/// A book of these sources, by address, and the time at which it began.
fn book(holders: &[(&str, Holder)]) -> (Book, Instant) {
    let started = Instant::now();
    let mut book = Book::new(started, SILENCE);
    book.look(by_address(holders));
    (book, started)
}

fn by_address(holders: &[(&str, Holder)]) -> BTreeMap<String, Holder> {
    holders.iter().map(|(at, holder)| (at.to_string(), holder.clone())).collect()
}

/// Who is asked for what.
fn asked(asks: &[Ask]) -> Vec<(&str, Range<u32>)> {
    asks.iter().map(|ask| (&*ask.address, ask.claim.left())).collect()
}

fn silent(address: &str) -> FetchError {
    FetchError::Silent { address: address.into(), wait: SILENCE }
}

fn content(address: &str) -> FetchError {
    FetchError::content(address, "it is another's".into())
}

fn answer(code: Code) -> FetchError {
    FetchError::peer("a", Status::new(code, "no"))
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn whoever_offered_it_is_asked_alone_until_that_takes_long_or_fails() {
    let sources = [("helper", holder(0..8, false, 0)), ("owner", holder(0..8, true, 1))];
    let (mut at_once, started) = book(&sources);
    assert_eq!(asked(&at_once.ask((0..8).collect(), started)), [("owner", 0..8)]);
    assert!(at_once.ask((0..8).collect(), started).is_empty(), "the helper waits");
    let help_at = at_once.wakes_at(started);
    assert_eq!(help_at, started + HELP_WAIT);
    assert_eq!(asked(&at_once.ask((0..8).collect(), help_at)), [("helper", 4..8)]);

    let (mut failed, started) = book(&sources);
    failed.ask((0..8).collect(), started);
    assert_eq!(failed.land("owner", Err(silent("owner")), started), Landing::Failed);
    assert_eq!(asked(&failed.ask((0..8).collect(), started)), [("helper", 0..8)]);

    let (mut gone, started) = book(&sources[..1]);
    assert_eq!(asked(&gone.ask((0..8).collect(), started)), [("helper", 0..8)]);
}

#[test]
fn every_source_is_due_or_has_a_reason_not_to_be() {
    let names = ["early", "fresh", "gives", "helper", "lied"];
    let source = |(at, name)| (name, holder(0..9, name != "helper", at));
    let sources: Vec<_> = (0..).zip(names).map(source).collect();
    let (mut book, started) = book(&sources);
    book.claims.insert("gives".into(), Claim::of(0..9));
    for (name, error) in [("lied", content("lied")), ("early", answer(Code::FailedPrecondition))] {
        book.claims.insert(name.into(), Claim::of(0..9));
        book.land(name, Err(error), started);
    }
    let due = |name: &str, now| book.due(name, &book.sources[name], now);
    let expected = [Due::Later, Due::Now, Due::Gives, Due::OwnerFirst, Due::Lied];
    assert_eq!(names.map(|name| due(name, started)), expected);
    let later = started + HELP_WAIT;
    let expected = [Due::Now, Due::Now, Due::Gives, Due::Now, Due::Lied];
    assert_eq!(names.map(|name| due(name, later)), expected);
}

#[test]
fn pieces_that_nobody_gives_come_first_and_then_half_of_the_longest_run() {
    let (mut book, _) = book(&[]);
    book.claims.insert("a".into(), Claim::of(0..4));
    book.claims.insert("b".into(), Claim::of(10..18));
    book.claims.insert("c".into(), Claim::of(30..31));
    let table = [
        (0..40, vec![5, 6, 20, 21, 22], Choice::Free(20..23), "the longest run"),
        (0..10, vec![5, 6, 20, 21, 22], Choice::Free(5..7), "of what it holds"),
        (0..40, vec![], Choice::HalfOf("b".into()), "the longest that is given"),
        (0..16, vec![], Choice::HalfOf("a".into()), "it does not hold all that b gives"),
        (30..40, vec![], Choice::Nothing, "the piece that is on its way stays"),
        (20..29, vec![5], Choice::Nothing, "it holds nothing of it"),
    ];
    for (pieces, free, expected, why) in table {
        assert_eq!(book.choose(&pieces, &free), expected, "{why}");
    }
}

#[test]
fn no_more_sources_give_at_a_time_than_may() {
    let names: Vec<String> = (0..SOURCES_MAX + 4).map(|at| format!("{at:02}")).collect();
    let sources: Vec<(&str, Holder)> =
        names.iter().zip(0..).map(|(name, at)| (&**name, holder(0..1000, false, at))).collect();
    let (mut book, started) = book(&sources);
    let asks = book.ask((0..1000).collect(), started);
    assert_eq!(asks.len(), SOURCES_MAX);
    let mut pieces: Vec<u32> = asks.iter().flat_map(|ask| ask.claim.left()).collect();
    pieces.sort_unstable();
    assert!(pieces == Vec::from_iter(0..1000), "each piece is asked of one");
}

#[test]
fn patience_grows_with_failures_and_comes_back_with_success() {
    let (mut book, started) = book(&[("a", holder(0..4, true, 0))]);
    let mut now = started + HELP_WAIT;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let asks = book.ask((0..4).collect(), now);
        waits.push(asks[0].wait);
        book.land("a", Err(silent("a")), now);
        let ready = book.wakes_at(now);
        assert!(book.ask((0..4).collect(), ready - ms(1)).is_empty(), "it is left alone");
        now = ready;
    }
    assert_eq!(waits, [1, 2, 4, 8, 8].map(|times| SILENCE * times));
    let asks = book.ask((0..4).collect(), now);
    (0..4).for_each(|piece| asks[0].claim.took(piece));
    assert_eq!(book.land("a", Ok(()), now), Landing::Done);
    assert_eq!(book.ask(vec![2], now)[0].wait, SILENCE);
}

#[test]
fn a_source_that_gave_something_is_asked_again_as_patiently_as_before() {
    let (mut book, started) = book(&[("a", holder(0..4, true, 0))]);
    for _ in 0..4 {
        let now = started + HELP_WAIT * 100;
        let asks = book.ask((0..4).collect(), now);
        asks[0].claim.took(0);
        book.land("a", Err(silent("a")), now - HELP_WAIT * 50);
    }
    assert_eq!(book.sources["a"].failures, 1, "it is slow, and moves");
}

#[test]
fn what_follows_from_an_answer_is_a_function_of_the_answer_and_the_time() {
    let offered = FetchError::Offered { island: "a".into(), reason: "no frame".into() };
    let open = answer(Code::FailedPrecondition);
    let table = [
        (None, true, Landing::Done),
        (Some(offered), true, Landing::Unusable),
        (Some(content("a")), true, Landing::Lied),
        (Some(open), true, Landing::Early),
        (Some(answer(Code::FailedPrecondition)), false, Landing::Failed),
        (Some(answer(Code::NotFound)), true, Landing::Failed),
        (Some(answer(Code::Unavailable)), true, Landing::Failed),
        (Some(silent("a")), true, Landing::Failed),
    ];
    for (error, early, expected) in table {
        assert_eq!(landing(error.as_ref(), early), expected, "{error:?}, early: {early}");
    }
}

#[test]
fn what_is_told_is_the_most_telling_reason_once_all_have_failed() {
    use RejectionCause::{Invalid, Unserved};
    let (none, _) = book(&[]);
    assert_eq!(none.verdict(), Verdict::Rejected(Unserved));
    assert!(none.telling().contains("find a member"), "{}", none.telling());

    let sources = [("a", holder(0..4, true, 0)), ("b", holder(0..4, false, 1))];
    let (mut book, started) = book(&sources);
    assert_eq!(book.verdict(), Verdict::Hopeful);
    book.ask((0..4).collect(), started);
    book.land("a", Err(silent("a")), started);
    assert_eq!(book.verdict(), Verdict::Hopeful, "b was not asked yet");
    let asks = book.ask((0..4).collect(), started);
    asks[0].claim.took(0);
    book.sources.get_mut("b").expect("a source").failures = 1;
    assert_eq!(book.verdict(), Verdict::Coming, "b has failed before, and gives");
    book.land("b", Err(answer(Code::NotFound)), started);
    assert_eq!(book.verdict(), Verdict::Rejected(Unserved));
    assert!(book.telling().contains("gave nothing"), "{}", book.telling());
    book.land("b", Err(content("b")), started);
    assert_eq!(book.verdict(), Verdict::Rejected(Unserved), "that b lies is no fault of a's");
    assert!(book.telling().contains("another's"), "{}", book.telling());
    book.land("a", Err(content("a")), started);
    assert_eq!(book.verdict(), Verdict::Rejected(Invalid));
}

#[test]
fn sources_come_and_go_with_the_members_and_keep_their_record() {
    let all = [("a", holder(0..4, true, 0)), ("b", holder(0..4, false, 1))];
    let (mut book, started) = book(&all);
    book.ask((0..4).collect(), started);
    book.land("a", Err(content("a")), started);
    book.ask((0..4).collect(), started);
    // b leaves while it gives; a offers under another address, too.
    book.look(by_address(&[("a", holder(0..2, true, 0)), ("c", holder(2..4, true, 0))]));
    let known: Vec<&String> = book.sources.keys().collect();
    assert_eq!(known, ["a", "b", "c"], "b may end what it gives");
    assert!(book.sources["a"].lied, "a is not asked again");
    assert_eq!(book.sources["a"].holder.pieces, 0..2);
    book.land("b", Ok(()), started);
    book.look(by_address(&[("c", holder(2..4, true, 0))]));
    assert_eq!(book.sources.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(asked(&book.ask((0..4).collect(), started)), [("c", 2..4)]);
}

#[test]
fn with_nothing_to_wait_for_it_looks_again_now_and_then() {
    let (mut book, started) = book(&[("a", holder(0..4, true, 0))]);
    let now = started + HELP_WAIT * 2;
    book.ask((0..4).collect(), now);
    assert_eq!(book.wakes_at(now), now + LOOK_EVERY);
    book.land("a", Err(answer(Code::Unavailable)), now);
    assert_eq!(book.wakes_at(now), now + RETRY_WAIT_MIN);
    book.land("a", Err(content("a")), now);
    assert_eq!(book.wakes_at(now), now + LOOK_EVERY, "a liar is not waited for");
}
