//! The controller of `TrainingRun`s: begins a run when its islands are planned, keeps its
//! coordinator, and tells how it fares.

mod apply;
mod ask;
mod begin;
mod build;
mod reason;
mod silent;
mod status;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::island::ComputeIsland;
use api::names::{self, Key, OPERATOR};
use api::run::TrainingRun;
use api::status::{Condition, ConditionStatus, ConditionType};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use plan::request::RunRequest;
use rounds::types::{Phase, RunView};

pub(crate) use reason::InvalidRun;

use self::begin::{Look, Standing};
use self::reason::Waits;
use self::status::Facts;
use crate::args::Args;
use crate::conditions::AsReason as _;
use crate::context::{Begun, Context};
use crate::error::Error;
use crate::fault;
use crate::write::{self, warn};

/// What is being deleted, or given an address, is looked at again after so long: nothing tells.
const SOON: Duration = Duration::from_secs(2);
/// How often a coordinator is asked.
const ASKED: Duration = Duration::from_secs(10);
/// However quiet it is, a run and what was made for it are looked at so often.
const SOMETIMES: Duration = Duration::from_secs(60);

/// The run as the planner takes it.
///
/// # Errors
/// What is wrong with its spec.
pub(crate) fn request(run: &TrainingRun, args: &Args) -> Result<RunRequest, InvalidRun> {
    // The folder of a model is on a volume, which the operator does not mount.
    let unread = |folder: &Path| {
        Err(format!("{} is not read in a cluster: give preset or config", folder.display()))
    };
    if run.spec.data.volume.is_none() {
        return Err(InvalidRun::NoDataVolume);
    }
    let volumes = [("data", &run.spec.data.volume), ("checkpoint", &run.spec.checkpoint.volume)];
    for (field, volume) in volumes {
        if volume.as_ref().is_some_and(|volume| volume.host_path.is_some()) && !args.allow_host_path
        {
            return Err(InvalidRun::HostPath(field));
        }
    }
    run.request(&unread).map_err(InvalidRun::Fields)
}

/// Whether all tokens were trained on.
pub(crate) fn is_complete(run: &TrainingRun) -> bool {
    let status = run.status.as_ref();
    let said =
        status.and_then(|status| Condition::find(&status.conditions, ConditionType::Complete));
    said.is_some_and(|complete| complete.status == ConditionStatus::True)
}

/// Makes the cluster look as a run says.
pub(crate) async fn reconcile(run: &TrainingRun, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let key = Key::of(run);
    if run.metadata.deletion_timestamp.is_some() {
        context.forget_run(&key);
        return Ok(Action::await_change());
    }
    if run.spec.managed_by.as_deref().is_some_and(|manager| manager != OPERATOR) {
        return Ok(Action::await_change());
    }
    if !context.is_primed() {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let islands = context.islands_of(&key);
    let islands: Vec<&ComputeIsland> =
        islands.iter().filter_map(|island| island.0.as_ref().ok()).collect();
    let Standing { begun, waits } = Box::pin(stand(context, run, &islands, now)).await?;
    let Heard { view, silence } = match &begun {
        Some(begun) => ask(context, &key, begun).await,
        None => Heard::default(),
    };
    let speed = context.speeds().of_run(&key);
    let soon = waits.as_ref().is_some_and(Waits::is_untold);
    let status = status::status(Facts {
        run,
        islands: &islands,
        begun: begun.as_deref(),
        waits: waits.as_ref(),
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

/// Begins a run or has it go on; tells what the API server refused and what makes no sense.
async fn stand(
    context: &Context,
    run: &TrainingRun,
    islands: &[&ComputeIsland],
    now: Timestamp,
) -> Result<Standing, Error> {
    let standing = match &request(run, &context.args) {
        Err(problem) => Standing::waiting(Waits::Invalid(problem.clone())),
        Ok(request) => {
            let look = Look { context, run, request, islands, now };
            match begin::begin(&look).await {
                Err(error) if error.is_refusal() => {
                    let waits = Some(Waits::ObjectsRefused(error.sentence()));
                    Standing { begun: begin::known(context, run), waits }
                }
                begun => return begun,
            }
        }
    };
    if let Some(waits) = &standing.waits {
        warn(context, run, waits.as_str(), &waits.to_string()).await;
    }
    Ok(standing)
}

/// What was heard of a coordinator.
#[derive(Default)]
struct Heard {
    /// What it says, or said last.
    view: Option<Arc<RunView>>,
    /// Why it says nothing now.
    silence: Option<String>,
}

/// Asks a coordinator how its run fares.
async fn ask(context: &Context, key: &Key, begun: &Begun) -> Heard {
    match ask::view(&begun.coordinator, &key.name).await {
        Ok(view) => {
            context.speeds().hear(key, &view, Timestamp::now());
            let view = Arc::new(view);
            context.views().insert(key.clone(), Arc::clone(&view));
            Heard { view: Some(view), silence: None }
        }
        Err(error) => {
            let why = match silent::why(context, key).await {
                Some(why) => why,
                None => format!("see kubectl logs deployment/{}", names::coordinator(&key.name)),
            };
            let silence = Some(format!("{}: {why}", error.sentence()));
            Heard { view: context.views().get(key).cloned(), silence }
        }
    }
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
            assert!(refused.to_string().starts_with(field), "{refused}");
            assert!(request(&run, &trusting).is_ok());
        }
    }
}
