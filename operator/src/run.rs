//! The controller of `TrainingRun`s: begins a run when its islands are planned, keeps its
//! coordinator, and tells how it fares.

mod ask;
mod build;
mod silent;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::island::ComputeIsland;
use api::run::TrainingRun;
use api::status::ConditionStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use plan::outer::Participant;
use plan::planner;
use plan::request::RunRequest;
use rounds::types::{Phase, RunView};

use self::status::Facts;
use crate::args::Args;
use crate::context::{Begun, Context};
use crate::error::Error;
use crate::fault;
use crate::names::{self, Key};
use crate::record::{self, Record};
use crate::write::{self, apply, damaged, tell, warn};

/// Who looks after runs that name nobody else.
pub(crate) const MANAGED_BY: &str = "heteroloco.dev/operator";

/// What is being deleted, or given an address, is looked at again after so long: nothing tells.
const SOON: Duration = Duration::from_secs(2);
/// How often a coordinator is asked.
const ASKED: Duration = Duration::from_secs(10);
/// A run begins without the islands that were not looked at for so long after it was made.
const PATIENCE: Duration = Duration::from_secs(30);
/// However quiet it is, a run and what was made for it are looked at so often.
const SOMETIMES: Duration = Duration::from_secs(60);

/// The run as the planner takes it.
///
/// # Errors
/// What is wrong with its spec, a sentence.
pub(crate) fn request(run: &TrainingRun, args: &Args) -> Result<RunRequest, String> {
    // The folder of a model is on a volume, which the operator does not mount.
    let unread = |folder: &std::path::Path| {
        Err(format!("{} is not read in a cluster: give preset or config", folder.display()))
    };
    if run.spec.data.volume.is_none() {
        return Err("spec.data.volume: missing: say where the data's folder lies".into());
    }
    let volumes = [("data", &run.spec.data.volume), ("checkpoint", &run.spec.checkpoint.volume)];
    for (field, volume) in volumes {
        if volume.as_ref().is_some_and(|volume| volume.host_path.is_some()) && !args.allow_host_path
        {
            return Err(format!(
                "spec.{field}.volume.hostPath: not allowed here: use claimName, or have the \
                 operator's allowHostPath set"
            ));
        }
    }
    run.request(&unread)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// Whether all tokens were trained on.
pub(crate) fn is_complete(run: &TrainingRun) -> bool {
    let conditions = run.status.iter().flat_map(|status| &status.conditions);
    let mut complete = conditions.filter(|condition| condition.kind == "Complete");
    complete.any(|condition| condition.status == ConditionStatus::True)
}

pub(crate) fn key_of(run: &TrainingRun) -> Key {
    Key::new(run.namespace().unwrap_or_default(), run.name_any())
}

/// Makes the cluster look as a run says.
pub(crate) async fn reconcile(run: &TrainingRun, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let key = key_of(run);
    if run.metadata.deletion_timestamp.is_some() {
        context.forget_run(&key);
        return Ok(Action::await_change());
    }
    if run.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGED_BY) {
        return Ok(Action::await_change());
    }
    if !context.is_primed() {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let islands = context.islands_of(&key);
    let islands: Vec<&ComputeIsland> =
        islands.iter().filter_map(|island| island.0.as_ref().ok()).collect();
    let request = request(run, &context.args);
    let (begun, waits) = match &request {
        Ok(request) => match Box::pin(begin(context, run, request, &islands, now)).await {
            Ok(begun) => begun,
            Err(error) if error.is_refusal() => {
                let why = error.sentence();
                warn(context, run, "ObjectsRefused", &why).await;
                (known(context, run), Some(("ObjectsRefused", why)))
            }
            Err(error) => return Err(error),
        },
        Err(problem) => {
            warn(context, run, "InvalidRun", problem).await;
            (None, Some(("InvalidRun", problem.clone())))
        }
    };
    let (view, silence) = match &begun {
        Some(begun) => ask(context, &key, begun).await,
        None => (None, None),
    };
    let speed = context.speeds().of_run(&key);
    let soon = matches!(waits, Some(("Replacing" | "NoAddress", _)));
    let status = status::status(Facts {
        run,
        islands: &islands,
        begun: begun.as_deref(),
        waits,
        view: view.as_deref(),
        silence,
        speed,
        now,
    });
    fault::point("run.status");
    if run.status.as_ref() != Some(&status) {
        write::status::<TrainingRun>(context, &key, &status, "write a run's status").await?;
    }
    let over = view.as_ref().is_some_and(|view| view.phase == Phase::Done);
    Ok(Action::requeue(match (soon, begun.is_some() && !over) {
        (true, _) => SOON,
        (false, true) => ASKED,
        (false, false) => SOMETIMES,
    }))
}

/// The run's record and coordinator, made when its islands are planned; or what it waits for.
async fn begin(
    context: &Context,
    run: &TrainingRun,
    request: &RunRequest,
    islands: &[&ComputeIsland],
    now: Timestamp,
) -> Result<(Option<Arc<Begun>>, Option<(&'static str, String)>), Error> {
    let key = &key_of(run);
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let name = names::record(&key.name);
    let uid = run.metadata.uid.clone();
    let known = known(context, run);
    if known.is_none() {
        // Of another run of the same name.
        context.forget_run(key);
    }
    let members = islands.len();
    if let Some(begun) = &known
        && begun.applied.elapsed() < SOMETIMES
    {
        let objects = build::coordinator(run, request, &begun.record, members, &context.args);
        if objects.map_err(damaged("a coordinator"))?.hash() == begun.objects {
            return Ok((known, None));
        }
    }
    let there = configs.get_opt(&name).await.map_err(Error::api("read a run's record"))?;
    let record = match (&known, &there) {
        (_, Some(config)) if !is_own(config, run) => return Ok((None, Some(replacing()))),
        (Some(begun), _) => begun.record.clone(),
        (None, Some(config)) => read(config)?,
        (None, None) => match first_record(context, run, request, islands, now) {
            Ok(record) => record,
            Err(waits) => return Ok((None, Some(waits))),
        },
    };
    if there.is_none() {
        let config = build::record(run, &record).map_err(damaged("a record"))?;
        fault::point("run.record");
        apply(&configs, &config, "apply a run's record").await?;
        let note = format!("H × seconds of a step is {:.1}", record.compute_seconds);
        tell(context, run, "Begun", &note).await;
    }
    let objects = build::coordinator(run, request, &record, members, &context.args);
    let objects = objects.map_err(damaged("a coordinator"))?;
    let hash = objects.hash();
    let address = match Box::pin(coordinator(context, key, run, objects)).await? {
        Ok(address) => address,
        Err(waits) => return Ok((known, Some(waits))),
    };
    let changed = known.as_ref().is_none_or(|begun| begun.coordinator != address);
    let begun = Begun { record, uid, objects: hash, applied: Instant::now(), coordinator: address };
    let begun = Arc::new(begun);
    context.begun().insert(key.clone(), Arc::clone(&begun));
    if changed {
        for island in islands {
            context.again(&crate::island::key_of(island));
        }
    }
    Ok((Some(begun), None))
}

/// What is known of a run that has begun, and not of another of its name.
fn known(context: &Context, run: &TrainingRun) -> Option<Arc<Begun>> {
    let begun = context.begun().get(&key_of(run)).cloned();
    begun.filter(|begun| begun.uid == run.metadata.uid)
}

/// What the islands agree on, when those that can be planned are.
fn first_record(
    context: &Context,
    run: &TrainingRun,
    request: &RunRequest,
    islands: &[&ComputeIsland],
    now: Timestamp,
) -> Result<Record, (&'static str, String)> {
    let key = &key_of(run);
    if islands.is_empty() {
        let why = format!("no ComputeIsland names it: apply one with runRef.name {}", key.name);
        return Err(("NoIslands", why));
    }
    let created = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
    // An operator that just started has looked at none of them yet.
    let created = created.map(|created| created.max(context.started));
    let age = created.and_then(|then| Duration::try_from(now.duration_since(then)).ok());
    let ledger = context.ledger();
    let untried = islands
        .iter()
        .filter(|island| !island.spec.suspend && !ledger.was_tried(&crate::island::key_of(island)));
    let untried = untried.count();
    if untried > 0 && age.is_some_and(|age| age < PATIENCE) {
        return Err(("Planning", format!("{untried} of its islands are not planned yet")));
    }
    let participants: Vec<Participant> = islands
        .iter()
        .filter_map(|island| {
            let promise = ledger.get(&crate::island::key_of(island))?;
            Some(Participant {
                name: island.name_any(),
                step_seconds: promise.plan.step_seconds.parse().ok()?,
                step_tokens: u64::from(request.sequences) * u64::from(request.sequence_length),
                uplink: island.request().ok().and_then(|request| request.uplink),
            })
        })
        .collect();
    if participants.is_empty() {
        let why = "none of its islands has a plan: see their conditions";
        return Err(("NoIslandPlanned", why.into()));
    }
    let beginning = planner::begin(request, participants);
    let beginning = beginning.map_err(|refusals| ("NoRounds", refusals.to_string()))?;
    Ok(Record::new(&beginning))
}

/// Whether an object is of this run, and not of one of the same name that is gone.
fn is_own<K: Resource<DynamicType = ()>>(object: &K, run: &TrainingRun) -> bool {
    let uid = run.metadata.uid.as_deref();
    object.meta().owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid)
}

fn replacing() -> (&'static str, String) {
    ("Replacing", "what is left of an earlier run of this name is being deleted".into())
}

/// Applies the coordinator's objects; its address, or what it waits for.
async fn coordinator(
    context: &Context,
    key: &Key,
    run: &TrainingRun,
    objects: build::Coordinator,
) -> Result<Result<String, (&'static str, String)>, Error> {
    let client = || context.client.clone();
    let configs: Api<ConfigMap> = Api::namespaced(client(), &key.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client(), &key.namespace);
    let deployments: Api<Deployment> = Api::namespaced(client(), &key.namespace);
    let services: Api<Service> = Api::namespaced(client(), &key.namespace);
    // In this order: each needs those before it.
    let build::Coordinator { config, claim, service, deployment } = objects;
    fault::point("run.coordinator");
    // The rules of a run and its volume stay as they were when it began.
    let name = config.name_any();
    match configs.get_opt(&name).await.map_err(Error::api("read a ConfigMap"))? {
        None => drop(apply(&configs, &config, "apply a coordinator's ConfigMap").await?),
        Some(there) if !is_own(&there, run) => return Ok(Err(replacing())),
        Some(_) => {}
    }
    match claims.get_opt(&name).await.map_err(Error::api("read a PersistentVolumeClaim"))? {
        None => {
            drop(apply(&claims, &claim, "apply a coordinator's PersistentVolumeClaim").await?);
        }
        Some(there) if !is_own(&there, run) => return Ok(Err(replacing())),
        Some(_) => {}
    }
    let service = apply(&services, &service, "apply a coordinator's Service").await?;
    fault::point("run.deployment");
    apply(&deployments, &deployment, "apply a coordinator's Deployment").await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).filter(|ip| !ip.is_empty());
    let Some(ip) = address else {
        return Ok(Err(("NoAddress", "its Service has no address yet".into())));
    };
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
    Ok(Ok(format!("http://{host}:{}", names::COORDINATOR_PORT)))
}

/// What the coordinator says now; where it is silent, what it said last, and why.
async fn ask(
    context: &Context,
    key: &Key,
    begun: &Begun,
) -> (Option<Arc<RunView>>, Option<String>) {
    match ask::view(&begun.coordinator, &key.name).await {
        Ok(view) => {
            context.speeds().hear(key, &view, Timestamp::now());
            let view = Arc::new(view);
            context.views().insert(key.clone(), Arc::clone(&view));
            (Some(view), None)
        }
        Err(error) => {
            let why = match silent::why(context, key).await {
                Some(why) => why,
                None => format!("see kubectl logs deployment/{}", names::coordinator(&key.name)),
            };
            let silence = format!("{}: {why}", error.sentence());
            (context.views().get(key).cloned(), Some(silence))
        }
    }
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
    use clap::Parser as _;

    use super::*;

    #[test]
    fn folders_of_nodes_are_mounted_only_where_that_is_allowed() {
        let run = |data: serde_json::Value, checkpoint: serde_json::Value| {
            let spec = serde_json::json!({
                "model": {"preset": "llama-demo"}, "tokens": 1000,
                "data": {"path": "/data", "volume": data}, "checkpoint": {"volume": checkpoint},
            });
            TrainingRun::new("mini", serde_json::from_value(spec).unwrap())
        };
        let claim = || serde_json::json!({"claimName": "corpus"});
        let folder = || serde_json::json!({"hostPath": "/corpus"});
        let careful = Args::parse_from(["operator"]);
        let trusting = Args::parse_from(["operator", "--allow-host-path"]);
        assert!(request(&run(claim(), claim()), &careful).is_ok());
        for (run, field) in [
            (run(folder(), claim()), "spec.data.volume.hostPath"),
            (run(claim(), folder()), "spec.checkpoint.volume.hostPath"),
        ] {
            let refused = request(&run, &careful).unwrap_err();
            assert!(refused.starts_with(field), "{refused}");
            assert!(request(&run, &trusting).is_ok());
        }
    }
}
