//! What of a pod matters: the cards that it holds, and of a rank how it fares.

use api::names::{EPOCH, Key, RANK};
use api::occupancy;
use contract::event::{Ending, WorkerEvent};
use contract::fate::Exit;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::Holding;

/// A pod that holds cards, or is a rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    holding: Option<Holding>,
    pub rank: Option<Rank>,
}

/// The pod of an island's rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub island: Key,
    pub pod: String,
    pub epoch: u64,
    pub rank: u32,
    pub state: RankState,
    /// By when it has to be gone, where somebody asked it to end.
    pub leaving: Option<Timestamp>,
}

/// How a rank fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RankState {
    /// It waits, for what where somebody said that.
    Pending { why: Option<String> },
    /// A scheduling gate keeps it from holding cards: a queue, such as Kueue's, opens it.
    Gated,
    /// It runs.
    Running,
    /// It ended well: the run is complete.
    Succeeded,
    /// It ended because somebody asked it to.
    Stopped,
    /// It ended badly: how, what it said last, and when.
    Failed { exit: Exit, said: String, at: Option<Timestamp> },
}

impl PodFacts {
    pub(crate) fn of(pod: &Pod) -> Option<(Key, Self)> {
        let key = Key::new(pod.metadata.namespace.clone()?, pod.metadata.name.clone()?);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let holding = occupancy::holding(pod).map(|it| {
            let island = it.island.map(|island| Key::new(key.namespace.as_str(), island));
            Holding { node: it.node, island, cards: it.cards }
        });
        let facts = Self { holding, rank: rank(pod, &key, phase) };
        Some((key, facts))
    }

    /// Whether anything of it has to be known.
    pub(crate) fn matters(&self) -> bool {
        self.rank.is_some() || self.holding.is_some()
    }

    /// The cards that it holds.
    pub(super) fn holding(&self) -> Option<Holding> {
        self.holding.clone()
    }
}

fn rank(pod: &Pod, key: &Key, phase: Option<&str>) -> Option<Rank> {
    let labels = pod.metadata.labels.as_ref()?;
    Some(Rank {
        island: Key::new(key.namespace.as_str(), occupancy::island(pod)?),
        pod: key.name.clone(),
        epoch: labels.get(EPOCH)?.parse().ok()?,
        rank: labels.get(RANK)?.parse().ok()?,
        state: state(pod, phase),
        leaving: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
    })
}

fn state(pod: &Pod, phase: Option<&str>) -> RankState {
    let status = pod.status.as_ref();
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let ended = container.and_then(|it| it.state.as_ref()?.terminated.as_ref());
    match phase {
        Some("Succeeded") => match ended.and_then(|ended| ended.message.as_deref()).map(ending) {
            Some(Some(Ending::Complete | Ending::Missed)) => RankState::Succeeded,
            Some(Some(Ending::Stopped)) => RankState::Stopped,
            _ if pod.metadata.deletion_timestamp.is_some() => RankState::Stopped,
            _ => RankState::Succeeded,
        },
        Some("Failed") => {
            let said = ended.and_then(|ended| ended.message.clone());
            let said = said.or_else(|| status.and_then(|status| status.message.clone()));
            let said = said.or_else(|| status.and_then(|status| status.reason.clone()));
            RankState::Failed {
                exit: ended.map_or(Exit::Removed, exit),
                said: last_words(&said.unwrap_or_default()),
                at: ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0),
            }
        }
        Some("Running") => RankState::Running,
        _ if is_gated(pod) => RankState::Gated,
        _ => RankState::Pending { why: container.and_then(waits).or_else(|| unscheduled(pod)) },
    }
}

/// What a shell adds to the signal that a process was killed by.
const SIGNALLED: i32 = 128;

fn exit(ended: &ContainerStateTerminated) -> Exit {
    match ended.exit_code {
        _ if ended.reason.as_deref() == Some("OOMKilled") => Exit::NoMemory,
        code if code > SIGNALLED => Exit::Signal(code - SIGNALLED),
        code => Exit::Code(code),
    }
}

/// How a worker says that it ended.
fn ending(said: &str) -> Option<Ending> {
    match serde_json::from_str(said) {
        Ok(WorkerEvent::Finished { ending }) => Some(ending),
        _ => None,
    }
}

/// What a worker wrote as its last event, or the text as it is.
fn last_words(said: &str) -> String {
    match serde_json::from_str(said) {
        Ok(WorkerEvent::Failed { error }) => error,
        _ => said.trim().to_owned(),
    }
}

/// Why a container does not run yet, where that is more than that it is being made.
pub(crate) fn waits(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let message = waiting.message.as_deref().unwrap_or_default();
    Some(format!("{reason}: {message}"))
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Why the scheduler has no node for it.
pub(crate) fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let why = scheduled.reason.as_deref().unwrap_or_default();
    let message = scheduled.message.as_deref().unwrap_or_default();
    (scheduled.status == "False").then(|| format!("{why}: {message}"))
}
