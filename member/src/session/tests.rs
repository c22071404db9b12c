//! A session with a real coordinator, over a line that goes dead.

use rounds::config::RunConfig;
use rounds::types::RankAddress;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::testing::Line;

const PATIENCE: Duration = Duration::from_secs(60);
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

async fn join(island: &str, address: &str) -> Session {
    let who = rounds::request::Identity { run: "run".into(), island: island.into(), epoch: 1 };
    let keepalive =
        Keepalive { interval: Duration::from_secs(1), timeout: Duration::from_millis(500) };
    let patience = (PATIENCE, keepalive);
    let session = Session::new(&format!("http://{address}"), who.clone().into(), patience);
    let mut session = session.expect("an endpoint");
    let rank = RankAddress { address: "127.0.0.1:1".into(), first_piece: 0, end_piece: 4 };
    let join = Join {
        who,
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
    };
    session.join(join).await.expect("joined");
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

#[test]
fn a_refusal_is_final_where_it_is_of_what_the_island_is_and_not_of_where_it_stands() {
    let refused = |code| {
        let status = Box::new(Status::new(code, "no"));
        SessionError::Refused { call: "join the run", status }.is_final()
    };
    let never = [Code::InvalidArgument, Code::FailedPrecondition];
    assert!(never.into_iter().all(refused));
    let again = [Code::Aborted, Code::NotFound, Code::AlreadyExists, Code::PermissionDenied];
    assert!(!again.into_iter().any(refused));
    let gone = SessionError::Gone { call: "join the run", seconds: 1, last: String::new() };
    assert!(!gone.is_final());
}
