//! A record as a short table for people.

use std::fmt::Write as _;

use plan::cluster::{Capability, Curve, DeviceCapability, Point};

const GIB: f64 = (1_u64 << 30) as f64;

/// A line for each device and each link.
pub(super) fn table(record: &Capability) -> String {
    let mut text = format!("node {}\n", record.node);
    for device in &record.devices {
        push(&mut text, &device_line(device));
    }
    let links = [
        ("cards of a process", &record.links.process),
        ("processes of the node", &record.links.node),
        ("nodes", &record.links.network),
        ("all-reduce of two", &record.all_reduce),
    ];
    for (name, curve) in links.into_iter().filter_map(|(name, curve)| Some((name, curve.as_ref()?)))
    {
        push(&mut text, &link_line(name, curve));
    }
    if let Some(uplink) = record.uplink {
        let (up, down) = (uplink.up / 1e6, uplink.down / 1e6);
        push(&mut text, &format!("{:<22} {up:.1} Mbit/s up, {down:.1} Mbit/s down", "uplink"));
    }
    text
}

fn push(text: &mut String, line: &str) {
    // A string takes whatever is written.
    let _ = writeln!(text, "  {line}");
}

fn device_line(device: &DeviceCapability) -> String {
    let name = match device.index {
        Some(index) => format!("{index} {}", device.product),
        None => format!("{}, one thread", device.product),
    };
    let reached = device.reached;
    let bf16 = reached.bf16_tflops.map_or("-".to_owned(), |tflops| format!("{tflops:.3}"));
    format!(
        "{name:<22} {:.1} GiB, {:.1} free; TFLOP/s f32 {:.3}, bf16 {bf16}; memory {:.1} GB/s",
        device.memory_bytes as f64 / GIB,
        device.free_bytes as f64 / GIB,
        reached.f32_tflops,
        reached.bandwidth_gbps,
    )
}

fn link_line(name: &str, curve: &Curve) -> String {
    let points = Vec::from(curve.clone());
    let ends = points.first().zip(points.last());
    let Some((first, last)) = ends else { return name.to_owned() };
    let rate = last.bytes as f64 / last.seconds / 1e9;
    format!("{name:<22} {}, {}; {rate:.3} GB/s", point(first), point(last))
}

fn point(point: &Point) -> String {
    format!("{} in {:.3} ms", size(point.bytes), point.seconds * 1e3)
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod links;

#[cfg(test)]
mod tests {
    use plan::cluster::{Bandwidth, Links, Reached};

    use super::*;

    #[test]
    fn each_device_and_link_has_a_line() {
        let reached =
            Reached { f32_tflops: 51.0, bf16_tflops: Some(700.5), bandwidth_gbps: 2800.0 };
        let card = DeviceCapability {
            product: "NVIDIA-H100".into(),
            index: Some(0),
            memory_bytes: 80 << 30,
            free_bytes: 79 << 30,
            reached,
        };
        let point = |bytes, seconds| Point { bytes, seconds };
        let curve = Curve::through(vec![point(4096, 1e-4), point(64 << 20, 0.1)]).unwrap();
        let record = Capability {
            node: "lab".into(),
            devices: vec![card],
            links: Links { node: Some(curve), ..Links::default() },
            all_reduce: None,
            uplink: Some(Bandwidth { up: 2e7, down: 1e8 }),
        };
        let expected = "node lab\n  \
            0 NVIDIA-H100          80.0 GiB, 79.0 free; TFLOP/s f32 51.000, bf16 700.500; memory \
            2800.0 GB/s\n  \
            processes of the node  4 KiB in 0.100 ms, 64 MiB in 100.000 ms; 0.671 GB/s\n  \
            uplink                 20.0 Mbit/s up, 100.0 Mbit/s down\n";
        assert_eq!(table(&record), expected);
    }
}
