//! What the machine says of itself: its name, its memory, its cards.

use std::fs;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use plan::cluster::product_label;

use super::ProbeError;

const MEMINFO: &str = "/proc/meminfo";
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// How CUDA is told to count cards as the driver does.
const ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

/// Bytes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) free: u64,
}

/// A card as the driver shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) product: String,
    pub(super) memory: Memory,
}

/// The host's name.
pub(super) fn name() -> Result<String, ProbeError> {
    Ok(read(HOSTNAME)?.trim().to_owned())
}

/// The host's memory; free is what can be had without swapping.
pub(super) fn memory() -> Result<Memory, ProbeError> {
    let text = read(MEMINFO)?;
    Ok(Memory { total: entry(&text, "MemTotal")?, free: entry(&text, "MemAvailable")? })
}

fn read(path: &'static str) -> Result<String, ProbeError> {
    fs::read_to_string(path).map_err(|source| ProbeError::Host { path, source })
}

/// Bytes of a line of /proc/meminfo (proc(5)), which is in KiB whatever it says.
fn entry(text: &str, key: &'static str) -> Result<u64, ProbeError> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok());
    let bytes = kibibytes.and_then(|kibibytes: u64| kibibytes.checked_mul(1 << 10));
    bytes.ok_or(ProbeError::Meminfo { key })
}

/// The cards, by CUDA's index; none where there is no driver.
pub(super) fn cards() -> Result<Vec<Card>, ProbeError> {
    let cards = match Nvml::init() {
        Ok(nvml) => {
            let shown = nvml.device_count().unwrap_or(0);
            let card =
                |index| card(&nvml, index).map_err(|source| ProbeError::Card { index, source });
            (0..shown).map(card).collect::<Result<Vec<_>, _>>()?
        }
        // libtorch is asked below: it may see cards all the same.
        Err(_) => Vec::new(),
    };
    let order = std::env::var(ORDER.0).ok();
    check(cards.len() as u32, tch::Cuda::device_count(), order.as_deref())?;
    Ok(cards)
}

fn card(nvml: &Nvml, index: u32) -> Result<Card, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory = device.memory_info()?;
    let memory = Memory { total: memory.total, free: memory.free };
    Ok(Card { product: product_label(&device.name()?), memory })
}

/// Whether the driver's index of each card is CUDA's.
fn check(shown: u32, seen: i64, order: Option<&str>) -> Result<(), ProbeError> {
    if i64::from(shown) != seen {
        return Err(ProbeError::Cards { shown, seen });
    }
    if shown > 1 && order != Some(ORDER.1) {
        return Err(ProbeError::Order { shown });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_what_is_missing_is_named() {
        let text = "MemTotalOther: 1 kB\nMemTotal:       24689764 kB\nMemAvailable:   21 kB\n";
        assert_eq!(entry(text, "MemTotal").unwrap(), 24_689_764 * 1024);
        assert_eq!(entry(text, "MemAvailable").unwrap(), 21 * 1024);
        for text in ["", "MemTotal: x kB", "MemTotal: 7", "MemTotal: 99999999999999999999 kB"] {
            let refused = entry(text, "MemTotal").unwrap_err().to_string();
            assert!(refused.contains("failed to find MemTotal"), "{refused}");
        }
    }

    #[test]
    fn cards_are_refused_where_their_indexes_may_differ() {
        assert!(check(0, 0, None).is_ok());
        assert!(check(1, 1, None).is_ok());
        assert!(check(2, 2, Some("PCI_BUS_ID")).is_ok());
        let said = |shown, seen, order| check(shown, seen, order).unwrap_err().to_string();
        assert!(said(2, 2, None).contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"));
        assert!(said(2, 2, Some("FASTEST_FIRST")).contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"));
        assert!(said(1, 0, None).contains("LD_LIBRARY_PATH"));
        assert!(said(0, 2, Some("PCI_BUS_ID")).contains("CUDA_VISIBLE_DEVICES"));
    }

    #[test]
    fn this_host_has_a_name_and_memory() {
        assert!(!name().unwrap().is_empty());
        let memory = memory().unwrap();
        assert!(0 < memory.free && memory.free <= memory.total, "{memory:?}");
    }
}
