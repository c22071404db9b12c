//! Asks a coordinator how its run fares.

use std::time::Duration;

use api::names::MANAGER;
use proto::v1;
use proto::v1::coordinator_client::CoordinatorClient;
use rounds::request::Identity;
use rounds::types::RunView;
use tonic::transport::Endpoint;

use crate::error::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a view.
const VIEW_BYTES_MAX: usize = 16 << 20;

/// The newest view of a run.
///
/// # Errors
/// When the coordinator does not answer, or not sensibly.
pub(super) async fn view(address: &str, run: &str) -> Result<RunView, Error> {
    let failed = |problem: String| Error::Coordinator { run: run.to_owned(), problem };
    let asked = tokio::time::timeout(PATIENCE, first(address, run)).await;
    match asked {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(format!("no answer from {address} in {} s", PATIENCE.as_secs()))),
    }
}

async fn first(address: &str, run: &str) -> Result<RunView, String> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| error.to_string())?;
    let channel = endpoint.connect_timeout(PATIENCE).connect().await;
    let channel = channel.map_err(|error| format!("failed to connect to {address}: {error}"))?;
    let mut client = CoordinatorClient::new(channel).max_decoding_message_size(VIEW_BYTES_MAX);
    // Nobody's member: it only looks.
    let who = Identity { run: run.to_owned(), island: MANAGER.to_owned(), epoch: 0 };
    let mut views = client
        .watch(v1::WatchRequest::from(who))
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    let view = views.message().await.map_err(|status| status.message().to_owned())?;
    let view = view.ok_or("it closed the connection")?;
    RunView::try_from(view).map_err(|error| error.to_string())
}
