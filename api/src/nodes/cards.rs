//! The cards of a node, from its labels, its ResourceSlices and its allocatable resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeStatus;
use plan::cluster::NodeCard;
use plan::gpu;
use plan::words::gib;

use super::slices::Devices;
use super::{CARD_BYTES_MAX, CARD_BYTES_MIN};
use crate::occupancy::{GPU as RESOURCE, PRODUCT};

/// Cards of a node; GPU servers have at most 16, of MIG seven times as many.
const CARDS_MAX: u32 = 64;
/// A label this many times more or less than the catalogue has is of another unit.
const OFF: u64 = 8;
/// More bytes than a card has whose product nobody knows.
const LABELLED_MAX: u64 = 4 << 40;
/// Pods that take turns on a card.
const TURNS_MAX: u64 = 64;

const COUNT: &str = "nvidia.com/gpu.count";
/// MiB of one card.
const MEMORY: &str = "nvidia.com/gpu.memory";
/// Pods that take turns on one card.
const REPLICAS: &str = "nvidia.com/gpu.replicas";

const CUT: &str = "MIG cuts its cards, and no label nvidia.com/gpu.product says into what: run GPU \
                   feature discovery there, with mig.strategy single";
const SHARED: &str = "its cards are shared as another resource than nvidia.com/gpu: set \
                      renameByDefault of the device plugin's sharing to false, or end sharing";

/// Cards that can be used.
pub(super) struct Found {
    /// At least one.
    pub cards: Vec<NodeCard>,
    /// Notes on what is not as it should be.
    pub notes: Vec<String>,
}

/// The cards of a node, or why there are none that can be used.
pub(super) fn cards(
    labels: &BTreeMap<String, String>,
    status: Option<&NodeStatus>,
    devices: Option<&Devices>,
) -> Result<Found, String> {
    let offered = offered(status)?;
    let labelled = labels.get(PRODUCT).map(|label| checked(label)).transpose()?;
    let turns = turns(labels, labelled)?;
    // The driver's slices do not say what the device plugin makes of a card.
    let part = labelled.is_some_and(gpu::is_part);
    let devices = devices.filter(|devices| !devices.is_empty() && !part);
    if let Some(devices) = devices {
        check(devices, offered)?;
    }
    let product = product(labelled, offered, devices)?;
    let there = match devices {
        Some(devices) => Some(u64::from(devices.whole)),
        None => number(labels, COUNT)?.map(|count| count.saturating_mul(turns)),
    };
    let mut notes: Vec<String> = devices.and_then(|it| it.unclear.clone()).into_iter().collect();
    let count = match (there, offered) {
        (Some(there), Some(offered)) if offered < there => {
            if offered > 0 {
                notes.push(format!("only {offered} of {there} cards are allocatable"));
            }
            offered
        }
        (Some(there), _) => there,
        (None, Some(offered)) => offered,
        (None, None) => return Err(format!("no label {COUNT}: run GPU feature discovery there")),
    };
    let whole = u32::try_from(count.div_ceil(turns)).ok().filter(|count| *count <= CARDS_MAX);
    whole.ok_or_else(|| format!("it says that it has more than {CARDS_MAX} cards"))?;
    if count == 0 {
        return Err(format!("no {RESOURCE} is allocatable: see to NVIDIA's device plugin there"));
    }
    let memory = memory(labels, product, devices, &mut notes)? / turns;
    if part {
        notes.push(format!("it offers parts of cards, for islands whose devices name {product}"));
    }
    let card = NodeCard { product: product.to_owned(), memory, measured: None };
    Ok(Found { cards: vec![card; count as usize], notes })
}

/// The remedy for a card whose memory nobody says, a clause.
pub(super) fn without_memory(card: &NodeCard) -> Option<String> {
    let name = &card.product;
    (card.memory == 0)
        .then(|| format!("no label {MEMORY}: set memory of {name} in the island's devices"))
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

/// Why cards that the DRA driver names cannot be asked for as `nvidia.com/gpu`.
fn check(devices: &Devices, offered: Option<u64>) -> Result<(), String> {
    if devices.whole == 0 {
        return Err(CUT.into());
    }
    if offered == Some(0) {
        return Err(format!(
            "its cards are offered by DRA only: NVIDIA's device plugin has to offer {RESOURCE}"
        ));
    }
    if devices.products.len() > 1 {
        let products: Vec<&str> = devices.products.iter().map(String::as_str).collect();
        return Err(format!(
            "its cards are {}, which {RESOURCE} cannot tell apart: have cards of one product there",
            products.join(" and ")
        ));
    }
    Ok(())
}

/// Pods that take turns on each card.
fn turns(labels: &BTreeMap<String, String>, product: Option<&str>) -> Result<u64, String> {
    let replicas = number(labels, REPLICAS)?.unwrap_or(1);
    match product.is_some_and(gpu::is_shared) {
        true if !(2..=TURNS_MAX).contains(&replicas) => Err(format!(
            "its cards are shared, and label {REPLICAS} does not say by 2 to {TURNS_MAX} pods"
        )),
        true => Ok(replicas),
        // The device plugin can also offer shared cards as another resource, without a suffix.
        false if replicas > 1 => Err(SHARED.into()),
        false => Ok(1),
    }
}

/// The product of the cards: the slices' word before the label's.
fn product<'a>(
    labelled: Option<&'a str>,
    offered: Option<u64>,
    devices: Option<&'a Devices>,
) -> Result<&'a str, String> {
    let named = devices.and_then(|devices| devices.products.first());
    named.map(String::as_str).or(labelled).ok_or_else(|| match offered {
        Some(1..) => format!("no label {PRODUCT}: run GPU feature discovery there"),
        _ => format!("no label {PRODUCT}, so without NVIDIA GPUs"),
    })
}

fn checked(label: &str) -> Result<&str, String> {
    gpu::parse(label).map(|_| label).map_err(|error| error.to_string())
}

/// Bytes of a card, all turns together: the slices', the label's or the catalogue's; 0 where none
/// says it. A label of another unit than MiB is passed over where the catalogue knows better.
fn memory(
    labels: &BTreeMap<String, String>,
    product: &str,
    devices: Option<&Devices>,
    notes: &mut Vec<String>,
) -> Result<u64, String> {
    if let Some(bytes) = devices.and_then(|devices| devices.memory) {
        return Ok(bytes);
    }
    let known = gpu::part(product).map(|(_, share)| share.memory).filter(|bytes| *bytes > 0);
    let Some(mib) = number(labels, MEMORY)?.filter(|mib| *mib > 0) else {
        return Ok(known.unwrap_or(0));
    };
    let none = || format!("label {MEMORY} is {mib} MiB, which no card has");
    if mib > CARD_BYTES_MAX >> 20 {
        return Err(none());
    }
    let bytes = mib << 20;
    match known {
        Some(known) if bytes < known / OFF || bytes / OFF > known => {
            let there = gib(known);
            notes.push(format!("{}: {product} has {there}, which is taken", none()));
            Ok(known)
        }
        None if !(CARD_BYTES_MIN..=LABELLED_MAX).contains(&bytes) => Err(none()),
        _ => Ok(bytes),
    }
}

fn number(labels: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>, String> {
    let parse = |text: &String| {
        text.parse().map_err(|_| format!("label {key} is {text:?}: a whole number was expected"))
    };
    labels.get(key).map(parse).transpose()
}
