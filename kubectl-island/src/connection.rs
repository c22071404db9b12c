//! The way to a cluster, and what is read there: every question has a bound in time and size.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use api::island::ComputeIsland;
use api::run::TrainingRun;
use kube::api::ListParams;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use plan::words::chain;
use serde::de::DeserializeOwned;

use super::args::ConnectionArgs;
use super::error::ClusterError;

/// An answer that takes longer is given up.
const ANSWER: Duration = Duration::from_secs(30);
/// Getting connected may take so long.
const CONNECT: Duration = Duration::from_secs(10);
/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Objects of one kind that are looked at.
const OBJECTS_MAX: usize = 100_000;

/// A cluster, and the namespace in it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub client: Client,
    /// The namespace that was asked for, or the context's.
    pub namespace: String,
    /// The API server's address, for messages.
    server: String,
}

impl Cluster {
    /// Finds the cluster as kubectl does; it is first spoken to when something is asked.
    pub(super) async fn connect(args: &ConnectionArgs) -> Result<Self, ClusterError> {
        let mut config = config(args).await?;
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string();
        let namespace = args.namespace.clone().unwrap_or(config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| ClusterError::Config(chain(&error)))?;
        Ok(Self { client, namespace, server: server.trim_end_matches('/').to_owned() })
    }

    /// Resources of a kind in the namespace.
    pub(super) fn own<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same cluster, another namespace.
    pub(super) fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer.map_err(|error| self.error(operation, error)),
            Err(_) => Err(ClusterError::Unreachable {
                operation,
                server: self.server.clone(),
                why: format!("nothing within {} s", ANSWER.as_secs()),
            }),
        }
    }

    /// A failed call, as a sentence.
    pub(super) fn error(&self, operation: &'static str, error: kube::Error) -> ClusterError {
        ClusterError::api(operation, &self.server, error)
    }

    /// All objects, page by page.
    pub(super) async fn all<K>(
        &self,
        operation: &'static str,
        from: Api<K>,
        params: ListParams,
    ) -> Result<Vec<K>, ClusterError>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let mut params = params.limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = self.ask(operation, from.list(&params)).await?;
            found.extend(page.items);
            if found.len() > OBJECTS_MAX {
                return Err(ClusterError::TooMany { operation, most: OBJECTS_MAX });
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// An island of the namespace.
    pub(super) async fn island(&self, name: &str) -> Result<ComputeIsland, ClusterError> {
        let found = self.ask("read the island", self.own().get_opt(name)).await?;
        let Some(island) = found else {
            let run = self.ask("read the run", self.own::<TrainingRun>().get_opt(name)).await?;
            let remedy = match run {
                Some(_) => "that is a TrainingRun, see `kubectl island run --help`",
                None => ELSEWHERE,
            };
            return Err(self.missing("ComputeIsland", name, remedy));
        };
        Ok(island)
    }

    /// A run of the namespace.
    pub(super) async fn run(&self, name: &str) -> Result<TrainingRun, ClusterError> {
        let found = self.ask("read the run", self.own().get_opt(name)).await?;
        let Some(run) = found else {
            let islands = self.own::<ComputeIsland>();
            let remedy = match self.ask("read the island", islands.get_opt(name)).await? {
                Some(_) => "that is a ComputeIsland, see `kubectl island --help`",
                None => ELSEWHERE,
            };
            return Err(self.missing("TrainingRun", name, remedy));
        };
        Ok(run)
    }

    fn missing(&self, kind: &'static str, name: &str, remedy: &str) -> ClusterError {
        ClusterError::NotFound {
            kind,
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            remedy: remedy.to_owned(),
        }
    }
}

/// What to do where a name is not known.
const ELSEWHERE: &str = "`kubectl island top -A` shows all, --namespace chooses";

/// As kubectl finds it; in a pod without a kubeconfig it is the pod's own cluster.
async fn config(args: &ConnectionArgs) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..Default::default() };
    let found = match &args.kubeconfig {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&options).await,
    };
    let chosen = args.kubeconfig.is_some() || args.context.is_some();
    match found {
        Ok(config) => Ok(config),
        Err(error) if chosen => Err(ClusterError::Config(chain(&error))),
        Err(error) => Config::incluster().map_err(|_| ClusterError::Config(chain(&error))),
    }
}
