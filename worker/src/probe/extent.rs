//! How much is measured: sizes, times, and shares of memory.

use std::time::Duration;

/// Repeats of one figure go on for about so long.
pub(super) const BUDGET_MAX: Duration = Duration::from_millis(300);
/// A size that would take longer than this, once, is left out.
pub(super) const LONGEST_SECONDS: f64 = 1.0;

/// Both ranks hold a message each way, and the transport as much again: with this share of the free
/// memory each, three quarters stay free.
const MESSAGE_SHARE: u64 = 32;

/// What is tried on one kind of device.
#[derive(Clone, Debug)]
pub(super) struct DeviceExtent {
    /// Sides of square matrices, growing.
    pub(super) sides: &'static [u32],
    /// Bytes of each of two tensors that are added, at most.
    pub(super) stream_bytes: u64,
}

/// What is tried.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// On one thread of the host.
    pub(super) cpu: DeviceExtent,
    /// On a card.
    pub(super) cuda: DeviceExtent,
    /// Bytes of messages, growing.
    messages: &'static [u64],
}

impl Extent {
    /// A machine's own: larger matrices are no faster, larger tensors leave every cache.
    pub(super) fn full() -> Extent {
        Extent {
            cpu: DeviceExtent { sides: &[512, 1024, 2048], stream_bytes: 256 << 20 },
            cuda: DeviceExtent { sides: &[2048, 4096, 8192], stream_bytes: 1 << 30 },
            messages: &[
                4 << 10,
                16 << 10,
                64 << 10,
                256 << 10,
                1 << 20,
                4 << 20,
                16 << 20,
                64 << 20,
            ],
        }
    }

    /// As little as makes a record.
    #[cfg(test)]
    pub(super) fn tiny() -> Extent {
        let least = DeviceExtent { sides: &[16, 32], stream_bytes: 1 << 16 };
        Extent { cpu: least.clone(), cuda: least, messages: &[1 << 10, 4 << 10, 16 << 10] }
    }

    /// The messages that the host's free bytes allow; two at least, of which curves are made.
    pub(super) fn messages_within(&self, free: u64, notes: &mut Vec<String>) -> Vec<u64> {
        let fit = self.messages.iter().filter(|bytes| **bytes <= free / MESSAGE_SHARE).count();
        let kept = &self.messages[..fit.max(2).min(self.messages.len())];
        if let Some(left_out) = self.messages.get(kept.len()) {
            notes.push(format!(
                "messages of {left_out} bytes and more are left out: {free} bytes are free"
            ));
        }
        kept.to_vec()
    }
}
