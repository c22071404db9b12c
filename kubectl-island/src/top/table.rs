//! Islands and runs as two tables.

use api::island::{ComputeIsland, PlanStatus};
use api::run::TrainingRun;
use api::status::{Condition, ConditionStatus, ConditionType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::text::{age, heads, or_dash, plain, table as columns};
use cli::plan::words::{bytes, clip};
use cli::show;

/// The widest name of a resource.
const NAME: usize = 32;

/// What is shown.
pub(super) struct Shown<'a> {
    pub islands: Vec<&'a ComputeIsland>,
    pub runs: Vec<&'a TrainingRun>,
    /// The one namespace; all where absent, which is then a column.
    pub namespace: Option<&'a str>,
}

/// The tables of islands and of runs.
pub(super) fn table(mut shown: Shown<'_>, now: Timestamp) -> String {
    if shown.islands.is_empty() && shown.runs.is_empty() {
        return match shown.namespace {
            Some(own) => format!(
                "no islands and no runs in namespace {own}: --namespace chooses, -A shows all\n"
            ),
            None => "no islands and no runs in any namespace: apply some\n".into(),
        };
    }
    shown.islands.sort_by_key(|island| place(&island.metadata));
    shown.runs.sort_by_key(|run| place(&run.metadata));
    let all = shown.namespace.is_none();
    let names = |names: &[&str]| {
        let own = all.then(|| "NAMESPACE".to_owned());
        own.into_iter().chain(heads(names)).collect::<Vec<_>>()
    };
    let row = |metadata: &ObjectMeta, cells: Vec<String>| {
        let own = all.then(|| or_dash(metadata.namespace.as_ref()));
        own.into_iter().chain(cells).collect::<Vec<_>>()
    };
    let mut islands = vec![names(&ISLAND)];
    islands.extend(shown.islands.iter().map(|it| row(&it.metadata, island(it, now))));
    let mut runs = vec![names(&RUN)];
    runs.extend(shown.runs.iter().map(|it| row(&it.metadata, run(it, now))));
    format!("{}\n{}", columns("", &islands), columns("", &runs))
}

fn place(metadata: &ObjectMeta) -> (Option<String>, Option<String>) {
    (metadata.namespace.clone(), metadata.name.clone())
}

const ISLAND: [&str; 14] = [
    "ISLAND", "RUN", "READY", "REASON", "PHASE", "EPOCH", "LAYOUT", "GPUS", "MEMORY", "H", "ROUND",
    "TOK/S", "SHARE", "AGE",
];

fn island(island: &ComputeIsland, now: Timestamp) -> Vec<String> {
    let status = island.status.clone().unwrap_or_default();
    let plan = status.plan.as_ref();
    let of = |cell: fn(&PlanStatus) -> String| or_dash(plan.map(cell));
    let (ready, reason) = ready(&status.conditions);
    vec![
        name(&island.metadata),
        clip(&plain(&island.spec.run_ref.name), NAME),
        ready,
        reason,
        of(|plan| format!("{:?}", plan.phase)),
        of(|plan| plan.epoch.to_string()),
        of(|plan| plan.layout.clone()),
        of(|plan| plan.cards.to_string()),
        of(|plan| plan.memory.parse().map_or_else(|_| plan.memory.0.clone(), bytes)),
        or_dash(plan.and_then(|plan| plan.inner_steps)),
        or_dash(status.round),
        or_dash(status.tokens_per_second.map(|speed| show::count(speed as f64))),
        or_dash(status.share.as_ref()),
        created(&island.metadata, now),
    ]
}

const RUN: [&str; 9] =
    ["RUN", "READY", "REASON", "ROUND", "TOKENS", "LOSS", "ISLANDS", "ETA", "AGE"];

fn run(run: &TrainingRun, now: Timestamp) -> Vec<String> {
    let status = run.status.clone().unwrap_or_default();
    let (ready, reason) = ready(&status.conditions);
    let tokens = status.tokens.map(|tokens| show::count(tokens as f64));
    vec![
        name(&run.metadata),
        ready,
        reason,
        or_dash(status.round),
        format!("{} of {}", or_dash(tokens), show::count(run.spec.tokens as f64)),
        or_dash(status.loss.as_ref()),
        or_dash(status.islands.as_ref()),
        or_dash(status.eta.as_ref()),
        created(&run.metadata, now),
    ]
}

fn name(metadata: &ObjectMeta) -> String {
    clip(metadata.name.as_deref().unwrap_or_default(), NAME)
}

fn created(metadata: &ObjectMeta, now: Timestamp) -> String {
    age(metadata.creation_timestamp.as_ref().map(|time| time.0), now)
}

/// Whether it is ready, and the reason.
fn ready(conditions: &[Condition]) -> (String, String) {
    let Some(ready) = Condition::find(conditions, ConditionType::Ready) else {
        return ("-".into(), "-".into());
    };
    let yes = match ready.status {
        ConditionStatus::True => "yes",
        ConditionStatus::False => "no",
        ConditionStatus::Unknown => "?",
    };
    (yes.into(), clip(&plain(&ready.reason), NAME))
}

/// What of a text fits a terminal, line by line; the last line says what does not.
pub(super) fn cropped(text: &str, columns: usize, rows: usize) -> Vec<String> {
    // The cursor takes the line after the last.
    let most = rows.saturating_sub(1).max(1);
    let count = text.lines().count();
    let shown = if count > most { most - 1 } else { count };
    let lines = text.lines().take(shown).map(|line| line.chars().take(columns).collect());
    let mut lines: Vec<String> = lines.collect();
    if shown < count {
        let more = format!("… {} more lines", count - shown);
        lines.push(more.chars().take(columns).collect());
    }
    lines
}

#[cfg(test)]
mod missing;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().expect("a time")
    }

    fn resource<K: serde::de::DeserializeOwned>(kind: &str, mut more: Value) -> K {
        more["apiVersion"] = "heteroloco.dev/v1alpha1".into();
        more["kind"] = kind.into();
        more["metadata"]["namespace"] = "ml".into();
        more["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        serde_json::from_value(more).expect("a resource")
    }

    fn ready(status: &str, reason: &str) -> Value {
        let time = "2026-01-01T00:00:00Z";
        json!([{
            "type": "Ready", "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": time,
        }])
    }

    fn waiting() -> ComputeIsland {
        resource(
            "ComputeIsland",
            json!({
                "metadata": {"name": "attic"},
                "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-L4"}]},
                "status": {"conditions": ready("False", "NotEnoughCards")},
            }),
        )
    }

    fn running() -> ComputeIsland {
        let mut island = waiting();
        island.metadata.name = Some("big".into());
        island.status = serde_json::from_value(json!({
            "conditions": ready("True", "Running"), "round": 12, "share": "61.2%",
            "tokensPerSecond": 1_100_000,
            "plan": {
                "epoch": 3, "generation": 1, "phase": "Running", "since": "2026-01-01T00:00:00Z",
                "index": 0, "layout": "1×2×4", "cards": 8, "memory": "652472Mi",
                "innerSteps": 30, "stepSeconds": "0.5", "tokensPerSecond": 1_114_746,
            },
        }))
        .expect("a status");
        island
    }

    fn training() -> TrainingRun {
        resource(
            "TrainingRun",
            json!({
                "metadata": {"name": "mini"},
                "spec": {
                    "model": {"preset": "llama-demo"}, "data": {"path": "d", "tokenizer": "byte"},
                    "tokens": 2_000_000_000_i64,
                },
                "status": {
                    "conditions": ready("True", "Training"), "round": 12, "tokens": 500_000_000,
                    "loss": "2.3411", "islands": "1/2", "eta": "3h12m",
                },
            }),
        )
    }

    #[test]
    fn islands_and_runs_are_told_in_a_line_each() {
        let (big, attic, mini) = (running(), waiting(), training());
        let shown = Shown { islands: vec![&big, &attic], runs: vec![&mini], namespace: Some("ml") };
        let text = table(shown, now());
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ISLAND);
        let dashes = "attic mini no NotEnoughCards - - - - - - - - - 60m";
        assert_eq!(words[1].join(" "), dashes);
        let big = "big mini yes Running Running 3 1×2×4 8 637.2 GiB 30 12 1.1M 61.2% 60m";
        assert_eq!(words[2].join(" "), big);
        assert_eq!(words[4], RUN);
        let mini = "mini yes Training 12 500M of 2.0G 2.3411 1/2 3h12m 60m";
        assert_eq!(words[5].join(" "), mini);
    }

    #[test]
    fn all_namespaces_are_a_column() {
        let big = running();
        let text = table(Shown { islands: vec![&big], runs: vec![], namespace: None }, now());
        let firsts = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default());
        assert_eq!(firsts.collect::<Vec<_>>(), ["NAMESPACE", "ml", "", "NAMESPACE"]);
    }

    #[test]
    fn where_there_is_nothing_it_says_where_to_look() {
        let text = table(Shown { islands: vec![], runs: vec![], namespace: Some("x") }, now());
        assert!(text.contains("namespace x: --namespace chooses, -A shows all"), "{text}");
    }

    #[test]
    fn what_a_terminal_cannot_hold_is_counted() {
        let text = "one\ntwo\nthree\nfour\n";
        assert_eq!(cropped(text, 3, 9), ["one", "two", "thr", "fou"]);
        assert_eq!(cropped(text, 80, 5), ["one", "two", "three", "four"]);
        assert_eq!(cropped(text, 80, 4), ["one", "two", "… 2 more lines"]);
        assert_eq!(cropped(text, 2, 1), ["… "]);
    }
}
