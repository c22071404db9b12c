//! Every kind of device and link in the table, and sizes at their edges.

use plan::cluster::{Bandwidth, Links, Reached};

use super::*;

fn curve(points: &[(u64, f64)]) -> Curve {
    let point = |(bytes, seconds): &(u64, f64)| Point { bytes: *bytes, seconds: *seconds };
    Curve::through(points.iter().map(point).collect()).unwrap()
}

#[test]
fn each_link_that_was_measured_has_its_name_and_others_have_none() {
    let some = || Some(curve(&[(1024, 1e-3), (2 << 20, 2e-3)]));
    let links = Links { process: some(), node: some(), network: some() };
    let all = Capability {
        node: "lab".into(),
        devices: Vec::new(),
        links,
        all_reduce: some(),
        uplink: Some(Bandwidth { up: 1.25e6, down: 4e9 }),
    };
    let text = table(&all);
    let names: Vec<&str> = text.lines().skip(1).map(|line| line[2..24].trim()).collect();
    let expected =
        ["cards of a process", "processes of the node", "nodes", "all-reduce of two", "uplink"];
    assert_eq!(names, expected, "{text}");
    // 2 MiB in 2 ms, and the bits of an uplink.
    assert!(text.contains("1 KiB in 1.000 ms, 2 MiB in 2.000 ms; 1.049 GB/s"), "{text}");
    assert!(text.contains("1.2 Mbit/s up, 4000.0 Mbit/s down"), "{text}");
    let none = Capability { links: Links::default(), all_reduce: None, uplink: None, ..all };
    assert_eq!(table(&none), "node lab\n");
}

#[test]
fn the_cpu_is_one_thread_and_has_no_bf16() {
    let device = DeviceCapability {
        product: "cpu".into(),
        index: None,
        memory_bytes: 3 << 29,
        free_bytes: 0,
        reached: Reached { f32_tflops: 0.0625, bf16_tflops: None, bandwidth_gbps: 12.34 },
    };
    let line = device_line(&device);
    let expected =
        "cpu, one thread        1.5 GiB, 0.0 free; TFLOP/s f32 0.062, bf16 -; memory 12.3 GB/s";
    assert_eq!(line, expected);
}

#[test]
fn sizes_are_told_in_the_unit_that_they_have_at_least_one_of() {
    for (bytes, expected) in [
        (1 << 10, "1 KiB"),
        (1000 << 10, "1000 KiB"),
        ((1 << 20) - 1, "1023 KiB"),
        (1 << 20, "1 MiB"),
        (64 << 20, "64 MiB"),
    ] {
        assert_eq!(size(bytes), expected);
    }
}
