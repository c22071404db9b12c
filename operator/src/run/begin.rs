//! How a run begins, and goes on after its operator was another: its record is what its islands
//! agree on, its coordinator is made from that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::island::ComputeIsland;
use api::names::{self, Key};
use api::run::TrainingRun;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use plan::outer::Participant;
use plan::planner;
use plan::request::RunRequest;

use super::reason::Waits;
use super::{SOMETIMES, apply, build};
use crate::context::{Begun, Context};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::record::{self, Record};
use crate::write::{damaged, tell};

/// A run begins without the islands that were not looked at for so long after it was made.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run that is looked at, whose spec makes sense.
pub(super) struct Look<'a> {
    pub context: &'a Context,
    pub run: &'a TrainingRun,
    pub request: &'a RunRequest,
    pub islands: &'a [&'a ComputeIsland],
    pub now: Timestamp,
}

/// How far a run has come.
#[derive(Default)]
pub(super) struct Standing {
    /// What is known of it, where it has begun.
    pub begun: Option<Arc<Begun>>,
    /// What it waits for.
    pub waits: Option<Waits>,
}

impl Standing {
    /// A run that waits for this before anything of it is there.
    pub(super) fn waiting(waits: Waits) -> Self {
        Self { begun: None, waits: Some(waits) }
    }
}

/// The run's record and coordinator, made when its islands are planned; or what it waits for.
pub(super) async fn begin(look: &Look<'_>) -> Result<Standing, Error> {
    let Look { context, run, .. } = *look;
    let key = &Key::of(run);
    let known = known(context, run);
    if known.is_none() {
        // Of another run of the same name.
        context.forget_run(key);
    }
    if let Some(begun) = &known
        && begun.applied.elapsed() < SOMETIMES
        && objects(look, &begun.record)?.hash() == begun.objects
    {
        return Ok(Standing { begun: known, waits: None });
    }
    let record = match Box::pin(agreed(look, known.as_deref())).await? {
        Ok(record) => record,
        Err(waits) => return Ok(Standing::waiting(waits)),
    };
    let objects = objects(look, &record)?;
    let hash = objects.hash();
    let coordinator = match Box::pin(apply::coordinator(context, run, objects)).await? {
        Ok(address) => address,
        Err(waits) => return Ok(Standing { begun: known, waits: Some(waits) }),
    };
    let changed = known.is_none_or(|begun| begun.coordinator != coordinator);
    let uid = run.metadata.uid.clone();
    let begun = Begun { record, uid, objects: hash, applied: Instant::now(), coordinator };
    let begun = Arc::new(begun);
    context.begun().insert(key.clone(), Arc::clone(&begun));
    if changed {
        for island in look.islands {
            context.again(&Key::of(*island));
        }
    }
    Ok(Standing { begun: Some(begun), waits: None })
}

/// What is known of a run that has begun, and not of another of its name.
pub(super) fn known(context: &Context, run: &TrainingRun) -> Option<Arc<Begun>> {
    let begun = context.begun().get(&Key::of(run)).cloned();
    begun.filter(|begun| begun.uid == run.metadata.uid)
}

fn objects(look: &Look<'_>, record: &Record) -> Result<build::Coordinator, Error> {
    let Look { context, run, request, islands, .. } = *look;
    let objects = build::coordinator(run, request, record, islands.len(), &context.args);
    objects.map_err(damaged("a coordinator"))
}

/// What the islands agree on: what is known or was written before, or else what is written now.
async fn agreed(look: &Look<'_>, known: Option<&Begun>) -> Result<Result<Record, Waits>, Error> {
    let Look { context, run, .. } = *look;
    let key = Key::of(run);
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let there = configs.get_opt(&names::record(&key.name)).await;
    let there = there.map_err(Error::api("read a run's record"))?;
    if let Some(config) = &there {
        return match known {
            _ if !apply::is_own(config, run) => Ok(Err(Waits::Replacing)),
            Some(begun) => Ok(Ok(begun.record.clone())),
            None => read(config).map(Ok),
        };
    }
    let record = match known {
        Some(begun) => begun.record.clone(),
        None => match first_record(look) {
            Ok(record) => record,
            Err(waits) => return Ok(Err(waits)),
        },
    };
    let config = build::record(run, &record).map_err(damaged("a record"))?;
    apply::record(&configs, &config).await?;
    let note = format!("H × seconds of a step is {:.1}", record.compute_seconds);
    tell(context, run, "Begun", &note).await;
    Ok(Ok(record))
}

/// What the islands agree on, when those that can be planned are.
fn first_record(look: &Look<'_>) -> Result<Record, Waits> {
    let Look { context, run, request, islands, now } = *look;
    if islands.is_empty() {
        return Err(Waits::NoIslands(run.name_any()));
    }
    let created = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
    // An operator that just started has looked at none of them yet.
    let created = created.map(|created| created.max(context.started));
    let age = created.and_then(|then| Duration::try_from(now.duration_since(then)).ok());
    let participants = {
        let ledger = context.ledger();
        let untried = untried(islands, &ledger);
        if untried > 0 && age.is_some_and(|age| age < PATIENCE) {
            return Err(Waits::Planning(untried));
        }
        participants(request, islands, &ledger)
    };
    if participants.is_empty() {
        return Err(Waits::NoIslandPlanned);
    }
    let beginning = planner::begin(request, participants);
    let beginning = beginning.map_err(|refusals| Waits::NoRounds(refusals.to_string()))?;
    Ok(Record::new(&beginning))
}

/// How many islands were neither planned nor refused yet, of those that are to run.
fn untried(islands: &[&ComputeIsland], ledger: &Ledger) -> usize {
    let untried =
        |island: &&&ComputeIsland| !island.spec.suspend && !ledger.was_tried(&Key::of(**island));
    islands.iter().filter(untried).count()
}

/// The islands that have a plan, as far as rounds depend on them.
fn participants(
    request: &RunRequest,
    islands: &[&ComputeIsland],
    ledger: &Ledger,
) -> Vec<Participant> {
    let participant = |island: &&ComputeIsland| {
        Some(Participant {
            name: island.name_any(),
            step_seconds: ledger.get(&Key::of(*island))?.plan.step_seconds?,
            step_tokens: u64::from(request.sequences) * u64::from(request.sequence_length),
            uplink: island.request().ok().and_then(|request| request.uplink),
        })
    };
    islands.iter().filter_map(participant).collect()
}

fn read(config: &ConfigMap) -> Result<Record, Error> {
    let text = config.data.as_ref().and_then(|data| data.get(record::KEY));
    let unread = |problem: String| Error::Damaged {
        object: format!("ConfigMap {}", config.name_any()),
        problem,
    };
    let text = text.ok_or_else(|| unread(format!("it has no key {}", record::KEY)))?;
    serde_json::from_str(text).map_err(|error| unread(error.to_string()))
}

#[cfg(test)]
mod tests {
    use api::island::PlanPhase;
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::args::Args;
    use crate::island::{Plan, examples};
    use crate::ledger::{Known, Promise};

    fn island(name: &str, suspend: bool) -> ComputeIsland {
        let more = json!({"suspend": suspend, "uplink": {"up": "1G", "down": "2G"}});
        let mut island = examples::island(&[examples::L4], &more);
        island.metadata.name = Some(name.into());
        island
    }

    #[test]
    fn rounds_follow_from_islands_that_have_a_plan_and_wait_for_those_that_may_get_one() {
        let request = super::super::request(&examples::run(), &Args::parse_from(["operator"]));
        let request = request.expect("a run");
        let all = [island("a", false), island("b", false), island("c", true), island("d", false)];
        let all: Vec<&ComputeIsland> = all.iter().collect();
        let mut ledger = Ledger::default();
        assert_eq!(untried(&all, &ledger), 3, "what rests is not waited for");
        let mut promise = |name: &str, step_seconds: Option<f64>| {
            let plan = Plan { step_seconds, ..examples::plan(PlanPhase::Planned, 0) };
            let (run, known) = (Key::new("ml", "mini"), Known::Nothing);
            ledger.promise(&Key::new("ml", name), Promise { run, plan, known });
        };
        promise("a", Some(0.5));
        promise("d", None);
        ledger.tried(&Key::new("ml", "b"), true);
        assert_eq!(untried(&all, &ledger), 0);
        let [a] = &participants(&request, &all, &ledger)[..] else { panic!("one") };
        assert_eq!((a.name.as_str(), a.step_seconds), ("a", 0.5));
        let tokens = u64::from(request.sequences) * u64::from(request.sequence_length);
        assert_eq!(a.step_tokens, tokens);
        assert!(a.uplink.is_some());
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_named() {
        let record = examples::record();
        let mut config = build::record(&examples::run(), &record).expect("a ConfigMap");
        assert_eq!(read(&config).expect("a record"), record);
        let text = config.data.as_mut().and_then(|data| data.get_mut(record::KEY));
        text.expect("the record").truncate(10);
        let said = read(&config).expect_err("half of it").to_string();
        assert!(said.starts_with("failed to understand ConfigMap mini-record: EOF"), "{said}");
        config.data = None;
        let said = read(&config).expect_err("nothing").to_string();
        assert!(said.ends_with("it has no key record.json"), "{said}");
    }
}
