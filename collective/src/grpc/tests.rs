//! Ranks that are not this program: what they answer, and frames that they make by hand.

use std::thread;

use proto::v1::collective_client::CollectiveClient;
use proto::v1::collective_server::{Collective, CollectiveServer};
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn config(run: &str) -> GroupConfig {
    GroupConfig {
        run: run.to_owned(),
        island: "island".to_owned(),
        epoch: 3,
        rank: 0,
        world_size: 2,
        timeout: LONG,
    }
}

/// A rank 1 that takes whatever comes, or refuses every stream.
struct Stranger(Option<Status>);

#[tonic::async_trait]
impl Collective for Stranger {
    async fn stream(
        &self,
        request: Request<Streaming<v1::Frame>>,
    ) -> Result<Response<v1::StreamEnd>, Status> {
        if let Some(status) = &self.0 {
            return Err(status.clone());
        }
        let mut frames = request.into_inner();
        while frames.message().await?.is_some() {}
        Ok(Response::new(v1::StreamEnd {}))
    }
}

/// A stranger's address, and what ends it when it is dropped.
fn serve(stranger: Stranger) -> (SocketAddr, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        group::runtime().unwrap().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let server = Server::builder().add_service(CollectiveServer::new(stranger));
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => {
                    served.unwrap();
                }
                _ = stopped => {}
            }
        });
    });
    (told.recv().unwrap(), stop)
}

/// What joining a rank that refuses with this status comes to.
fn refused(status: Status) -> CommError {
    let (address, _stop) = serve(Stranger(Some(status)));
    let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
    let addresses = [endpoint.address().to_string(), address.to_string()];
    endpoint.connect(config("run"), &addresses).unwrap_err()
}

fn with_epochs(epochs: &'static str) -> Status {
    let mut status = Status::failed_precondition("another epoch");
    status.metadata_mut().insert(server::EPOCHS_HEADER, epochs.parse().unwrap());
    status
}

#[test]
fn a_refusal_says_why_or_counts_as_a_peer_that_is_gone() {
    let detail = |why: &str| format!("failed to understand rank 1: it refused the stream: {why}");
    let gone = "failed to reach rank 1: it has gone".to_owned();
    let epochs = "failed to join rank 1: it is at epoch 4, this rank at epoch 3".to_owned();
    let cases = [
        (with_epochs("4 3"), epochs),
        (with_epochs("4"), detail("another epoch")),
        (with_epochs("4 x"), detail("another epoch")),
        (with_epochs("-4 3"), detail("another epoch")),
        (Status::failed_precondition("no epochs"), detail("no epochs")),
        (Status::invalid_argument("another run"), detail("another run")),
        (Status::already_exists("rank 0 is not awaited"), detail("rank 0 is not awaited")),
        (Status::unavailable("it ends"), gone.clone()),
        (Status::internal("it broke"), gone.clone()),
        (Status::unimplemented("another program"), gone),
    ];
    thread::scope(|scope| {
        let threads: Vec<_> = cases
            .into_iter()
            .map(|(status, expected)| {
                scope.spawn(move || assert_eq!(refused(status).to_string(), expected))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Says hello and greets as rank 1, sends these frames and then, where it `leaves`, ends its
/// stream; otherwise it is silent until rank 0 ends it. What it was told.
async fn speak(address: SocketAddr, frames: Vec<v1::Frame>, leaves: bool) -> Option<Code> {
    let hello = v1::Hello {
        run: "run".to_owned(),
        island: "island".to_owned(),
        epoch: 3,
        from_rank: 1,
        to_rank: 0,
        world_size: 2,
    };
    let hello = v1::Frame { hello: Some(hello), ..v1::Frame::default() };
    let greeting = v1::Frame { sequence: 1, operation: 1, ..v1::Frame::default() };
    let all = tokio_stream::iter([hello, greeting].into_iter().chain(frames));
    let mut client = CollectiveClient::connect(format!("http://{address}")).await.unwrap();
    let answer = if leaves {
        client.stream(all).await
    } else {
        client.stream(all.chain(tokio_stream::pending())).await
    };
    answer.err().map(|status| status.code())
}

/// What rank 0 gets of two values that it awaits from a rank 1 that makes its frames by hand.
fn hears(frames: Vec<v1::Frame>, leaves: bool) -> Result<[f32; 2], CommError> {
    let (address, _stop) = serve(Stranger(None));
    let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
    let own = endpoint.address();
    let addresses = [own.to_string(), address.to_string()];
    thread::scope(|scope| {
        let peer = scope.spawn(move || {
            group::runtime().unwrap().block_on(speak(own, frames, leaves));
        });
        let mut group = endpoint.connect(config("run"), &addresses).unwrap();
        let mut values = [0.0; 2];
        let got = group.recv(1, &mut values).map(|()| values);
        drop(group);
        peer.join().unwrap();
        got
    })
}

/// The two values that rank 0 awaits.
fn frame() -> v1::Frame {
    let payload = [1.0_f32, -2.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let operation = Operation::Send as u32;
    v1::Frame { sequence: 2, operation, total: 8, payload, ..v1::Frame::default() }
}

#[test]
fn a_rank_of_another_make_is_understood_where_its_frames_are_right() {
    assert_eq!(hears(vec![frame()], false).unwrap(), [1.0, -2.5]);
    // What it sent before it left counts.
    assert_eq!(hears(vec![frame()], true).unwrap(), [1.0, -2.5]);
}

#[test]
fn frames_that_are_wrong_are_refused_and_their_sender_named() {
    let abort = v1::Frame {
        operation: Operation::Abort as u32,
        total: 4,
        payload: vec![7, 0, 0, 0].into(),
        ..v1::Frame::default()
    };
    let long = vec![0; wire::MESSAGE_BYTES_MAX + 1];
    let cases = [
        (v1::Frame { sequence: 3, ..frame() }, "failed to understand rank 1: operation number 3"),
        (v1::Frame { sequence: 1, ..frame() }, "failed to understand rank 1: operation number 1"),
        (v1::Frame { operation: 2, ..frame() }, "failed to understand rank 1: operation 2 instead"),
        (v1::Frame { total: 12, ..frame() }, "failed to understand rank 1: a buffer of 12 bytes"),
        (v1::Frame { offset: 4, ..frame() }, "failed to understand rank 1: (offset, bytes) = (4,"),
        (v1::Frame { payload: long.into(), ..frame() }, "failed to understand rank 1: "),
        (v1::Frame::default(), "failed to understand rank 1: operation 0 instead of send"),
        (abort, "failed to reach rank 7: it has gone"),
    ];
    thread::scope(|scope| {
        let threads: Vec<_> = cases
            .into_iter()
            .map(|(frame, expected)| {
                scope.spawn(move || {
                    let error = hears(vec![frame], false).unwrap_err().to_string();
                    assert!(error.starts_with(expected), "{expected}: {error}");
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_rank_that_leaves_before_it_sent_all_is_gone() {
    let error = hears(Vec::new(), true).unwrap_err();
    assert!(matches!(error, CommError::PeerLost { rank: 1 }), "{error:?}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_before_anybody_is_called() {
    type Change = fn(&mut GroupConfig);
    let table: [(Change, usize, &str); 8] = [
        (|it| it.rank = 2, 2, "there is no rank 2 in a world of 2"),
        (|it| (it.rank, it.world_size) = (0, 0), 0, "there is no rank 0 in a world of 0"),
        (|_| (), 1, "1 addresses for 2 ranks"),
        (|_| (), 3, "3 addresses for 2 ranks"),
        (|it| it.run = "r".repeat(1025), 2, "the names of run and island have at most 1024 bytes"),
        (|it| it.island = "i".repeat(1025), 2, "the names of run and island have at most 1024"),
        (|it| it.timeout = Duration::ZERO, 2, "the timeout is zero"),
        (|it| it.rank = u32::MAX, 2, "there is no rank 4294967295 in a world of 2"),
    ];
    for (change, count, detail) in table {
        let mut config = config("run");
        change(&mut config);
        let addresses = vec!["127.0.0.1:1".to_owned(); count];
        let endpoint = Endpoint::bind("127.0.0.1:0").unwrap();
        let error = endpoint.connect(config, &addresses).unwrap_err();
        assert!(error.is_final());
        let said = error.to_string();
        assert!(said.starts_with(&format!("failed to set up the group: {detail}")), "{said}");
    }
    let longest = GroupConfig { island: "i".repeat(1024), ..config(&"r".repeat(1024)) };
    check(&longest, &["a:1".to_owned(), "b:1".to_owned()]).unwrap();
}

#[test]
fn windows_are_small_only_where_all_ranks_are_on_one_machine() {
    let table: [(&[&str], u32); 8] = [
        (&["127.0.0.1:1", "127.8.8.8:2"], WINDOW_BYTES_LOOPBACK),
        (&["[::1]:1", "localhost:9"], WINDOW_BYTES_LOOPBACK),
        (&["127.0.0.1:1", "10.0.0.1:1"], WINDOW_BYTES_NETWORK),
        (&["[2001:db8::1]:1"], WINDOW_BYTES_NETWORK),
        (&["localhost.example:1"], WINDOW_BYTES_NETWORK),
        (&["worker-0.lab.svc:4000"], WINDOW_BYTES_NETWORK),
        (&["0.0.0.0:1"], WINDOW_BYTES_NETWORK),
        (&[], WINDOW_BYTES_LOOPBACK),
    ];
    for (addresses, window) in table {
        let addresses: Vec<_> = addresses.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(window_bytes(&addresses), window, "{addresses:?}");
    }
}
