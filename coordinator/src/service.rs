//! The gRPC service: each call is checked, handed to the engine, and its answer put on the wire.

use std::pin::Pin;
use std::sync::Arc;

use proto::v1;
use proto::v1::coordinator_server::Coordinator;
use rounds::request::{Applied, Fetched, Identity, Join, Kept, Leave, Meet, Offer, Ready};
use rounds::step::{Event, Verdict};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tracing::{Instrument, Span, info_span};

use crate::engine::Handle;
use crate::meet::{MeetError, Meetings};
use crate::status;

/// Serves one run.
pub(crate) struct Service {
    engine: Handle,
    meetings: Arc<Meetings>,
    run: String,
    lease_ms: u64,
}

/// Checks a message and opens the span of its call, under the caller's.
fn read<W, T: TryFrom<W, Error = proto::ProtoError>>(
    request: Request<W>,
    span: &Span,
) -> Result<T, Status> {
    telemetry::set_parent_from(span, request.metadata());
    T::try_from(request.into_inner()).map_err(|error| status::malformed(&error))
}

impl Service {
    pub(crate) fn new(engine: Handle, run: String, lease_ms: u64) -> Service {
        Service { engine, meetings: Arc::default(), run, lease_ms }
    }

    async fn call(&self, event: Event, span: Span) -> Result<Verdict, Status> {
        async {
            let answer = self.engine.call(event).await.map_err(status::stopped)?;
            match &answer {
                Ok(verdict) => tracing::debug!(yes = verdict.yes, "{}", verdict.reason),
                Err(refusal) => tracing::info!("{refusal}"),
            }
            answer.map_err(|refusal| status::refused(&refusal))
        }
        .instrument(span)
        .await
    }

    fn check_run(&self, who: &Identity) -> Result<(), Status> {
        if who.run == self.run {
            return Ok(());
        }
        let (run, asked) = (self.run.clone(), who.run.clone());
        Err(status::refused(&rounds::refusal::Refusal::WrongRun { run, asked }))
    }
}

#[tonic::async_trait]
impl Coordinator for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::RunView, Status>> + Send>>;

    async fn meet(
        &self,
        request: Request<v1::MeetRequest>,
    ) -> Result<Response<v1::MeetResponse>, Status> {
        let span = info_span!("meet");
        let meet: Meet = read(request, &span)?;
        self.check_run(&meet.who)?;
        let view = Arc::clone(&self.engine.views().borrow());
        let is_self = |m: &&rounds::types::MemberView| m.island == meet.who.island;
        let epoch = view.members.iter().find(is_self).map(|member| member.epoch);
        let is_alive = epoch == Some(meet.who.epoch);
        if let Some(newest) = epoch.filter(|newest| *newest > meet.who.epoch) {
            let Identity { island, epoch, .. } = meet.who;
            return Err(status::not_met(&MeetError::Superseded { island, epoch, newest }));
        }
        let met = tokio::select! {
            met = self.meetings.meet(meet, is_alive).instrument(span) => met,
            () = self.engine.stopped() => Err(MeetError::Stopped),
        };
        let addresses = met.map_err(|error| status::not_met(&error))?;
        Ok(Response::new(v1::MeetResponse { addresses }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let span = info_span!("join");
        let join: Join = read(request, &span)?;
        let (island, epoch, round) = (join.who.island.clone(), join.who.epoch, join.round);
        let (tokens_per_second_milli, inner_steps) =
            (join.tokens_per_second_milli, join.inner_steps);
        let ranks = join.ranks.len();
        let verdict = self.call(Event::Join(join), span).await?;
        tracing::info!(
            island,
            epoch,
            round,
            ranks,
            tokens_per_second_milli,
            inner_steps,
            reason = %verdict.reason,
            "An island joined."
        );
        Ok(Response::new(v1::JoinResponse { lease_ms: self.lease_ms }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let who: Identity = read(request, &Span::none())?;
        self.check_run(&who)?;
        // The stream ends when the engine, which holds the sender, does.
        let views = WatchStream::new(self.engine.views());
        let views = views.map(|view| Ok(v1::RunView::from(view.as_ref().clone())));
        Ok(Response::new(Box::pin(views)))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let who: Identity = read(request, &Span::none())?;
        let known = self.call(Event::Heartbeat(who), Span::none()).await?.yes;
        Ok(Response::new(v1::HeartbeatResponse { known }))
    }

    async fn ready(
        &self,
        request: Request<v1::ReadyRequest>,
    ) -> Result<Response<v1::ReadyResponse>, Status> {
        let span = info_span!("ready");
        let ready: Ready = read(request, &span)?;
        self.call(Event::Ready(ready), span).await?;
        Ok(Response::new(v1::ReadyResponse {}))
    }

    async fn offer(
        &self,
        request: Request<v1::OfferRequest>,
    ) -> Result<Response<v1::OfferResponse>, Status> {
        let span = info_span!("offer");
        let offer: Offer = read(request, &span)?;
        let (island, round) = (offer.who.island.clone(), offer.round);
        let verdict = self.call(Event::Offer(offer), span).await?;
        if !verdict.yes {
            tracing::info!(island, round, reason = %verdict.reason, "An offer counts for nothing.");
        }
        Ok(Response::new(v1::OfferResponse { accepted: verdict.yes }))
    }

    async fn fetched(
        &self,
        request: Request<v1::FetchedRequest>,
    ) -> Result<Response<v1::FetchedResponse>, Status> {
        let span = info_span!("fetched");
        let fetched: Fetched = read(request, &span)?;
        self.call(Event::Fetched(fetched), span).await?;
        Ok(Response::new(v1::FetchedResponse {}))
    }

    async fn applied(
        &self,
        request: Request<v1::AppliedRequest>,
    ) -> Result<Response<v1::AppliedResponse>, Status> {
        let span = info_span!("applied");
        let applied: Applied = read(request, &span)?;
        let (island, round) = (applied.who.island.clone(), applied.round);
        let verdict = self.call(Event::Applied(applied), span).await?;
        if !verdict.yes {
            tracing::warn!(island, round, "{}", verdict.reason);
        }
        Ok(Response::new(v1::AppliedResponse { agrees: verdict.yes }))
    }

    async fn kept(
        &self,
        request: Request<v1::KeptRequest>,
    ) -> Result<Response<v1::KeptResponse>, Status> {
        let span = info_span!("kept");
        let kept: Kept = read(request, &span)?;
        self.call(Event::Kept(kept), span).await?;
        Ok(Response::new(v1::KeptResponse {}))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let span = info_span!("leave");
        let leave: Leave = read(request, &span)?;
        let verdict = self.call(Event::Leave(leave), span).await?;
        tracing::info!("{}", verdict.reason);
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
