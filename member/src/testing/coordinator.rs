//! A coordinator that says what a test has it say, and notes what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::v1;
use proto::v1::coordinator_server::{Coordinator, CoordinatorServer};
use rounds::request::{Applied, Fetched, Join, Kept, Leave, Offer, Ready};
use rounds::types::RunView;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

/// What a coordinator was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Meet,
    Join(Join),
    Watch,
    Heartbeat,
    Ready(Ready),
    Offer(Offer),
    Fetched(Fetched),
    Applied(Applied),
    Kept(Kept),
    Leave(Leave),
}

impl Call {
    /// Its name, by which it is refused.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Meet => "meet",
            Call::Join(_) => "join",
            Call::Watch => "watch",
            Call::Heartbeat => "heartbeat",
            Call::Ready(_) => "ready",
            Call::Offer(_) => "offer",
            Call::Fetched(_) => "fetched",
            Call::Applied(_) => "applied",
            Call::Kept(_) => "kept",
            Call::Leave(_) => "leave",
        }
    }
}

type React = Box<dyn FnMut(&Call, &mut RunView) + Send>;

/// What the coordinator says.
struct Says {
    lease: Duration,
    accepted: bool,
    agrees: bool,
    /// By name of a call: the code, and how often; for ever where it is nothing.
    refusals: BTreeMap<&'static str, (Code, Option<u32>)>,
    react: React,
}

/// The coordinator of a run.
#[derive(Clone)]
pub(crate) struct Scripted {
    says: Arc<Mutex<Says>>,
    view: watch::Sender<RunView>,
    calls: watch::Sender<Vec<Call>>,
    met: watch::Sender<BTreeMap<u32, String>>,
}

impl Scripted {
    /// One that shows `view` and changes it by every call as `react` does.
    pub(crate) fn new(
        view: RunView,
        react: impl FnMut(&Call, &mut RunView) + Send + 'static,
    ) -> Scripted {
        let says = Says {
            lease: Duration::from_secs(30),
            accepted: true,
            agrees: true,
            refusals: BTreeMap::new(),
            react: Box::new(react),
        };
        Scripted {
            says: Arc::new(Mutex::new(says)),
            view: watch::Sender::new(view),
            calls: watch::Sender::new(Vec::new()),
            met: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// Starts to serve; its URL.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = Server::builder().add_service(CoordinatorServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    fn says(&self) -> MutexGuard<'_, Says> {
        self.says.lock().expect("no panic")
    }

    /// Refuses a call by its name so often, or for ever.
    pub(crate) fn refuse(&self, name: &'static str, code: Code, times: Option<u32>) {
        self.says().refusals.insert(name, (code, times));
    }

    pub(crate) fn lease(&self, lease: Duration) {
        self.says().lease = lease;
    }

    /// Whether offers are in time.
    pub(crate) fn accept(&self, accepted: bool) {
        self.says().accepted = accepted;
    }

    /// Whether θ is the others'.
    pub(crate) fn agree(&self, agrees: bool) {
        self.says().agrees = agrees;
    }

    /// Shows another view, as it is.
    pub(crate) fn show(&self, view: RunView) {
        self.view.send_replace(view);
    }

    /// What it was told so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// How often it was called so.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.calls.borrow().iter().filter(|call| call.name() == name).count()
    }

    /// Waits until it was called so, that often in all.
    pub(crate) async fn called(&self, name: &str, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough =
            |calls: &Vec<Call>| calls.iter().filter(|call| call.name() == name).count() >= times;
        let called = tokio::time::timeout(super::PATIENCE, calls.wait_for(enough)).await;
        called.expect("it is called").expect("the sender is here");
    }

    /// Notes a call, and answers as it is told to.
    fn hear(&self, call: Call) -> Result<(), Status> {
        let name = call.name();
        let mut says = self.says();
        if let Some((code, times)) = says.refusals.get_mut(name) {
            let code = *code;
            let refuses = times.is_none_or(|times| times > 0);
            if let Some(times) = times {
                *times = times.saturating_sub(1);
            }
            if refuses {
                drop(says);
                self.calls.send_modify(|calls| calls.push(call));
                return Err(Status::new(code, format!("no {name}")));
            }
        }
        self.view.send_if_modified(|view| {
            let before = view.clone();
            (says.react)(&call, view);
            let changed = *view != before;
            if changed {
                view.version += 1;
            }
            changed
        });
        drop(says);
        self.calls.send_modify(|calls| calls.push(call));
        Ok(())
    }
}

fn heard<T, M: TryInto<T>>(message: Request<M>) -> T
where
    M::Error: std::fmt::Debug,
{
    message.into_inner().try_into().expect("a member's call is well formed")
}

#[tonic::async_trait]
impl Coordinator for Scripted {
    async fn meet(
        &self,
        request: Request<v1::MeetRequest>,
    ) -> Result<Response<v1::MeetResponse>, Status> {
        self.hear(Call::Meet)?;
        let v1::MeetRequest { rank, world_size, address, .. } = request.into_inner();
        self.met.send_modify(|met| {
            met.insert(rank, address);
        });
        let mut met = self.met.subscribe();
        let all = met.wait_for(|met| met.len() == world_size as usize).await;
        let addresses = all.expect("the sender is here").values().cloned().collect();
        Ok(Response::new(v1::MeetResponse { addresses }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        self.hear(Call::Join(heard(request)))?;
        let lease_ms = self.says().lease.as_millis() as u64;
        Ok(Response::new(v1::JoinResponse { lease_ms }))
    }

    type WatchStream = ReceiverStream<Result<v1::RunView, Status>>;

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.hear(Call::Watch)?;
        let (sender, receiver) = mpsc::channel(1);
        let mut views = self.view.subscribe();
        tokio::spawn(async move {
            loop {
                let view = views.borrow_and_update().clone();
                if sender.send(Ok(view.into())).await.is_err() || views.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.hear(Call::Heartbeat)?;
        Ok(Response::new(v1::HeartbeatResponse { known: true }))
    }

    async fn ready(
        &self,
        request: Request<v1::ReadyRequest>,
    ) -> Result<Response<v1::ReadyResponse>, Status> {
        self.hear(Call::Ready(heard(request)))?;
        Ok(Response::new(v1::ReadyResponse {}))
    }

    async fn offer(
        &self,
        request: Request<v1::OfferRequest>,
    ) -> Result<Response<v1::OfferResponse>, Status> {
        self.hear(Call::Offer(heard(request)))?;
        Ok(Response::new(v1::OfferResponse { accepted: self.says().accepted }))
    }

    async fn fetched(
        &self,
        request: Request<v1::FetchedRequest>,
    ) -> Result<Response<v1::FetchedResponse>, Status> {
        self.hear(Call::Fetched(heard(request)))?;
        Ok(Response::new(v1::FetchedResponse {}))
    }

    async fn applied(
        &self,
        request: Request<v1::AppliedRequest>,
    ) -> Result<Response<v1::AppliedResponse>, Status> {
        self.hear(Call::Applied(heard(request)))?;
        Ok(Response::new(v1::AppliedResponse { agrees: self.says().agrees }))
    }

    async fn kept(
        &self,
        request: Request<v1::KeptRequest>,
    ) -> Result<Response<v1::KeptResponse>, Status> {
        self.hear(Call::Kept(heard(request)))?;
        Ok(Response::new(v1::KeptResponse {}))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        self.hear(Call::Leave(heard(request)))?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
