//! `island explain`: why the plan is as it is, why the island is not ready, what happened lately.

use std::fmt::Write as _;

use api::island::{ComputeIsland, ComputeIslandStatus, FoundDevice, PlanStatus, RankStatus};
use api::names;
use api::status::{Condition, ConditionStatus, ConditionType};
use api::text::Quantity;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;

use super::connection::Cluster;
use super::error::ClusterError;
use super::text::{age, counted, heads, or_dash, plain, since, table};
use cli::plan::words::{bytes, grouped, seconds};

/// Events that are shown.
const EVENTS: usize = 12;

/// What is said of an island.
pub(super) async fn explain(cluster: &Cluster, name: &str) -> Result<String, ClusterError> {
    let island = cluster.island(name).await?;
    let own = format!("involvedObject.kind=ComputeIsland,involvedObject.name={name}");
    let mut events = Vec::new();
    for about in [own.as_str(), "involvedObject.kind=Pod"] {
        let params = ListParams::default().fields(about);
        events.extend(cluster.all("list events", cluster.own::<Event>(), params).await?);
    }
    Ok(text(&island, &events, Timestamp::now()))
}

/// What is said of an island, its events among these.
fn text(island: &ComputeIsland, events: &[Event], now: Timestamp) -> String {
    let status = island.status.clone().unwrap_or_default();
    let mut text = head(island, &status, now);
    text.push('\n');
    match &status.plan {
        Some(plan) => text.push_str(&planned(plan, &status, now)),
        None => text.push_str(&looked_at(&status.devices)),
    }
    text.push('\n');
    text.push_str(&conditions(&status.conditions, now));
    let name = island.metadata.name.as_deref().unwrap_or_default();
    text.push('\n');
    text.push_str(&lately(events, name, now));
    text
}

/// Whether it is ready and, where it is not, why.
fn head(island: &ComputeIsland, status: &ComputeIslandStatus, now: Timestamp) -> String {
    let (metadata, spec) = (&island.metadata, &island.spec);
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut text = format!(
        "island {name} of run {}, namespace {}: ",
        spec.run_ref.name,
        metadata.namespace.as_deref().unwrap_or_default()
    );
    match Condition::find(&status.conditions, ConditionType::Ready) {
        None => text += "no operator has looked at it yet (docs/kubernetes.md, Troubleshooting)\n",
        Some(ready) => {
            let state = match ready.status {
                ConditionStatus::True => "ready",
                ConditionStatus::False => "not ready",
                ConditionStatus::Unknown => "perhaps ready",
            };
            let since = since(&ready.last_transition_time, now);
            let (reason, why) = (plain(&ready.reason), plain(&ready.message));
            let _ = writeln!(text, "{state} for {since}, {reason}: {why}");
        }
    }
    if spec.suspend {
        let _ = writeln!(text, "  it rests: `kubectl island undrain {name}` lets it go on");
    }
    let (of, seen) = (metadata.generation, status.observed_generation);
    if let (Some(of), Some(seen)) = (of, seen)
        && seen < of
    {
        let _ = writeln!(
            text,
            "  what follows is of generation {seen} of its spec, which is at {of} now: the \
             operator has not looked yet"
        );
    }
    text
}

fn planned(plan: &PlanStatus, status: &ComputeIslandStatus, now: Timestamp) -> String {
    let mut text = format!(
        "plan of epoch {}: {} (data × pipeline × tensor) over {} with {}, {:?} for {}\n",
        plan.epoch,
        plain(&plan.layout),
        counted(plan.cards as usize, "card"),
        memory(&plan.memory),
        plan.phase,
        since(&plan.since, now),
    );
    let step = plan.step_seconds.parse().map_or_else(|_| "?".into(), seconds);
    let _ = write!(text, "  H {}, {step} a step expected, ", or_dash(plan.inner_steps));
    let speed = grouped(u64::try_from(plan.tokens_per_second).unwrap_or(0));
    let _ = writeln!(text, "{speed} tokens/s");
    if status.round.is_some() || status.share.is_some() {
        let (round, share) = (or_dash(status.round), or_dash(status.share.as_ref()));
        let _ = write!(text, "  in round {round}, {share} of the run's tokens");
        let measured = status.tokens_per_second.and_then(|speed| u64::try_from(speed).ok());
        let measured = measured.map(|speed| format!(", {} tokens/s measured", grouped(speed)));
        let _ = writeln!(text, "{}", measured.unwrap_or_default());
    }
    if plan.failures > 0 {
        let _ = writeln!(text, "  {} broke in a row", counted(plan.failures as usize, "epoch"));
    }
    let head = heads(&["RANK", "NODE", "CARDS", "LAYERS", "MEMORY", "HEADROOM"]);
    let ranks = plan.ranks.iter().enumerate().map(|(at, rank)| row(at, rank));
    let rows: Vec<_> = std::iter::once(head).chain(ranks).collect();
    text.push_str(&table("  ", &rows));
    for reason in &plan.reasons {
        let _ = writeln!(text, "  why: {}", plain(reason));
    }
    text
}

fn row(at: usize, rank: &RankStatus) -> Vec<String> {
    vec![
        at.to_string(),
        plain(&rank.node),
        format!("{} × {}", rank.count, plain(&rank.product)),
        plain(&rank.layers),
        memory(&rank.memory),
        memory(&rank.headroom),
    ]
}

/// Bytes for people, or the text where it is no number.
fn memory(quantity: &Quantity) -> String {
    quantity.parse().map_or_else(|_| plain(&quantity.0), bytes)
}

fn looked_at(devices: &[FoundDevice]) -> String {
    if devices.is_empty() {
        return "no plan\n".into();
    }
    let head = heads(&["NODE", "CARDS", "MEMORY OF ONE"]);
    let found = devices.iter().map(|device| {
        let cards = format!("{} × {}", device.count, plain(&device.product));
        vec![plain(&device.node), cards, memory(&device.memory)]
    });
    let rows: Vec<_> = std::iter::once(head).chain(found).collect();
    format!("no plan; idle cards that were found for one:\n{}", table("  ", &rows))
}

fn conditions(all: &[Condition], now: Timestamp) -> String {
    if all.is_empty() {
        return "no conditions\n".into();
    }
    let head = heads(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    let said = all.iter().map(|condition| {
        vec![
            plain(&condition.kind),
            format!("{:?}", condition.status),
            plain(&condition.reason),
            since(&condition.last_transition_time, now),
            plain(&condition.message),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(said).collect();
    format!("conditions\n{}", table("  ", &rows))
}

/// The newest events of an island and of its pods, of all epochs.
fn lately(events: &[Event], island: &str, now: Timestamp) -> String {
    let mut own: Vec<(Option<Timestamp>, &Event)> =
        events.iter().filter(|it| is_about(it, island)).map(|it| (time(it), it)).collect();
    own.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    if own.is_empty() {
        return "no events of the last hour or so: a cluster forgets them\n".into();
    }
    let head = heads(&["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let rows = own.iter().take(EVENTS).map(|(time, event)| {
        let (about, times) = (&event.involved_object, count(event));
        let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
        let kind = if about.kind.as_deref() == Some("Pod") { "pod" } else { "island" };
        vec![
            age(*time, now),
            or_dash(event.type_.as_ref()),
            or_dash(event.reason.as_ref()),
            format!("{kind} {}", or_dash(about.name.as_ref())),
            format!("{}{times}", or_dash(event.message.as_ref())),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    format!("events, newest first\n{}", table("  ", &rows))
}

/// Pods are known by their names: those of earlier epochs are gone.
fn is_about(event: &Event, island: &str) -> bool {
    let about = &event.involved_object;
    let name = about.name.as_deref().unwrap_or_default();
    match about.kind.as_deref() {
        Some("ComputeIsland") => name == island,
        Some("Pod") => names::is_pod_of(name, island),
        _ => false,
    }
}

/// When it happened last; of a new event only its series or its first time says it.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let series = series.map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or(last).or(first)
}

fn count(event: &Event) -> i32 {
    let series = event.series.as_ref().and_then(|series| series.count);
    series.or(event.count).unwrap_or(1)
}

#[cfg(test)]
mod tests;
