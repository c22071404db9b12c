//! Use of a node's cards: whether they may be used, and whose they are, the same for files of
//! nodes, for `kubectl island` and for the operator.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;

use crate::island::{ComputeIsland, IdlePolicy, PlanPhase, RankStatus, Toleration};
use crate::names::{GPU, ISLAND, MANAGED_BY, MANAGER};

/// How long cards have to be idle where an island that harvests does not say it.
pub const COOLDOWN_WAIT: Duration = Duration::from_secs(600);

const ARCHITECTURE: &str = "kubernetes.io/arch";
const SYSTEM: &str = "kubernetes.io/os";
/// The architecture that the ranks' programs are built for.
const AMD64: &str = "amd64";
const LINUX: &str = "linux";

/// Why no card of a node may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is being deleted.
    Leaving,
    /// Nothing new is started there.
    Cordoned,
    /// Its kubelet is not heard of, or not well.
    NotReady,
    /// No pod there is reached.
    NoNetwork,
    /// Its processors are others: which.
    Architecture(String),
    /// Its operating system is another: which.
    System(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving => f.write_str("it is being deleted"),
            Self::Cordoned => f.write_str("cordoned: kubectl uncordon it to use its cards"),
            Self::NotReady => f.write_str("not ready: see kubectl describe"),
            Self::NoNetwork => f.write_str("its network is unavailable: see kubectl describe"),
            Self::Architecture(it) => write!(f, "it is {it}, and ranks run on {AMD64} only"),
            Self::System(it) => write!(f, "it runs {it}, and ranks run on {LINUX} only"),
        }
    }
}

impl Unusable {
    /// Says whether it may be usable again as the node that it is.
    pub fn passes(&self) -> bool {
        match self {
            Self::Cordoned | Self::NotReady | Self::NoNetwork => true,
            Self::Leaving | Self::Architecture(_) | Self::System(_) => false,
        }
    }
}

/// Why no card of a node may be used, if so; what never passes comes first.
pub fn unusable(node: &Node) -> Option<Unusable> {
    let status = node.status.as_ref();
    let labels = node.metadata.labels.as_ref();
    let info = status.and_then(|status| status.node_info.as_ref());
    let fact = |label: &str, told: Option<&String>| {
        let known = labels.and_then(|labels| labels.get(label)).or(told);
        known.filter(|known| !known.is_empty()).cloned()
    };
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let condition = |of: &str| conditions.into_iter().flatten().find(|it| it.type_ == of);
    let system = fact(SYSTEM, info.map(|info| &info.operating_system));
    let architecture = fact(ARCHITECTURE, info.map(|info| &info.architecture));
    if let Some(other) = system.filter(|system| system != LINUX) {
        Some(Unusable::System(other))
    } else if let Some(other) = architecture.filter(|own| own != AMD64) {
        Some(Unusable::Architecture(other))
    } else if node.metadata.deletion_timestamp.is_some() {
        Some(Unusable::Leaving)
    } else if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        Some(Unusable::Cordoned)
    } else if condition("Ready").is_some_and(|ready| ready.status != "True") {
        Some(Unusable::NotReady)
    } else if condition("NetworkUnavailable").is_some_and(|it| it.status == "True") {
        Some(Unusable::NoNetwork)
    } else {
        None
    }
}

/// A taint that keeps pods away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    key: String,
    value: String,
    effect: String,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}:{}", self.key, self.effect),
            value => write!(f, "{}={value}:{}", self.key, self.effect),
        }
    }
}

/// The taints of a node that keep pods away which do not tolerate them.
pub fn taints(node: &Node) -> Vec<Taint> {
    let all = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    // Pods that ask for cards tolerate the device plugin's own taint.
    let keeps_away = all.filter(|it| it.effect != "PreferNoSchedule" && it.key != GPU);
    let taint = |it: &k8s_openapi::api::core::v1::Taint| Taint {
        key: it.key.clone(),
        value: it.value.clone().unwrap_or_default(),
        effect: it.effect.clone(),
    };
    keeps_away.map(taint).collect()
}

/// The first of a node's taints that pods with these tolerations do not bear.
pub fn kept_away<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let borne =
        |it: &Taint| tolerations.iter().any(|own| own.tolerates(&it.key, &it.value, &it.effect));
    taints.iter().find(|taint| !borne(taint))
}

/// The cards that a pod holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The node that has them.
    pub node: String,
    /// How many.
    pub cards: u32,
    /// The island of the pod's namespace that it is a rank of.
    pub island: Option<String>,
}

/// The cards that a pod holds: those of its node, and of one that preempts others, those of the
/// node that is being freed for it; none once it has ended. One that is being deleted holds them
/// until it is gone.
pub fn holding(pod: &Pod) -> Option<Holding> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|it| it.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let nominated = || status.and_then(|status| status.nominated_node_name.clone());
    let node = spec.node_name.clone().or_else(nominated).filter(|node| !node.is_empty())?;
    let cards = cards(spec);
    (cards > 0).then(|| Holding { node, cards, island: island(pod).map(str::to_owned) })
}

/// The island that a pod is a rank of. A label's value may be a shortened name, its owner's is not.
pub fn island(pod: &Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.kind == "ComputeIsland").map(|it| it.name.as_str());
    owner.or_else(|| labels.get(ISLAND).map(String::as_str))
}

/// Cards that a pod asks for: those of its containers and of its sidecars together, or those of an
/// init container and the sidecars before it, where these are more.
fn cards(spec: &PodSpec) -> u32 {
    let together = spec.containers.iter().map(asked).fold(0, u32::saturating_add);
    let (mut sidecars, mut first) = (0_u32, 0_u32);
    for container in spec.init_containers.iter().flatten() {
        let cards = asked(container);
        first = first.max(sidecars.saturating_add(cards));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(cards);
        }
    }
    together.saturating_add(sidecars).max(first)
}

/// Extended resources are limits; requests are the same.
fn asked(container: &Container) -> u32 {
    let Some(resources) = &container.resources else { return 0 };
    let limit = resources.limits.as_ref().and_then(|limits| limits.get(GPU));
    let asked = limit.or_else(|| resources.requests.as_ref().and_then(|it| it.get(GPU)));
    asked.and_then(|quantity| quantity.0.parse().ok()).unwrap_or(0)
}

/// Says whether a plan's cards are not to be given to others, whatever pods there are: those of one
/// that is stopping may still compute.
pub fn is_held(phase: PlanPhase) -> bool {
    match phase {
        PlanPhase::Planned | PlanPhase::Starting | PlanPhase::Running | PlanPhase::Stopping => true,
        PlanPhase::Waiting | PlanPhase::Done | PlanPhase::Failed => false,
    }
}

/// The cards that the ranks of a plan in this phase hold, by node.
pub fn promised(phase: PlanPhase, ranks: &[RankStatus]) -> BTreeMap<&str, u32> {
    let mut nodes: BTreeMap<&str, u32> = BTreeMap::new();
    for rank in ranks.iter().filter(|_| is_held(phase)) {
        let count = nodes.entry(&rank.node).or_default();
        *count = count.saturating_add(rank.count);
    }
    nodes
}

/// How long cards have to be idle before an island takes them; absent where it does not harvest.
pub fn cooldown(island: &ComputeIsland) -> Option<Duration> {
    let idle = island.spec.idle.as_ref().filter(|idle| idle.policy == IdlePolicy::Harvest)?;
    let asked = idle.cooldown.as_ref().and_then(|text| text.parse().ok());
    Some(asked.unwrap_or(COOLDOWN_WAIT))
}

/// How long it still takes until cards that somebody had or took at `changed` count as idle.
pub fn settles(
    cooldown: Option<Duration>,
    changed: Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    let idle = Duration::try_from(now.duration_since(changed?)).unwrap_or_default();
    cooldown?.checked_sub(idle).filter(|left| !left.is_zero())
}

/// The cards of one node, by who has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// All that can be used.
    pub all: u32,
    /// Cards that pods of no island hold.
    pub foreign: u32,
    /// Cards that other islands hold or were promised.
    pub others: u32,
    /// Cards that the island holds itself: these count as idle.
    pub own: u32,
}

impl Claims {
    /// Cards that the island may be planned on; and after how long there are more, where cards have
    /// to `settle`.
    pub fn left(self, settle: Option<Duration>) -> (u32, Option<Duration>) {
        let left = self.all.saturating_sub(self.foreign.saturating_add(self.others));
        match settle.filter(|_| left > self.own) {
            Some(wait) => (self.own, Some(wait)),
            None => (left, None),
        }
    }
}

/// The time at which cards last went to or came from a pod, as far as the pod says it itself.
pub fn changed(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let ended = containers.filter_map(|it| it.state.as_ref()?.terminated.as_ref());
    let ended = ended.filter_map(|it| it.finished_at.as_ref());
    ended.chain(&status.start_time).map(|time| time.0).max()
}
