//! A node's cards by the ResourceSlices of NVIDIA's DRA driver.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use plan::cluster::product_label;
use plan::gpu;

use super::{CARD_BYTES_MAX, CARD_BYTES_MIN};
use crate::text::Quantity;

/// The driver whose slices name GPUs.
pub const DRIVER: &str = "gpu.nvidia.com";
const TYPE: &str = "type";
const PRODUCT: &str = "productName";
const MEMORY: &str = "memory";

/// The parts of a ResourceSlice that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The node that has its cards.
    pub node: String,
    pool: String,
    generation: i64,
    /// Slices that the pool has.
    of: i64,
    devices: Devices,
}

/// The cards of a node, as the driver names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Cards that are not cut.
    pub(super) whole: u32,
    /// Whether MIG cuts others.
    cut: bool,
    /// Products of the whole ones, as GPU feature discovery writes them.
    pub(super) products: BTreeSet<String>,
    /// Bytes of the smallest: pods cannot choose.
    pub(super) memory: Option<u64>,
    /// A note on what was passed over, a clause.
    pub(super) unclear: Option<String>,
}

impl Slice {
    /// `None` of another driver, and of devices that no single node has.
    pub fn of(slice: ResourceSlice) -> Option<Self> {
        let spec = slice.spec;
        let node = spec.node_name.filter(|_| spec.driver == DRIVER)?;
        let mut devices = Devices::default();
        for device in spec.devices.iter().flatten() {
            devices.take(device);
        }
        let pool = spec.pool;
        let (generation, of) = (pool.generation, pool.resource_slice_count);
        Some(Self { node, pool: pool.name, generation, of, devices })
    }
}

impl Devices {
    /// The devices in all slices of one node; of a pool, those of its newest generation.
    ///
    /// `None` while slices of it are missing: the driver is about to write them.
    pub fn of<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Option<Self> {
        let mut pools: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        for slice in slices {
            pools.entry(&slice.pool).or_default().push(slice);
        }
        let mut all = Self::default();
        for mut pool in pools.into_values() {
            let newest = pool.iter().map(|slice| slice.generation).max();
            pool.retain(|slice| Some(slice.generation) == newest);
            let of = pool.iter().map(|slice| slice.of).max().unwrap_or(0);
            if (pool.len() as i64) < of {
                return None;
            }
            pool.into_iter().for_each(|slice| all.add(&slice.devices));
        }
        Some(all)
    }

    /// Says whether there is no GPU among them.
    pub fn is_empty(&self) -> bool {
        self.whole == 0 && !self.cut
    }

    fn add(&mut self, other: &Self) {
        self.whole = self.whole.saturating_add(other.whole);
        self.cut |= other.cut;
        self.products.extend(other.products.iter().cloned());
        self.memory = self.memory.into_iter().chain(other.memory).min();
        if self.unclear.is_none() {
            self.unclear.clone_from(&other.unclear);
        }
    }

    /// Cards that a virtual machine gets (`vfio`) are none that pods may ask for.
    fn take(&mut self, device: &Device) {
        match text(device, TYPE) {
            Some("gpu") => self.whole = self.whole.saturating_add(1),
            Some("mig") => {
                self.cut = true;
                return;
            }
            _ => return,
        }
        let unclear = |what, why| format!("{what} of its ResourceSlice is passed over: {why}");
        match text(device, PRODUCT).map(product).transpose() {
            Ok(product) => self.products.extend(product),
            Err(why) => self.unclear = Some(unclear(PRODUCT, why)),
        }
        match memory(device).transpose() {
            Ok(memory) => self.memory = self.memory.into_iter().chain(memory).min(),
            Err(why) => self.unclear = Some(unclear(MEMORY, why)),
        }
    }
}

fn text<'a>(device: &'a Device, attribute: &str) -> Option<&'a str> {
    device.attributes.as_ref()?.get(attribute)?.string.as_deref()
}

fn product(name: &str) -> Result<String, String> {
    let label = product_label(name);
    gpu::parse(&label).map_err(|error| error.to_string())?;
    if gpu::is_part(&label) { Err(format!("{label} is a part of a card")) } else { Ok(label) }
}

/// Bytes.
fn memory(device: &Device) -> Option<Result<u64, String>> {
    let said = &device.capacity.as_ref()?.get(MEMORY)?.value.0;
    let bytes = Quantity::from(said.as_str()).parse().map_err(|error| error.to_string());
    Some(bytes.and_then(|bytes| match bytes {
        CARD_BYTES_MIN..=CARD_BYTES_MAX => Ok(bytes),
        _ => Err(format!("no card has {said}")),
    }))
}
