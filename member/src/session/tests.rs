//! Sessions with a real coordinator over a line that goes dead, with one that says what it is told
//! to, and with none at all.

use std::cell::Cell;

use rounds::config::RunConfig;
use rounds::request::Identity;
use rounds::types::{Phase, RankAddress};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::testing::{Line, PATIENCE, Scripted, contribution, member, view};
use tonic::Code;

const LEASE: Duration = Duration::from_secs(3);

/// A coordinator of a run of two islands; its address.
async fn coordinate(folder: &TempDir) -> (String, oneshot::Sender<()>) {
    let config = RunConfig {
        name: "run".into(),
        islands: 2,
        minimum: 2,
        quorum_percent: 50,
        grace_ms: 1_000,
        deadline_ms: 60_000,
        fetch_deadline_ms: 60_000,
        lease_ms: LEASE.as_millis() as u64,
        tokens: 1_000_000,
        max_members: 16,
        go_back_after_ms: 10_000,
        go_back: false,
    };
    let config = config.validate().expect("valid rules");
    let store = coordinator::store::Store::open(&folder.path().join("store")).expect("a store");
    let members = coordinator::listen("127.0.0.1:0").await.expect("a free port");
    let address = members.local_addr().expect("an address").to_string();
    let listeners = coordinator::Listeners { members, metrics: None };
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(coordinator::run(listeners, config, store, async {
        let _ = stopped.await;
    }));
    (address, stop)
}

/// A session that has not joined yet.
fn session(island: &str, url: &str, patience: Duration) -> Session {
    let keepalive =
        Keepalive { interval: Duration::from_secs(1), timeout: Duration::from_millis(500) };
    Session::new(url, who(island).into(), (patience, keepalive)).expect("a URL")
}

fn who(island: &str) -> Identity {
    Identity { run: "run".into(), island: island.into(), epoch: 1 }
}

fn as_joined(island: &str) -> Join {
    let rank = RankAddress { address: "127.0.0.1:1".into(), first_piece: 0, end_piece: 4 };
    Join {
        who: who(island),
        ranks: vec![rank],
        layout_hash: Digest([1; 32]),
        round: 0,
        theta_hash: Digest([2; 32]),
        tokens_per_second_milli: 0,
        inner_steps: 1,
        round_samples: 1,
        tokens: 0,
        samples: 0,
        complaint: String::new(),
    }
}

async fn join(island: &str, address: &str) -> Session {
    let mut session = session(island, &format!("http://{address}"), PATIENCE);
    session.join(as_joined(island)).await.expect("joined");
    session
}

fn has(view: &Option<RunView>, island: &str) -> bool {
    view.iter().flat_map(|view| &view.members).any(|member| member.island == island)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_dead_costs_neither_the_view_nor_the_lease() {
    let folder = TempDir::new().expect("a folder");
    let (address, _stop) = coordinate(&folder).await;
    let line = Line::to(address.clone()).await;
    let mut one = join("one", &line.address).await;
    let view = one.view(PATIENCE, |view| has(view, "one")).await.expect("a view");
    assert!(has(&view, "one"));
    line.cut();
    let _two = join("two", &address).await;
    let view = one.view(PATIENCE, |view| has(view, "two")).await.expect("a view");
    assert!(has(&view, "two"), "the news came over a new connection");
    assert!(line.connections() >= 2);
    let view = one.view(LEASE * 2, |view| !has(view, "one")).await.expect("a view");
    assert!(has(&view, "one"), "the lease was kept");
}

/// A session whose coordinator nobody is.
fn nobody(patience: Duration) -> Session {
    session("me", "http://127.0.0.1:9", patience)
}

/// Makes a call whose attempts end so, one after the other, the last one for ever; the result, and
/// how many attempts there were.
async fn attempts(session: &Session, codes: &[Option<Code>]) -> (Result<(), SessionError>, usize) {
    let made = Cell::new(0);
    let result = session
        .persist("do something", (), |_, _| {
            let code = codes[made.get().min(codes.len() - 1)];
            made.set(made.get() + 1);
            std::future::ready(match code {
                Some(code) => Err(Status::new(code, "away")),
                None => Ok(tonic::Response::new(())),
            })
        })
        .await;
    (result, made.get())
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_away_is_waited_for_ever_more_slowly() {
    let (session, started) = (nobody(PATIENCE), Instant::now());
    let (result, made) = attempts(&session, &[Some(Code::Unavailable)]).await;
    let error = result.expect_err("it never comes");
    assert!(matches!(error, SessionError::Gone { seconds: 60, .. }), "{error:?}");
    assert!(error.to_string().contains("away"), "{error}");
    let elapsed = started.elapsed();
    assert!(elapsed <= PATIENCE && elapsed + BACKOFF_MAX >= PATIENCE, "{elapsed:?}");
    // Six waits from 50 ms to 1.6 s, and then one each 2 s.
    assert_eq!(made, 1 + 6 + 28);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_comes_back_in_time_was_never_away() {
    let away = [Code::Unavailable, Code::Unknown, Code::ResourceExhausted, Code::Internal];
    let codes: Vec<Option<Code>> = away.into_iter().map(Some).chain([None]).collect();
    let (result, made) = attempts(&nobody(PATIENCE), &codes).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(made, 5);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_taken_at_its_word() {
    let codes = [Some(Code::Unavailable), Some(Code::PermissionDenied), None];
    let (result, made) = attempts(&nobody(PATIENCE), &codes).await;
    assert!(matches!(result, Err(SessionError::Refused { .. })), "{result:?}");
    assert_eq!(made, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_made_again_over_a_new_connection() {
    let session = nobody(CALL_TIMEOUT * 5 / 2);
    let (made, started) = (Cell::new(0), Instant::now());
    let redialled = session.line.redialled();
    let result: Result<(), SessionError> = session
        .persist("do something", (), |_, _| {
            made.set(made.get() + 1);
            std::future::pending()
        })
        .await;
    let error = result.expect_err("it hangs");
    assert!(error.to_string().contains("no answer within 10 s"), "{error}");
    assert_eq!(made.get(), 3);
    assert!(started.elapsed() < CALL_TIMEOUT * 4, "{:?}", started.elapsed());
    assert!(redialled.has_changed().expect("the session is here"));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_is_gone_when_heartbeats_are_unanswered_for_long_and_not_before() {
    let mut session = nobody(PATIENCE);
    tokio::time::advance(PATIENCE * 2).await;
    let view = session.view(Duration::ZERO, |_| true).await;
    assert!(matches!(view, Ok(None)), "nothing was joined yet: {view:?}");
    session.keep(LEASE);
    let view = session.view(PATIENCE / 2, |_| false).await;
    assert!(matches!(view, Ok(None)), "{view:?}");
    let view = session.view(PATIENCE, |_| false).await;
    assert!(matches!(view, Err(SessionError::Gone { call: "follow the run", .. })), "{view:?}");
    session.leave("the test is over").await;
    let view = session.view(Duration::ZERO, |_| true).await;
    assert!(view.is_ok(), "who has left waits for nobody: {view:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_carry_the_trace_of_the_round() {
    let mut session = nobody(PATIENCE);
    let trace = |session: &Session| {
        let request = session.request(());
        request.metadata().get("traceparent").map(|v| v.as_bytes().to_vec())
    };
    let table = [("", None), ("00-ab-cd-01", Some("00-ab-cd-01")), ("not\nascii", None)];
    for (given, expected) in table {
        session.set_traceparent(given);
        assert_eq!(trace(&session), expected.map(|t| t.as_bytes().to_vec()), "{given:?}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_for_good() {
    let keepalive = Keepalive::default();
    let error = Session::new("http://a b", who("me").into(), (PATIENCE, keepalive)).err();
    assert!(error.is_some_and(|error| error.is_final()));
}

/// A coordinator that shows island `me`, and a session that has joined it.
async fn scripted(lease: Duration) -> (Scripted, Session) {
    let script = Scripted::new(view(Phase::Training, 4, &[member("me", "a:1")]), |_, _| {});
    script.lease(lease);
    let mut session = session("me", &script.serve().await, PATIENCE);
    session.join(as_joined("me")).await.expect("joined");
    (script, session)
}

#[tokio::test]
async fn who_is_unknown_to_the_coordinator_has_no_error_but_no_answer() {
    let (script, session) = scripted(PATIENCE).await;
    let fetched = || Fetched {
        who: who("me"),
        round: 4,
        have: ["me".to_string()].into(),
        pieces: 3,
        rejected: [].into(),
    };
    let hash = Digest([5; 32]);
    assert!(matches!(session.offer(4, contribution("me"), false).await, Ok(Some(true))));
    assert!(matches!(session.applied(4, hash).await, Ok(Some(true))));
    script.accept(false);
    script.agree(false);
    assert!(matches!(session.offer(4, contribution("me"), false).await, Ok(Some(false))));
    assert!(matches!(session.applied(4, hash).await, Ok(Some(false))));
    for name in ["offer", "fetched", "applied", "ready"] {
        script.refuse(name, Code::NotFound, None);
    }
    assert!(matches!(session.offer(4, contribution("me"), false).await, Ok(None)));
    assert!(matches!(session.applied(4, hash).await, Ok(None)));
    assert!(session.fetched(fetched()).await.is_ok() && session.ready(4, hash).await.is_ok());
    for name in ["offer", "fetched", "applied", "ready"] {
        script.refuse(name, Code::Aborted, None);
    }
    let refused = [
        session.offer(4, contribution("me"), false).await.map(|_| ()),
        session.applied(4, hash).await.map(|_| ()),
        session.fetched(fetched()).await,
        session.ready(4, hash).await,
    ];
    for answer in refused {
        let Err(SessionError::Refused { status, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(status.code(), Code::Aborted);
    }
}

#[tokio::test]
async fn what_only_people_want_to_know_is_tried_once() {
    let (script, mut session) = scripted(PATIENCE).await;
    script.refuse("kept", Code::Unavailable, None);
    script.refuse("leave", Code::Unavailable, None);
    session.kept(4).await;
    session.leave("the test is over").await;
    assert_eq!((script.count("kept"), script.count("leave")), (1, 1));
}

#[tokio::test]
async fn ranks_meet_and_have_their_addresses_in_order() {
    let script = Scripted::new(view(Phase::Waiting, 0, &[]), |_, _| {});
    let url = script.serve().await;
    script.refuse("meet", Code::DeadlineExceeded, Some(1));
    let (one, two) = (session("me", &url, PATIENCE), session("me", &url, PATIENCE));
    let hash = Digest([3; 32]);
    let met = tokio::join!(one.meet(1, 2, "b:1", hash), two.meet(0, 2, "a:1", hash));
    assert_eq!(met.0.expect("met"), ["a:1", "b:1"]);
    assert_eq!(met.1.expect("met"), ["a:1", "b:1"]);
}

#[tokio::test]
async fn a_lease_is_renewed_in_time_whatever_it_was_before() {
    let (script, mut session) = scripted(Duration::from_secs(3600)).await;
    script.called("heartbeat", 1).await;
    script.called("watch", 1).await;
    script.lease(Duration::from_millis(150));
    session.join(as_joined("me")).await.expect("joined");
    // Every 50 ms now; it was every 20 minutes.
    script.called("heartbeat", 5).await;
    session.join(as_joined("me")).await.expect("joined");
    script.called("heartbeat", 8).await;
    assert_eq!(script.count("watch"), 2, "the same lease is kept by the same tasks");
}

#[tokio::test]
async fn a_coordinator_that_says_no_is_there() {
    let table = [
        (Code::PermissionDenied, true, "another epoch has taken the island's place"),
        (Code::Unavailable, false, "something between answers for it"),
    ];
    for (code, is_there, why) in table {
        let (script, session) = scripted(Duration::from_millis(150)).await;
        script.refuse("heartbeat", code, None);
        let contact = || *session.contact.lock().expect("no panic");
        // The answer to the last but one has come when the next one does.
        let beats = script.count("heartbeat");
        script.called("heartbeat", beats + 2).await;
        let before = contact();
        script.called("heartbeat", beats + 5).await;
        assert_eq!(contact() > before, is_there, "{why}");
    }
}

#[tokio::test]
async fn a_view_is_followed_through_streams_that_are_refused() {
    let script = Scripted::new(view(Phase::Training, 4, &[member("me", "a:1")]), |_, _| {});
    script.refuse("watch", Code::Unavailable, Some(2));
    let mut session = session("me", &script.serve().await, PATIENCE);
    session.join(as_joined("me")).await.expect("joined");
    let view = session.view(PATIENCE, Option::is_some).await.expect("a view");
    assert_eq!(view.map(|view| view.round), Some(4));
    assert_eq!(script.count("watch"), 3);
}

#[tokio::test]
async fn the_newest_view_counts_even_where_it_goes_backwards() {
    let (script, mut session) = scripted(PATIENCE).await;
    let shows = |version, round| RunView { version, ..view(Phase::Training, round, &[]) };
    for (version, round) in [(9, 7), (2, 3)] {
        script.show(shows(version, round));
        let is_shown = |view: &Option<RunView>| view.as_ref().is_some_and(|v| v.round == round);
        let seen = session.view(PATIENCE, is_shown).await.expect("a view");
        assert_eq!(seen.map(|view| view.version), Some(version));
        assert_eq!(session.latest().map(|view| view.round), Some(round));
    }
    let waited = session.view(Duration::from_millis(1), |_| false).await.expect("a view");
    assert_eq!(waited.map(|view| view.round), Some(3), "without news it is the newest");
}
