//! The GPUs of this machine, by NVIDIA's management library, which is looked for at run time: a
//! machine without a driver has none.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use plan::cluster::product_label;
use plan::request::LocalCard;

/// The cards that the driver shows, by their index in PCI bus order; those that it cannot describe
/// are left out.
pub fn detect() -> Vec<LocalCard> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let count = nvml.device_count().unwrap_or(0);
    (0..count).filter_map(|index| card(&nvml, index).ok()).collect()
}

fn card(nvml: &Nvml, index: u32) -> Result<LocalCard, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory = device.memory_info()?.total;
    Ok(LocalCard { index, product: product_label(&device.name()?), memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_has_no_cards_and_no_panic() {
        // Whatever this machine has, each card found has a name without blanks.
        assert!(detect().iter().all(|card| !card.product.contains(' ')));
    }
}
