//! The controller of `IslandPool`s: keeps an island for every group of nodes.

mod kept;
mod reason;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::island::ComputeIsland;
use api::names::{self, Key, MANAGED_BY, MANAGER, POOL};
use api::pool::{GroupBy, IslandPool, IslandPoolStatus};
use api::proposal;
use api::status::ConditionType;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::controller::Action;
use plan::cluster::Node;
use plan::grouping::{self, Grouping, Proposal, Wishes};
use plan::request::RunRequest;

use self::reason::{Reason, Refused};
use crate::conditions::{AsReason as _, Said, conditions, shortened};
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::island::owners;
use crate::write::{self, apply, tell};

/// However quiet it is, a pool is looked at so often: nodes come and go.
const SOMETIMES: Duration = Duration::from_secs(30);
/// Pools whose groups are remembered: beyond that all are forgotten.
const REMEMBERED_MAX: usize = 256;
/// Sentences that status has room for, and bytes of each.
const LEFT_OUT_MAX: usize = 32;
const LEFT_OUT_BYTES_MAX: usize = 1024;

/// Makes a pool's islands be those of its nodes.
pub(crate) async fn reconcile(pool: &IslandPool, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let key = Key::of(pool);
    if pool.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if !context.is_primed() {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let run = context.run(&Key::new(key.namespace.as_str(), pool.spec.run_ref.name.as_str()));
    let run = run.as_ref().and_then(|run| run.0.as_ref().ok());
    let request = run.map(|run| crate::run::request(run, &context.args));
    let status = match (pool.wishes(), request) {
        (Err(problems), _) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            refused(pool, &Refused::InvalidSpec(problems.join("; ")), now)
        }
        (Ok(_), None) => refused(pool, &Refused::RunNotFound(pool.spec.run_ref.name.clone()), now),
        (Ok(_), Some(Err(problem))) => refused(pool, &Refused::InvalidRun(problem), now),
        (Ok(wishes), Some(Ok(run))) => keep(context, &key, pool, (wishes, run), now).await?,
    };
    if pool.status.as_ref() != Some(&status) {
        write::status::<IslandPool>(context, &key, &status, "write a pool's status").await?;
    }
    Ok(Action::requeue(SOMETIMES))
}

/// Nothing is touched: what it says keeps it from knowing its islands.
fn refused(pool: &IslandPool, why: &Refused, now: Timestamp) -> IslandPoolStatus {
    let before = pool.status.clone().unwrap_or_default();
    let generation = pool.metadata.generation;
    let said = vec![Said::no(ConditionType::Ready, why)];
    let conditions = conditions(&before.conditions, said, generation, now);
    IslandPoolStatus { observed_generation: generation, conditions, ..before }
}

async fn keep(
    context: &Context,
    key: &Key,
    pool: &IslandPool,
    (wishes, run): (Wishes, RunRequest),
    now: Timestamp,
) -> Result<IslandPoolStatus, Error> {
    let (nodes, hostnames) = nodes(context, pool);
    let count = nodes.len();
    let asked = Asked { nodes, wishes: wishes.clone(), by: pool.spec.group_by, run };
    let grouping = remembered(context, key, asked).await?;
    let hostnames: BTreeMap<&str, &str> =
        hostnames.iter().map(|(node, host)| (node.as_str(), host.as_str())).collect();
    let mut left_out: Vec<String> =
        grouping.left_out.iter().map(|it| it.reason.to_string()).collect();
    let mut wanted = Vec::new();
    for proposal in &grouping.proposals {
        let island = proposal::of_template(
            proposal,
            &pool.spec.run_ref.name,
            &wishes,
            &hostnames,
            &pool.spec.template,
        );
        match island {
            Ok(island) => wanted.push(owned(pool, island, proposal)),
            Err(error) => left_out.push(error.to_string()),
        }
    }
    let cards = grouping.proposals.iter().flat_map(|it| &it.products).map(|(_, count)| count);
    let (islands, cards) = (wanted.len() as u32, cards.sum());
    let there = of_pool(context, key).await?;
    kept::names(&mut wanted, &there, pool.metadata.uid.as_deref());
    make(context, key, pool, wanted, &there).await?;
    let generation = pool.metadata.generation;
    let before = pool.status.clone().unwrap_or_default();
    let said = Reason::of(islands, left_out.first()).said();
    left_out.truncate(LEFT_OUT_MAX);
    Ok(IslandPoolStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, vec![said], generation, now),
        nodes: count as u32,
        islands,
        cards,
        left_out: left_out.into_iter().map(|it| shortened(it, LEFT_OUT_BYTES_MAX)).collect(),
    })
}

/// The nodes that a pool selects with all their cards, and their labels `kubernetes.io/hostname`.
fn nodes(context: &Context, pool: &IslandPool) -> (Vec<Node>, BTreeMap<String, String>) {
    let inventory = context.inventory();
    let selected = inventory.nodes().filter(|(_, facts)| {
        let selector = pool.spec.node_selector.as_ref();
        selector.is_none_or(|selector| selector.selects(&facts.labels))
            && facts.admits(&pool.spec.template.tolerations)
    });
    let (mut nodes, mut hostnames) = (Vec::new(), BTreeMap::new());
    for (name, facts) in selected {
        if let Some(hostname) = facts.labels.get(api::nodes::HOSTNAME) {
            hostnames.insert(name.to_owned(), hostname.clone());
        }
        // One that is cordoned or away for a while stays where it is.
        nodes.push(facts.nominal.clone());
    }
    (nodes, hostnames)
}

/// What a pool's groups are made from.
#[derive(PartialEq)]
struct Asked {
    nodes: Vec<Node>,
    wishes: Wishes,
    by: GroupBy,
    run: RunRequest,
}

/// The groups of each pool, and what they were made from: planning them takes seconds.
#[derive(Default)]
pub(crate) struct Groupings(BTreeMap<Key, Arc<(Asked, Grouping)>>);

/// The groups that were made before where nothing has changed since, or else new ones.
async fn remembered(context: &Context, key: &Key, asked: Asked) -> Result<Grouping, Error> {
    let known = context.groupings().0.get(key).cloned();
    if let Some(known) = known.filter(|known| known.0 == asked) {
        return Ok(known.1.clone());
    }
    // How fast islands would be is computed: not on a thread that others wait for.
    let made = tokio::task::spawn_blocking(move || {
        let grouping = group(&asked.nodes, &asked.wishes, asked.by, &asked.run);
        Arc::new((asked, grouping))
    });
    let made = made.await.map_err(|error| Error::Damaged {
        object: format!("IslandPool {key}"),
        problem: error.to_string(),
    })?;
    let mut groupings = context.groupings();
    if groupings.0.len() >= REMEMBERED_MAX {
        groupings.0.clear();
    }
    groupings.0.insert(key.clone(), Arc::clone(&made));
    Ok(made.1.clone())
}

fn group(nodes: &[Node], wishes: &Wishes, by: GroupBy, run: &RunRequest) -> Grouping {
    let mut families: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
    for node in nodes {
        let product = node.cards.first().map_or("", |card| card.product.as_str());
        let family = if by == GroupBy::Product { product } else { "" };
        families.entry(family).or_default().push(node.clone());
    }
    let mut all = Grouping::default();
    for family in families.values() {
        let grouping = grouping::for_run(run, family, wishes);
        all.proposals.extend(grouping.proposals);
        all.left_out.extend(grouping.left_out);
    }
    distinct(&mut all.proposals);
    all
}

/// Groups of unlike cards may have been given the same name.
fn distinct(proposals: &mut [Proposal]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for proposal in proposals {
        let times = seen.entry(proposal.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            proposal.name = format!("{}-{times}", proposal.name);
        }
    }
}

fn owned(pool: &IslandPool, mut island: ComputeIsland, proposal: &Proposal) -> ComputeIsland {
    let name = format!("{}-{}", pool.name_any(), proposal.name);
    island.metadata.name = Some(names::label(&name));
    island.metadata.namespace.clone_from(&pool.metadata.namespace);
    island.metadata.owner_references = Some(owners(pool));
    island.metadata.labels = Some(
        [(MANAGED_BY, MANAGER.to_owned()), (POOL, names::label(&pool.name_any()))]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
    );
    island
}

/// The islands that a pool made.
async fn of_pool(context: &Context, key: &Key) -> Result<Vec<ComputeIsland>, Error> {
    let islands: Api<ComputeIsland> = Api::namespaced(context.client.clone(), &key.namespace);
    let label = format!("{POOL}={}", names::label(&key.name));
    let there = islands.list(&ListParams::default().labels(&label)).await;
    Ok(there.map_err(Error::api("list a pool's islands"))?.items)
}

/// Applies the islands, and deletes those that the pool made and does not want any more.
async fn make(
    context: &Context,
    key: &Key,
    pool: &IslandPool,
    wanted: Vec<ComputeIsland>,
    there: &[ComputeIsland],
) -> Result<(), Error> {
    let islands: Api<ComputeIsland> = Api::namespaced(context.client.clone(), &key.namespace);
    let names: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    for island in &wanted {
        let same =
            there.iter().any(|old| old.name_any() == island.name_any() && old.spec == island.spec);
        if !same {
            fault::point("pool.island");
            apply(&islands, island, "apply a pool's island").await?;
            let grouped = Reason::Grouped.as_str();
            tell(context, pool, grouped, &format!("island {}", island.name_any())).await;
        }
    }
    let uid = pool.metadata.uid.as_deref();
    for old in there.iter().filter(|old| !names.contains(&old.name_any())) {
        let own = old.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid);
        if own && old.metadata.deletion_timestamp.is_none() {
            let name = old.name_any();
            let operation = "delete a pool's island";
            write::delete(&islands, &name, &DeleteParams::default(), operation).await?;
            let note = format!("island {} is not wanted any more", old.name_any());
            tell(context, pool, "Regrouped", &note).await;
        }
    }
    Ok(())
}
