//! Product labels of a cluster's nodes, which name slices and shared cards too.

use super::{CATALOGUE, Card};

/// Texts that stand in the label of a part of a card, and in no other.
const PARTS: [&str; 2] = ["-MIG-", "-SHARED"];

/// As long as Kubernetes allows the value of a label to be.
const LABEL_MAX: usize = 63;

/// Compute slices that every card of the catalogue with MIG has.
const SLICES: u32 = 7;

/// More than any card has, so that sums of cards do not overflow.
const MEMORY_GB_MAX: u32 = 1_000;

/// A product, as a label `nvidia.com/gpu.product` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The card's name, without suffixes.
    pub name: String,
    /// The slice of the card, where MIG cuts it.
    pub mig: Option<Mig>,
    /// Whether several pods take turns on it (time slicing or MPS); `nvidia.com/gpu.replicas` says
    /// how many.
    pub shared: bool,
}

/// A MIG profile, such as `3g.20gb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mig {
    /// Compute slices, 1 to 7.
    pub compute_slices: u32,
    /// Memory by the profile's name, GB.
    pub memory_gb: u32,
}

/// The share that a product has of its card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Bytes.
    pub memory: u64,
    /// Share of the card's TFLOP/s, above 0 and up to 1.
    pub speed: f64,
}

/// A label that names no product.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// Nothing, or more than a label holds.
    #[error("a GPU product has 1 to {LABEL_MAX} bytes, this has {0}: give nvidia.com/gpu.product")]
    Length(usize),
    /// A character that no product has.
    #[error("a GPU product has no {0:?}: give nvidia.com/gpu.product, with hyphens for spaces")]
    Character(char),
    /// Suffixes without a name, or suffixes that GPU feature discovery does not write so.
    #[error("GPU product {0} is not a name with at most one -MIG-… and one -SHARED after it")]
    Suffixes(String),
    /// The text after `-MIG-` is no slice.
    #[error("GPU product has MIG profile {0:?}; one such as 1g.5gb, of 1 to {SLICES} slices, fits")]
    Profile(String),
    /// The label of a node whose slices cannot be told apart.
    #[error(
        "GPU product is MIG-INVALID: cut all cards of the node into equal slices, or set \
         mig.strategy to mixed"
    )]
    Uneven,
}

/// Reads a product label: `NVIDIA-A100-SXM4-40GB`, `…-MIG-1g.5gb`, `…-MIG-1g.5gb.me`, any of them
/// with `-SHARED`. The name need not be in the catalogue.
///
/// # Errors
/// When GPU feature discovery writes no such label for a card or a slice that a rank can use.
pub fn parse(label: &str) -> Result<Product, ProductError> {
    check(label)?;
    let (whole, shared) = match label.strip_suffix("-SHARED") {
        Some(whole) => (whole, true),
        None => (label, false),
    };
    let (name, mig) = match whole.split_once("-MIG-") {
        Some((name, profile)) => (name, Some(parse_profile(profile)?)),
        None => (whole, None),
    };
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.ends_with("-SHARED") {
        return Err(ProductError::Suffixes(label.to_owned()));
    }
    Ok(Product { name: name.to_owned(), mig, shared })
}

/// Says whether a product is a slice of a card, or a card on which several pods take turns.
pub fn is_part(product: &str) -> bool {
    PARTS.iter().any(|part| product.contains(part))
}

/// Says whether several pods take turns on a card of this product.
pub fn is_shared(product: &str) -> bool {
    product.ends_with("-SHARED")
}

/// Says whether a pattern names the kind of `product`, where that is a part of a card.
pub(super) fn says_part(pattern: &str, product: &str) -> bool {
    PARTS.iter().all(|part| pattern.contains(part) || !product.contains(part))
}

/// Kubernetes' characters, and the `+` with which nvidia-smi writes a profile's attributes.
fn check(label: &str) -> Result<(), ProductError> {
    if !(1..=LABEL_MAX).contains(&label.len()) {
        return Err(ProductError::Length(label.len()));
    }
    match label.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.+".contains(*c))) {
        Some(character) => Err(ProductError::Character(character)),
        None => Ok(()),
    }
}

/// Attributes (`.me`, `+me`, `-me`, `.me.all`, `.gfx`) say which media engines come with a slice,
/// nothing that training uses. Compute instances (`1c.3g.20gb`) are refused: they share memory.
fn parse_profile(profile: &str) -> Result<Mig, ProductError> {
    if profile == "INVALID" {
        return Err(ProductError::Uneven);
    }
    let read = || {
        let (slices, rest) = profile.split_once("g.")?;
        let (memory, attributes) = rest.split_once("gb")?;
        let mig = Mig {
            compute_slices: number(slices, SLICES)?,
            memory_gb: number(memory, MEMORY_GB_MAX)?,
        };
        is_attributes(attributes).then_some(mig)
    };
    read().ok_or_else(|| ProductError::Profile(profile.to_owned()))
}

fn is_attributes(text: &str) -> bool {
    let word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = |rest: &str| rest.chars().all(|c| c.is_ascii_lowercase() || c == '.');
    text.is_empty()
        || text.strip_prefix(['.', '+', '-']).is_some_and(|rest| word(rest) && plain(rest))
}

/// A number from 1 to `most`, without the sign and the zeros in front that `parse` would take.
fn number(text: &str, most: u32) -> Option<u32> {
    let digits = text.starts_with(|c: char| c.is_ascii_digit() && c != '0');
    text.parse().ok().filter(|number| digits && *number <= most)
}

impl Product {
    /// The whole card, of which this may be a part; absent where the catalogue lacks it.
    pub fn card(&self) -> Option<&'static Card> {
        CATALOGUE.iter().find(|card| card.product == self.name)
    }

    /// The share that this has of its card, absent with [`Product::card`]; a shared one as if it
    /// had no other user.
    ///
    /// For a slice both are nominal: its memory is the profile's GB, decimal, and its speed so many
    /// sevenths. A real slice has some per cent more or less (an H200's `1g.18gb` has 16 GiB), so
    /// that `nvidia.com/gpu.memory` of the node counts more.
    pub fn share(&self) -> Option<Share> {
        let card = self.card()?;
        let Some(mig) = self.mig else { return Some(Share { memory: card.memory(), speed: 1.0 }) };
        Some(Share {
            memory: card.memory().min(u64::from(mig.memory_gb) * 1_000_000_000),
            speed: f64::from(mig.compute_slices) / f64::from(SLICES),
        })
    }
}
