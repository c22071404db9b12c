//! Leader election by a Lease, as client-go does it: whoever holds it works, and lets it go when
//! told to end.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

/// Name of the Lease.
const NAME: &str = "heteroloco-operator";
/// Others wait for so long after the holder's last word.
const DURATION: Duration = Duration::from_secs(15);
/// The holder gives up when it could not renew for so long.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or tried for.
const RETRY: Duration = Duration::from_secs(2);

/// A Lease to be held.
pub(crate) struct Leadership {
    leases: Api<Lease>,
    identity: String,
    /// The record that was seen last, and when: clocks of machines are not compared.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
}

impl Leadership {
    pub(crate) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, seen: None }
    }

    /// Waits until the Lease is held.
    pub(crate) async fn acquire(&mut self) {
        loop {
            match self.renew().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "The Lease could not be asked for."),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Holds the Lease until that fails.
    pub(crate) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY).await;
            // From before the request: the others count from when it was written.
            let asked = Instant::now();
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.renew()).await {
                Ok(Ok(true)) => renewed = asked,
                // Somebody else wrote at the same time, or holds it: the next look tells.
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "The Lease could not be renewed."),
                Err(_) => tracing::warn!("The Lease could not be renewed in time."),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Lets the Lease go, so that another need not wait.
    pub(crate) async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        if let Err(error) = self.leases.replace(NAME, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "The Lease was not let go; it ends by itself.");
        }
    }

    /// Takes the Lease or renews it; whether it is held. A write of somebody else in between is
    /// noticed by the resource's version.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
                spec: Some(self.spec(None, &now)),
            };
            return written(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let own = holder.as_deref() == Some(&self.identity);
        if !own && holder.is_some() && !self.is_over(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec), &now));
        written(self.leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    /// Whether a holder has been silent for too long, by this machine's clock.
    fn is_over(&mut self, spec: &LeaseSpec) -> bool {
        let record = (spec.holder_identity.clone(), spec.renew_time.clone());
        match &self.seen {
            Some((holder, time, at)) if (holder, time) == (&record.0, &record.1) => {
                at.elapsed() >= DURATION
            }
            _ => {
                self.seen = Some((record.0, record.1, Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: &MicroTime) -> LeaseSpec {
        let own = before.filter(|it| it.holder_identity.as_deref() == Some(&self.identity));
        let changes = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: own.and_then(|own| own.acquire_time.clone()).or(Some(now.clone())),
            renew_time: Some(now.clone()),
            lease_transitions: Some(if own.is_some() { changes } else { changes + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// Whether a write took place; another's that came first is no error.
fn written(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
