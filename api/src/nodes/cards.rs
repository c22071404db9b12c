//! The cards of a node, from its labels and what of it is allocatable.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeStatus;
use plan::cluster::NodeCard;
use plan::gpu::{self, Product};

/// Cards of a node; GPU servers have at most 16.
const CARDS_MAX: u32 = 64;

/// The resource that the device plugin offers whole cards as.
const RESOURCE: &str = "nvidia.com/gpu";
const PRODUCT: &str = "nvidia.com/gpu.product";
const COUNT: &str = "nvidia.com/gpu.count";
/// MiB of one card.
const MEMORY: &str = "nvidia.com/gpu.memory";
/// Pods that take turns on one card.
const REPLICAS: &str = "nvidia.com/gpu.replicas";

/// Cards that can be used.
pub(super) struct Found {
    /// At least one.
    pub cards: Vec<NodeCard>,
    /// What is not as it should be.
    pub notes: Vec<String>,
}

/// The cards of a node, or why there are none that can be used.
pub(super) fn cards(
    labels: &BTreeMap<String, String>,
    status: Option<&NodeStatus>,
) -> Result<Found, String> {
    let offered = offered(status)?;
    let product = product(labels, offered)?;
    let labelled = number(labels, COUNT)?;
    let mut notes = Vec::new();
    let count = match (labelled, offered) {
        (Some(labelled), Some(offered)) if offered < labelled => {
            if offered > 0 {
                notes.push(format!("only {offered} of {labelled} cards are allocatable"));
            }
            offered
        }
        (Some(labelled), _) => labelled,
        (None, Some(offered)) => offered,
        (None, None) => return Err(format!("no label {COUNT}: run GPU feature discovery there")),
    };
    let count = u32::try_from(count).ok().filter(|count| *count <= CARDS_MAX);
    let count = count.ok_or_else(|| format!("it says that it has more than {CARDS_MAX} cards"))?;
    if count == 0 {
        return Err(format!("no {RESOURCE} is allocatable: see to NVIDIA's device plugin there"));
    }
    let memory = memory(labels, &product)?;
    if memory == 0 {
        let name = &product.name;
        notes.push(format!("no label {MEMORY}: set memory of {name} in the island's devices"));
    }
    let card = NodeCard { product: product.name, memory, measured: None };
    Ok(Found { cards: vec![card; count as usize], notes })
}

/// Cards that pods may ask for; absent where nobody has said what is allocatable at all.
fn offered(status: Option<&NodeStatus>) -> Result<Option<u64>, String> {
    let Some(all) = status.and_then(|status| status.allocatable.as_ref()) else { return Ok(None) };
    let Some(offered) = all.get(RESOURCE) else { return Ok(Some(0)) };
    let count = offered.0.parse().map_err(|_| {
        format!("allocatable {RESOURCE} is {:?}: a whole number was expected", offered.0)
    })?;
    Ok(Some(count))
}

/// The product that is labelled, where its cards are whole and not shared.
fn product(labels: &BTreeMap<String, String>, offered: Option<u64>) -> Result<Product, String> {
    let Some(label) = labels.get(PRODUCT) else {
        return Err(match offered {
            Some(1..) => format!("no label {PRODUCT}: run GPU feature discovery there"),
            _ => format!("no label {PRODUCT}, so without NVIDIA GPUs"),
        });
    };
    let product = gpu::parse(label).map_err(|error| error.to_string())?;
    if product.mig.is_some() {
        return Err("slices of MIG are not planned with yet: turn MIG off to use the cards".into());
    }
    // The device plugin can also offer shared cards as another resource, without a suffix.
    if product.shared || number(labels, REPLICAS)?.is_some_and(|replicas| replicas > 1) {
        return Err("shared cards are not planned with yet: end time slicing or MPS to use them \
                    whole"
            .into());
    }
    Ok(product)
}

/// Bytes of a card: the label's, or the catalogue's; 0 where neither says it.
fn memory(labels: &BTreeMap<String, String>, product: &Product) -> Result<u64, String> {
    /// More than any card has, so that sums of cards do not overflow.
    const MIB_MAX: u64 = 1 << 30;
    match number(labels, MEMORY)? {
        Some(mib) if mib > MIB_MAX => {
            Err(format!("label {MEMORY} is {mib} MiB, which no card has"))
        }
        Some(mib @ 1..) => Ok(mib << 20),
        _ => Ok(product.card().map_or(0, gpu::Card::memory)),
    }
}

fn number(labels: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>, String> {
    let parse = |text: &String| {
        text.parse().map_err(|_| format!("label {key} is {text:?}: a whole number was expected"))
    };
    labels.get(key).map(parse).transpose()
}
