//! Measurements of a node, from its annotation.

use plan::cluster::{Capability, Node, NodeCard, Reached};
use plan::nodes::{RecordError, measure};

use super::{CAPABILITY, CARD_BYTES_MAX, CARD_BYTES_MIN};

/// Characters of why a record is passed over: it may quote the record.
const WHY_MAX: usize = 200;

/// Puts the figures of a record in the place of what is known of a node, whatever node the record
/// names: it may have been made in a pod.
///
/// # Errors
/// Why it was passed over and what to do, a clause; the node is as it was.
pub(super) fn apply(node: &mut Node, record: &str) -> Result<(), String> {
    let with = |why: String, remedy| {
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_MAX).collect();
        format!("annotation {CAPABILITY} is passed over: {why}: {remedy}")
    };
    let record: Capability = serde_json::from_str(record)
        .map_err(|error| with(error.to_string(), "give what heteroloco probe prints"))?;
    let measured = measured(node.clone(), &record)
        .map_err(|why| with(why, "probe this node, where its cards are seen"))?;
    *node = measured;
    Ok(())
}

/// The node with its measurements, or why the record says nothing of it.
fn measured(mut node: Node, record: &Capability) -> Result<Node, String> {
    let none = |device: u64| device == 0 || device > CARD_BYTES_MAX;
    if let Some(device) = record.devices.iter().find(|device| none(device.memory_bytes)) {
        return Err(format!("no card has {} bytes", device.memory_bytes));
    }
    measure(&mut node, record).map_err(|error| match error {
        RecordError::OtherCard { measured, declared, .. } => {
            format!("it measured {measured} where the node has {declared}")
        }
        other => other.to_string(),
    })?;
    let least = node.cards.iter().filter_map(|card| Some((card.memory, card.measured?)));
    let least = least.reduce(|one, other| (one.0.min(other.0), slower(one.1, other.1)));
    let Some((memory, reached)) = least else {
        return Err("it measured none of the node's cards".into());
    };
    if memory < CARD_BYTES_MIN {
        return Err(format!("no card has {memory} bytes"));
    }
    // Pods cannot choose among a node's cards, so that none counts as better than another.
    let alike = |card: NodeCard| NodeCard { memory, measured: Some(reached), ..card };
    node.cards = node.cards.into_iter().map(alike).collect();
    Ok(node)
}

fn slower(one: Reached, other: Reached) -> Reached {
    Reached {
        f32_tflops: one.f32_tflops.min(other.f32_tflops),
        bf16_tflops: one.bf16_tflops.zip(other.bf16_tflops).map(|(one, other)| one.min(other)),
        bandwidth_gbps: one.bandwidth_gbps.min(other.bandwidth_gbps),
    }
}
