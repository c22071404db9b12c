//! Lines to the ranks of other islands, dialled when they are needed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use proto::Keepalive;
use proto::v1::exchange_client::ExchangeClient;
use rounds::types::MemberView;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::fetch::FetchError;

/// A client whose calls carry the current span's trace context.
pub(crate) type Client = ExchangeClient<InterceptedService<Channel, Propagate>>;
type Propagate = fn(Request<()>) -> Result<Request<()>, Status>;

/// Channels by address.
pub(crate) struct Peers {
    channels: Mutex<HashMap<String, Channel>>,
    keepalive: Keepalive,
    message_bytes_max: usize,
}

impl Peers {
    pub(crate) fn new(keepalive: Keepalive, message_bytes_max: usize) -> Peers {
        Peers { channels: Mutex::default(), keepalive, message_bytes_max }
    }

    /// A client of the rank at `address`; nothing is sent yet.
    pub(crate) fn client(&self, address: &str) -> Result<Client, FetchError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|source| FetchError::Address { address: address.into(), source })?;
                let channel = self.keepalive.client(endpoint).connect_lazy();
                channels.insert(address.to_string(), channel.clone());
                channel
            }
        };
        let client = ExchangeClient::with_interceptor(channel, telemetry::propagate as Propagate);
        Ok(client.max_decoding_message_size(self.message_bytes_max))
    }

    /// Forgets a connection that may be dead, so that the next try dials anew.
    pub(crate) fn hang_up(&self, address: &str) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Forgets connections to ranks that are no members any more.
    pub(crate) fn retain(&self, members: &[MemberView]) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|address, _| {
            members.iter().any(|m| m.ranks.iter().any(|rank| rank.address == *address))
        });
    }
}

#[cfg(test)]
mod tests;
