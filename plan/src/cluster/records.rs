//! Tests of curves and records as files have them, whole and broken.

use proptest::prelude::*;

use super::*;

fn point(bytes: u64, seconds: f64) -> Point {
    Point { bytes, seconds }
}

prop_compose! {
    /// Points in order, of which neighbours may take equally long.
    fn any_points()(
        first in (0_u64..1 << 30, 1e-7_f64..1.0),
        further in prop::collection::vec((1_u64..1 << 30, 0.0_f64..1.0), 1..12),
    ) -> Vec<Point> {
        let mut points = vec![point(first.0, first.1)];
        for (bytes, seconds) in further {
            let last = points[points.len() - 1];
            points.push(point(last.bytes + bytes, last.seconds + seconds));
        }
        points
    }
}

proptest! {
    #[test]
    fn a_curve_goes_through_what_was_measured_and_never_falls(
        points in any_points(),
        mut asked in prop::collection::vec(0.0_f64..1e11, 2..20),
    ) {
        let curve = Curve::through(points.clone()).expect("in order");
        for point in &points {
            let seconds = curve.seconds(point.bytes as f64);
            prop_assert!((seconds / point.seconds - 1.0).abs() < 1e-9, "{seconds} at {point:?}");
        }
        asked.sort_by(f64::total_cmp);
        for pair in asked.windows(2) {
            let [less, more] = [pair[0], pair[1]].map(|bytes| curve.seconds(bytes));
            prop_assert!(less <= more * (1.0 + 1e-9) && less >= points[0].seconds);
        }
    }

    #[test]
    fn between_two_points_a_message_takes_its_share_of_the_way(
        points in any_points(),
        at in any::<prop::sample::Index>(),
        share in 0.0_f64..1.0,
    ) {
        let curve = Curve::through(points.clone()).expect("in order");
        let at = at.index(points.len() - 1);
        let (from, to) = (points[at], points[at + 1]);
        let bytes = from.bytes as f64 * (1.0 - share) + to.bytes as f64 * share;
        let expected = from.seconds * (1.0 - share) + to.seconds * share;
        prop_assert!((curve.seconds(bytes) / expected - 1.0).abs() < 1e-6);
        // Beyond the last, at the speed of the last two.
        let [.., before, last] = points[..] else { unreachable!("two points at least") };
        let once = curve.seconds((2 * last.bytes - before.bytes) as f64);
        let twice = 2.0 * last.seconds - before.seconds;
        prop_assert!((once / twice - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_curve_is_read_back_as_it_was_written(points in any_points()) {
        let curve = Curve::through(points).expect("in order");
        let text = serde_json::to_string(&curve).expect("no map keys");
        prop_assert_eq!(serde_json::from_str::<Curve>(&text).expect("a curve"), curve);
    }

    #[test]
    fn points_are_refused_at_the_first_that_is_out_of_order(
        points in any_points(),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(points.len() - 1);
        let mut swapped = points.clone();
        swapped.swap(at, at + 1);
        prop_assert_eq!(Curve::through(swapped), Err(CurveError::OutOfOrder(at + 1)));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut broken = points.clone();
            broken[at].seconds = seconds;
            prop_assert_eq!(Curve::through(broken), Err(CurveError::OutOfOrder(at)));
        }
    }

    #[test]
    fn a_line_takes_its_latency_and_its_bytes(
        latency in 1e-7_f64..1.0,
        speed in 1e3_f64..1e12,
        bytes in 0.0_f64..1e12,
    ) {
        let expected = latency + bytes / speed;
        let seconds = Curve::linear(latency, speed).seconds(bytes);
        prop_assert!((seconds / expected - 1.0).abs() < 1e-6, "{seconds} for {expected}");
    }
}

#[test]
fn curves_of_files_that_are_none_are_refused_with_what_is_wrong() {
    let table = [
        ("[]", "two points at least"),
        (r#"[{"bytes":1,"seconds":1}]"#, "two points at least"),
        (r#"[{"bytes":1,"seconds":1},{"bytes":1,"seconds":2}]"#, "point 1: bytes have to grow"),
        (r#"[{"bytes":1,"seconds":0},{"bytes":2,"seconds":2}]"#, "point 0: bytes have to grow"),
        (r#"[{"bytes":1,"seconds":1},{"bytes":2,"seconds":-2}]"#, "point 1"),
        (r#"[{"bytes":-1,"seconds":1},{"bytes":2,"seconds":2}]"#, "invalid value"),
        (r#"[{"bytes":1.5,"seconds":1},{"bytes":2,"seconds":2}]"#, "invalid type"),
        (r#"[{"bytes":1,"seconds":1,"hops":3},{"bytes":2,"seconds":2}]"#, "unknown field `hops`"),
        (r#"[{"bytes":1,"seconds":null},{"bytes":2,"seconds":2}]"#, "invalid type"),
        (r#"[{"bytes":1,"seconds":1e999},{"bytes":2,"seconds":2}]"#, "number out of range"),
        (r#"{"bytes":1,"seconds":1}"#, "invalid type"),
    ];
    for (text, expected) in table {
        let error = serde_json::from_str::<Curve>(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

const RECORD: &str = r#"{
    "node": "lab-0-0",
    "devices": [
        {"product": "Tesla-T4", "index": 0, "memoryBytes": 16106127360, "freeBytes": 15900000000,
         "reached": {"f32Tflops": 4.0, "bandwidthGbps": 240.0}},
        {"product": "cpu", "memoryBytes": 64000000000, "freeBytes": 60000000000,
         "reached": {"f32Tflops": 0.05, "bandwidthGbps": 9.0}}
    ],
    "links": {"process": [{"bytes": 4, "seconds": 0.00001}, {"bytes": 1048576, "seconds": 0.0001}]},
    "allReduce": [{"bytes": 4, "seconds": 0.001}, {"bytes": 1048576, "seconds": 0.01}],
    "uplink": {"up": 100000000.0, "down": 500000000.0}
}"#;

#[test]
fn a_record_says_what_it_says_under_these_names() {
    let record: Capability = serde_json::from_str(RECORD).expect("a record");
    assert_eq!((record.node.as_str(), record.devices.len()), ("lab-0-0", 2));
    let [card, cpu] = &record.devices[..] else { panic!("two devices") };
    assert_eq!((card.index, cpu.index), (Some(0), None));
    assert_eq!((card.memory_bytes, card.free_bytes), (16_106_127_360, 15_900_000_000));
    assert_eq!((card.reached.f32_tflops, card.reached.bf16_tflops), (4.0, None));
    assert_eq!(record.links.process.as_ref().map(|curve| curve.seconds(4.0)), Some(1e-5));
    assert_eq!((&record.links.node, &record.links.network), (&None, &None));
    let sum = record.all_reduce.as_ref().map(|curve| curve.seconds(1_048_576.0));
    assert!(sum.is_some_and(|seconds| (seconds - 0.01).abs() < 1e-9), "{sum:?}");
    assert_eq!(record.uplink, Some(Bandwidth { up: 1e8, down: 5e8 }));
    // What was not measured is not written as null.
    let text = serde_json::to_string(&record).expect("no map keys");
    assert!(!text.contains("null") && !text.contains("bf16Tflops"), "{text}");
}

#[test]
fn a_broken_record_is_refused_by_the_field_that_is_wrong() {
    let table = [
        (r#""node": "lab-0-0","#, "", "missing field `node`"),
        (r#""node": "lab-0-0","#, r#""node": 7,"#, "invalid type"),
        (r#""index": 0,"#, r#""index": -1,"#, "invalid value"),
        (r#""index": 0,"#, r#""slot": 0,"#, "unknown field `slot`"),
        ("16106127360", "-5", "invalid value"),
        ("16106127360", "18446744073709551616", "invalid type"),
        (r#""f32Tflops": 4.0"#, r#""f32Tflops": 0"#, "0 is no rate"),
        (r#""f32Tflops": 4.0"#, r#""f32Tflops": -4.0"#, "-4 is no rate"),
        (r#""f32Tflops": 4.0"#, r#""f32Tflops": null"#, "invalid type"),
        (r#""f32Tflops": 4.0,"#, "", "missing field `f32Tflops`"),
        (r#""bandwidthGbps": 240.0"#, r#""bandwidthGbps": 0.0"#, "0 is no rate"),
        (r#""bandwidthGbps": 240.0"#, r#""bandwidthGbps": 2, "bf16Tflops": -0.0"#, "is no rate"),
        (r#""up": 100000000.0"#, r#""up": 0"#, "0 is no rate"),
        (r#""down": 500000000.0"#, r#""down": "fast""#, "invalid type"),
        (r#""allReduce""#, r#""all_reduce""#, "unknown field `all_reduce`"),
        (r#""process""#, r#""loopback""#, "unknown field `loopback`"),
    ];
    for (right, wrong, expected) in table {
        let text = RECORD.replacen(right, wrong, 1);
        assert_ne!(text, RECORD, "{right} is in the record");
        let error = serde_json::from_str::<Capability>(&text).expect_err(wrong).to_string();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}

#[test]
fn a_card_is_known_by_its_name_a_slice_by_its_profile_and_a_share_by_nobody() {
    let memory = |pattern: &str| NodeCard::named(pattern).memory;
    assert_eq!(memory("NVIDIA-H100-80GB-HBM3"), 81_559 << 20);
    assert_eq!(memory("NVIDIA-A100-SXM4-40GB-MIG-2g.10gb"), 10_000_000_000);
    assert_eq!(memory("NVIDIA-A100-SXM4-40GB-SHARED"), 0, "by how many is not known");
    assert_eq!(memory("NVIDIA-A100-SXM4-40GB-MIG-2g.10gb-SHARED"), 0);
    assert_eq!(memory("Abacus"), 0);
    // A family is the fastest of its cards, a name that nobody knows stays as it is.
    assert_eq!(NodeCard::named("NVIDIA-A100-PCIE*").product, "NVIDIA-A100-PCIE-40GB");
    assert_eq!(NodeCard::named("Abacus*").product, "Abacus*");
}

#[test]
fn names_of_drivers_become_labels_whatever_spaces_are_in_them() {
    let table = [
        ("NVIDIA A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB"),
        ("  Tesla   T4 \n", "Tesla-T4"),
        ("NVIDIA\tRTX A6000", "NVIDIA-RTX-A6000"),
        ("", ""),
    ];
    for (name, label) in table {
        assert_eq!(product_label(name), label);
    }
    // Whatever the driver calls them, the catalogue's cards are found.
    for card in gpu::CATALOGUE {
        let spoken = card.product.replace('-', " ");
        assert_eq!(product_label(&spoken), card.product);
    }
}
