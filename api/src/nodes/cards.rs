//! The cards of a node, from its labels, its ResourceSlices and its allocatable resources.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::NodeStatus;
use plan::cluster::NodeCard;
use plan::gpu::{self, ProductError};
use plan::words::gib;

use super::slices::Devices;
use super::{CARD_BYTES_MAX, CARD_BYTES_MIN};
use crate::names::{GPU as RESOURCE, PRODUCT};

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

/// Why a node has no cards that a rank could ask for; its text is a clause that says what to change
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCards {
    /// Nothing says that it has any.
    NoGpus,
    /// Nothing says what its cards are.
    Unnamed,
    /// Nothing says how many there are.
    Uncounted,
    /// The device plugin offers none of them.
    NoneOffered,
    /// NVIDIA's DRA driver offers them, and the device plugin does not.
    OnlyByDra,
    /// What the device plugin offers is no number: this.
    Offered(String),
    /// A label is no number.
    Label {
        /// Its key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The label of the product is that of no card.
    Product(ProductError),
    /// They are of several products, which pods cannot choose between.
    Unlike(Vec<String>),
    /// MIG cuts them, and nothing says into what.
    Cut,
    /// Several pods share a card, and nothing says how many.
    Turns,
    /// They are offered shared, as another resource.
    OtherResource,
    /// There are more than a machine has.
    TooMany,
    /// No card has as much memory, or as little: MiB.
    Memory(u64),
}

impl fmt::Display for NoCards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let discover = "run GPU feature discovery there";
        match self {
            Self::NoGpus => write!(f, "no label {PRODUCT}, so without NVIDIA GPUs"),
            Self::Unnamed => write!(f, "no label {PRODUCT}: {discover}"),
            Self::Uncounted => write!(f, "no label {COUNT}: {discover}"),
            Self::NoneOffered => {
                write!(f, "no {RESOURCE} is allocatable: see to NVIDIA's device plugin there")
            }
            Self::OnlyByDra => write!(
                f,
                "its cards are offered by DRA only: NVIDIA's device plugin has to offer {RESOURCE}"
            ),
            Self::Offered(found) => {
                write!(f, "allocatable {RESOURCE} is {found:?}: a whole number was expected")
            }
            Self::Label { key, value } => {
                write!(f, "label {key} is {value:?}: a whole number was expected")
            }
            Self::Product(error) => error.fmt(f),
            Self::Unlike(products) => write!(
                f,
                "its cards are {}, which {RESOURCE} cannot tell apart: have cards of one product \
                 there",
                products.join(" and ")
            ),
            Self::Cut => write!(
                f,
                "MIG cuts its cards, and no label {PRODUCT} says into what: {discover}, with \
                 mig.strategy single"
            ),
            Self::Turns => write!(
                f,
                "its cards are shared, and label {REPLICAS} does not say by 2 to {TURNS_MAX} pods"
            ),
            Self::OtherResource => write!(
                f,
                "its cards are shared as another resource than {RESOURCE}: set renameByDefault of \
                 the device plugin's sharing to false, or end sharing"
            ),
            Self::TooMany => write!(f, "it says that it has more than {CARDS_MAX} cards"),
            Self::Memory(mib) => write!(f, "label {MEMORY} is {mib} MiB, which no card has"),
        }
    }
}

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
) -> Result<Found, NoCards> {
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
        (None, None) => return Err(NoCards::Uncounted),
    };
    let whole = u32::try_from(count.div_ceil(turns)).ok().filter(|count| *count <= CARDS_MAX);
    whole.ok_or(NoCards::TooMany)?;
    if count == 0 {
        return Err(NoCards::NoneOffered);
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
fn offered(status: Option<&NodeStatus>) -> Result<Option<u64>, NoCards> {
    let Some(all) = status.and_then(|status| status.allocatable.as_ref()) else { return Ok(None) };
    let Some(offered) = all.get(RESOURCE) else { return Ok(Some(0)) };
    offered.0.parse().map(Some).map_err(|_| NoCards::Offered(offered.0.clone()))
}

/// Why cards that the DRA driver names cannot be asked for as `nvidia.com/gpu`.
fn check(devices: &Devices, offered: Option<u64>) -> Result<(), NoCards> {
    if devices.whole == 0 {
        return Err(NoCards::Cut);
    }
    if offered == Some(0) {
        return Err(NoCards::OnlyByDra);
    }
    if devices.products.len() > 1 {
        return Err(NoCards::Unlike(devices.products.iter().cloned().collect()));
    }
    Ok(())
}

/// Pods that take turns on each card.
fn turns(labels: &BTreeMap<String, String>, product: Option<&str>) -> Result<u64, NoCards> {
    let replicas = number(labels, REPLICAS)?.unwrap_or(1);
    match product.is_some_and(gpu::is_shared) {
        true if !(2..=TURNS_MAX).contains(&replicas) => Err(NoCards::Turns),
        true => Ok(replicas),
        // The device plugin can also offer shared cards as another resource, without a suffix.
        false if replicas > 1 => Err(NoCards::OtherResource),
        false => Ok(1),
    }
}

/// The product of the cards: the slices' word before the label's.
fn product<'a>(
    labelled: Option<&'a str>,
    offered: Option<u64>,
    devices: Option<&'a Devices>,
) -> Result<&'a str, NoCards> {
    let named = devices.and_then(|devices| devices.products.first());
    named.map(String::as_str).or(labelled).ok_or(match offered {
        Some(1..) => NoCards::Unnamed,
        _ => NoCards::NoGpus,
    })
}

fn checked(label: &str) -> Result<&str, NoCards> {
    gpu::parse(label).map(|_| label).map_err(NoCards::Product)
}

/// Bytes of a card, all turns together: the slices', the label's or the catalogue's; 0 where none
/// says it. A label of another unit than MiB is passed over where the catalogue knows better.
fn memory(
    labels: &BTreeMap<String, String>,
    product: &str,
    devices: Option<&Devices>,
    notes: &mut Vec<String>,
) -> Result<u64, NoCards> {
    if let Some(bytes) = devices.and_then(|devices| devices.memory) {
        return Ok(bytes);
    }
    let known = gpu::part(product).map(|(_, share)| share.memory).filter(|bytes| *bytes > 0);
    let Some(mib) = number(labels, MEMORY)?.filter(|mib| *mib > 0) else {
        return Ok(known.unwrap_or(0));
    };
    let none = NoCards::Memory(mib);
    if mib > CARD_BYTES_MAX >> 20 {
        return Err(none);
    }
    let bytes = mib << 20;
    match known {
        Some(known) if bytes < known / OFF || bytes / OFF > known => {
            let there = gib(known);
            notes.push(format!("{none}: {product} has {there}, which is taken"));
            Ok(known)
        }
        None if !(CARD_BYTES_MIN..=LABELLED_MAX).contains(&bytes) => Err(none),
        _ => Ok(bytes),
    }
}

fn number(labels: &BTreeMap<String, String>, key: &'static str) -> Result<Option<u64>, NoCards> {
    let Some(value) = labels.get(key) else { return Ok(None) };
    let number = value.parse().map(Some);
    number.map_err(|_| NoCards::Label { key, value: value.clone() })
}
