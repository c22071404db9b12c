//! A real server on a free port with real clients, restarted in the middle of everything.

#![allow(clippy::unwrap_used)] // helpers of tests, outside `#[test]` functions

mod refusals;

use std::path::Path;

use coordinator::store::Store;
use coordinator::{Listeners, RunError, listen, run};
use proto::v1;
use proto::v1::coordinator_client::CoordinatorClient;
use rounds::config::{Config, RunConfig};
use rounds::types::{Contribution, Digest, MemberState, Phase, RunView};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Far beyond what a test takes: nothing here depends on time.
const NEVER_MS: u64 = 24 * 60 * 60 * 1000;

fn config(islands: u32) -> Config {
    let config = RunConfig {
        name: "mini".into(),
        islands,
        minimum: islands,
        quorum_percent: 100,
        grace_ms: NEVER_MS,
        deadline_ms: NEVER_MS,
        fetch_deadline_ms: NEVER_MS,
        lease_ms: NEVER_MS,
        go_back_after_ms: 10_000,
        go_back: false,
        tokens: 1_000_000,
        max_members: 8,
    };
    config.validate().unwrap()
}

struct Server {
    folder: TempDir,
    config: Config,
    client: CoordinatorClient<Channel>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

async fn serve(
    path: &Path,
    config: Config,
) -> (CoordinatorClient<Channel>, oneshot::Sender<()>, JoinHandle<Result<(), RunError>>) {
    let members = listen("127.0.0.1:0").await.unwrap();
    let address = members.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let store = Store::open(&path.join("store")).unwrap();
    let listeners = Listeners { members, metrics: None };
    let task = tokio::spawn(run(listeners, config, store, async {
        stopped.await.ok();
    }));
    let client = CoordinatorClient::connect(format!("http://{address}")).await.unwrap();
    (client, stop, task)
}

impl Server {
    async fn start(islands: u32) -> Server {
        let (folder, config) = (tempfile::tempdir().unwrap(), config(islands));
        let (client, stop, task) = serve(folder.path(), config.clone()).await;
        Server { folder, config, client, stop, task }
    }

    /// Ends the server, and starts another one on its store; the view has to be the same.
    async fn restart(self) -> Server {
        let before = self.view().await;
        let Server { folder, config, client, stop, task } = self;
        drop(client);
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        let (client, stop, task) = serve(folder.path(), config.clone()).await;
        let server = Server { folder, config, client, stop, task };
        assert_eq!(server.view().await, before);
        server
    }

    async fn watch(&self) -> Streaming<v1::RunView> {
        let request = v1::WatchRequest { who: who("a") };
        self.client.clone().watch(request).await.unwrap().into_inner()
    }

    async fn view(&self) -> RunView {
        next(&mut self.watch().await).await
    }

    async fn join(&self, join: v1::JoinRequest) -> Result<u64, Status> {
        Ok(self.client.clone().join(join).await?.into_inner().lease_ms)
    }

    async fn offer(&self, island: &str) -> bool {
        let contribution = Contribution {
            island: island.into(),
            epoch: 1,
            digest: Digest([7; 32]),
            bytes: 10,
            tokens: 100,
            steps: 3,
            loss: 0.1,
        };
        let contribution = Some(contribution.into());
        let request = v1::OfferRequest { who: who(island), round: 0, contribution, leaving: false };
        self.client.clone().offer(request).await.unwrap().into_inner().accepted
    }

    async fn fetched(&self, island: &str, have: &[&str]) {
        let have = have.iter().map(|name| (*name).to_string()).collect();
        let request =
            v1::FetchedRequest { who: who(island), have, ..v1::FetchedRequest::default() };
        self.client.clone().fetched(request).await.unwrap();
    }

    async fn applied(&self, island: &str, theta: u8) -> bool {
        let request =
            v1::AppliedRequest { who: who(island), round: 0, theta_hash: vec![theta; 32] };
        self.client.clone().applied(request).await.unwrap().into_inner().agrees
    }

    /// A round up to its commit.
    async fn commit(&self) {
        self.join(join("a")).await.unwrap();
        self.join(join("b")).await.unwrap();
        assert!(self.offer("a").await);
        assert!(self.offer("b").await);
        self.fetched("a", &["b"]).await;
        self.fetched("b", &["a"]).await;
    }
}

async fn next(views: &mut Streaming<v1::RunView>) -> RunView {
    RunView::try_from(views.message().await.unwrap().unwrap()).unwrap()
}

fn who(island: &str) -> Option<v1::Identity> {
    Some(v1::Identity { run: "mini".into(), island: island.into(), epoch: 1 })
}

fn join(island: &str) -> v1::JoinRequest {
    let address = format!("{island}:1");
    v1::JoinRequest {
        who: who(island),
        ranks: vec![v1::RankAddress { address, first_piece: 0, end_piece: 5 }],
        layout_hash: vec![1; 32],
        round: 0,
        theta_hash: vec![2; 32],
        tokens_per_second_milli: 1,
        inner_steps: 1,
        ..v1::JoinRequest::default()
    }
}

#[tokio::test]
async fn a_restart_at_any_moment_of_a_round_loses_nothing() {
    let server = Server::start(2).await;
    assert_eq!(server.join(join("a")).await.unwrap(), NEVER_MS);
    let server = server.restart().await;
    assert_eq!(server.view().await.phase, Phase::Waiting);
    server.join(join("b")).await.unwrap();
    let server = server.restart().await;
    assert!(server.offer("a").await);
    let server = server.restart().await;
    assert_eq!(server.view().await.phase, Phase::Training);
    assert!(server.view().await.members[0].offered);
    assert!(server.offer("b").await);
    server.fetched("a", &["b"]).await;
    let server = server.restart().await;
    assert_eq!(server.view().await.phase, Phase::Fetching);
    server.fetched("b", &["a"]).await;
    let server = server.restart().await;
    let view = server.view().await;
    assert_eq!((view.round, view.tokens), (1, 200));
    assert_eq!(view.commits[0].set[0].loss.to_bits(), 0.1f32.to_bits());
    assert!(server.applied("a", 9).await);
    let server = server.restart().await;
    assert!(!server.applied("b", 10).await);
    let server = server.restart().await;
    assert_eq!(server.view().await.members[1].state, MemberState::Syncing);

    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
    let store = Store::open(&server.folder.path().join("store")).unwrap();
    let record = store.record().unwrap();
    assert_eq!(record.len(), 1);
    assert_eq!(rounds::record::verify("mini", &record), Ok(view.commits[0].record_hash));
    assert_eq!(server.config.name, "mini");
}

#[tokio::test]
async fn every_call_may_be_repeated() {
    let server = Server::start(2).await;
    server.commit().await;
    assert!(server.applied("a", 9).await);
    let view = server.view().await;
    server.join(v1::JoinRequest { round: 1, theta_hash: vec![9; 32], ..join("a") }).await.unwrap();
    assert!(server.applied("a", 9).await);
    server.fetched("a", &["b"]).await;
    assert!(!server.offer("a").await, "the round is over");
    assert_eq!(server.view().await, view);
}

#[tokio::test]
async fn a_watch_shows_the_newest_view_at_once_and_then_every_last_one() {
    let server = Server::start(2).await;
    let mut views = server.watch().await;
    assert_eq!(next(&mut views).await.members.len(), 0);
    server.commit().await;
    let mut version = 0;
    loop {
        let view = next(&mut views).await;
        assert!(view.version > version, "views never go back");
        version = view.version;
        if view.round == 1 {
            assert_eq!(view.commits.len(), 1);
            break;
        }
    }
    server.stop.send(()).unwrap();
    assert!(views.message().await.unwrap().is_none(), "the stream ends with the coordinator");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_can_tell_refusals_apart() {
    let server = Server::start(2).await;
    let code = |result: Result<u64, Status>| result.unwrap_err().code();
    let named =
        |run: &str, epoch| Some(v1::Identity { run: run.into(), island: "a".into(), epoch });
    server.join(v1::JoinRequest { who: named("mini", 2), ..join("a") }).await.unwrap();

    assert_eq!(code(server.join(join("a")).await), Code::PermissionDenied);
    let mut twin = v1::JoinRequest { who: named("mini", 2), ..join("a") };
    twin.ranks[0].address = "elsewhere:1".into();
    assert_eq!(code(server.join(twin).await), Code::AlreadyExists);
    let other_run = v1::JoinRequest { who: named("other", 1), ..join("a") };
    assert_eq!(code(server.join(other_run).await), Code::FailedPrecondition);
    let other_model = v1::JoinRequest { layout_hash: vec![3; 32], ..join("b") };
    assert_eq!(code(server.join(other_model).await), Code::FailedPrecondition);
    let malformed = v1::JoinRequest { layout_hash: vec![3; 31], ..join("b") };
    let status = server.join(malformed).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`layout_hash`"), "{}", status.message());

    let request = v1::ReadyRequest { who: who("b"), round: 0, theta_hash: vec![2; 32] };
    let status = server.client.clone().ready(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let request = v1::HeartbeatRequest { who: who("b") };
    let answer = server.client.clone().heartbeat(request).await.unwrap().into_inner();
    assert!(!answer.known);
}

#[tokio::test]
async fn ranks_of_an_island_meet_and_a_stopping_coordinator_lets_them_go() {
    let server = Server::start(1).await;
    let meet = |rank, epoch| v1::MeetRequest {
        who: Some(v1::Identity { run: "mini".into(), island: "a".into(), epoch }),
        rank,
        world_size: 2,
        address: format!("host{rank}:1"),
        plan_hash: vec![0; 32],
    };
    let (mut first, mut second) = (server.client.clone(), server.client.clone());
    let (one, two) = tokio::join!(first.meet(meet(0, 1)), second.meet(meet(1, 1)));
    let expected = ["host0:1", "host1:1"];
    assert_eq!(one.unwrap().into_inner().addresses, expected);
    assert_eq!(two.unwrap().into_inner().addresses, expected);

    let alone = tokio::spawn(async move { first.meet(meet(0, 2)).await });
    // The newer epoch is there once the older one is refused.
    while second.meet(meet(1, 1)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.stop.send(()).unwrap();
    assert_eq!(alone.await.unwrap().unwrap_err().code(), Code::Unavailable);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = listen("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = listen(&address).await.unwrap_err();
    let expected = format!("failed to listen on {address}: another program has the port");
    assert_eq!(error.to_string(), expected);
}
