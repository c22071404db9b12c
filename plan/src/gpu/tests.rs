//! Tests of the catalogue's figures and of product labels.

mod patterns;

use proptest::prelude::*;

use super::*;

fn gpus() -> impl Iterator<Item = &'static Card> {
    CATALOGUE.iter().filter(|card| card.product != CPU)
}

fn known(pattern: &str) -> &'static Card {
    lookup(pattern).expect("known")
}

#[test]
fn a_family_means_its_fastest_card_and_a_name_only_itself() {
    for (family, fastest) in [
        ("NVIDIA-H200*", "NVIDIA-H200"),
        ("NVIDIA-H100*", "NVIDIA-H100-80GB-HBM3"),
        ("NVIDIA-A100*", "NVIDIA-A100-SXM4-80GB"),
        ("NVIDIA-L40*", "NVIDIA-L40S"),
        ("NVIDIA-GeForce-RTX-3090*", "NVIDIA-GeForce-RTX-3090-Ti"),
        ("Tesla-V100*", "Tesla-V100-SXM2-32GB"),
        ("Tesla-V100-PCIE*", "Tesla-V100-PCIE-32GB"),
    ] {
        assert_eq!(known(family).product, fastest);
    }
    assert_eq!(known("NVIDIA-H100-PCIe").tflops(), 756.5);
    assert_eq!(lookup("NVIDIA-H100"), None);
    for card in CATALOGUE {
        assert_eq!(lookup(card.product), Some(card), "{} stands twice", card.product);
    }
}

#[test]
fn cards_before_ampere_compute_in_f32() {
    assert_eq!(known("Tesla-T4").precision(), Precision::F32);
    assert_eq!(known("Tesla-V100*").tflops(), 15.7);
    assert_eq!(known("NVIDIA-A10").precision(), Precision::Bf16);
    assert_eq!(known(CPU).precision(), Precision::F32);
    for card in CATALOGUE {
        let ampere = card.compute_capability >= (8, 0);
        assert_eq!(card.bf16_tflops > 0.0, ampere, "{}", card.product);
        assert_eq!(card.precision() == Precision::Bf16, ampere, "{}", card.product);
        assert!(card.bf16_tflops <= card.fp16_tflops, "{}", card.product);
    }
}

#[test]
fn figures_are_in_the_range_of_real_boards() {
    for card in gpus() {
        let within = |low: f64, figure: f64, high: f64| {
            assert!((low..=high).contains(&figure), "{}: {figure}", card.product);
        };
        within(8.0 * 1024.0, card.memory_mib as f64, 192.0 * 1024.0);
        within(8.0, card.fp32_tflops, 110.0);
        // GeForce's half rate is the least that tensor cores add.
        within(1.9 * card.fp32_tflops, card.fp16_tflops, 32.0 * card.fp32_tflops);
        within(100.0, card.bandwidth_gbps, 10_000.0);
        within(0.0, card.nvlink_gbps, card.bandwidth_gbps);
        within(15.0, card.pcie_gbps, 64.0);
        assert!(card.nvlink_gbps == 0.0 || card.nvlink_gbps > card.pcie_gbps, "{}", card.product);
        within(70.0, f64::from(card.watts), 1200.0);
        within(0.15, card.fp16_tflops / f64::from(card.watts), 2.5);
        assert!(card.product.starts_with("NVIDIA-") || card.product.starts_with("Tesla-"));
    }
}

#[test]
fn memory_is_what_the_name_says() {
    for card in gpus() {
        let said = card.product.split('-').find_map(|part| part.strip_suffix("GB"));
        let Some(gb) = said.and_then(|gb| gb.parse::<u64>().ok()) else { continue };
        // NVML keeps back some, never as much as a decimal GB is short of a binary one.
        assert!((gb * 1_000_000_000..=gb << 30).contains(&card.memory()), "{}", card.product);
    }
}

#[test]
fn pcie_carries_what_its_generation_does() {
    for (product, rounded) in [("Tesla-T4", 15.8), ("NVIDIA-L4", 31.5), ("NVIDIA-H200", 63.0)] {
        assert!((known(product).pcie_gbps - rounded).abs() < 0.1, "{product}");
    }
}

#[test]
fn a_cpu_thread_has_no_half_precision_and_no_link_but_its_memory() {
    let cpu = cpu();
    assert_eq!(Some(cpu), lookup(CPU));
    assert_eq!((cpu.fp16_tflops, cpu.bf16_tflops, cpu.nvlink_gbps), (0.0, 0.0, 0.0));
    assert_eq!((cpu.pcie_gbps, cpu.compute_capability), (cpu.bandwidth_gbps, (0, 0)));
    assert!(cpu.fp32_tflops > 0.0 && cpu.memory() > 0 && cpu.watts > 0);
}

#[test]
fn a_name_that_is_nearly_right_gets_the_right_ones() {
    assert_eq!(suggestions("rtx 4090"), ["NVIDIA-GeForce-RTX-4090"]);
    assert_eq!(suggestions("GB200"), ["NVIDIA-GB200"]);
    assert_eq!(suggestions("H200").len(), 2);
    assert_eq!(suggestions("MI300X").len(), CATALOGUE.len());
}

fn product(name: &str, mig: Option<(u32, u32)>, shared: bool) -> Product {
    let mig = mig.map(|(compute_slices, memory_gb)| Mig { compute_slices, memory_gb });
    Product { name: name.into(), mig, shared }
}

#[test]
fn labels_are_read_with_their_suffixes() {
    const A100: &str = "NVIDIA-A100-SXM4-40GB";
    for (label, expected) in [
        ("Tesla-T4", product("Tesla-T4", None, false)),
        ("cpu", product(CPU, None, false)),
        ("NVIDIA-A40", product("NVIDIA-A40", None, false)),
        ("Tesla-T4-SHARED", product("Tesla-T4", None, true)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", product(A100, Some((1, 5)), false)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb.me", product(A100, Some((1, 5)), false)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb+me", product(A100, Some((1, 5)), false)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-me", product(A100, Some((1, 5)), false)),
        ("NVIDIA-A100-SXM4-40GB-MIG-2g.10gb.me.all", product(A100, Some((2, 10)), false)),
        ("NVIDIA-A100-SXM4-40GB-MIG-7g.40gb-SHARED", product(A100, Some((7, 40)), true)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb.me-SHARED", product(A100, Some((1, 5)), true)),
        ("NVIDIA-H200-MIG-7g.141gb", product("NVIDIA-H200", Some((7, 141)), false)),
    ] {
        assert_eq!(parse(label), Ok(expected), "{label}");
    }
}

#[test]
fn labels_that_name_no_usable_card_are_refused_with_what_is_wrong() {
    let profile = |text: &str| ProductError::Profile(text.into());
    let suffixes = |text: &str| ProductError::Suffixes(text.into());
    for (label, expected) in [
        ("", ProductError::Length(0)),
        (&*"A".repeat(64), ProductError::Length(64)),
        ("NVIDIA A10", ProductError::Character(' ')),
        ("NVIDIA-A10\n", ProductError::Character('\n')),
        ("NVIDIA-Ä10", ProductError::Character('Ä')),
        ("-SHARED", suffixes("-SHARED")),
        ("-MIG-1g.5gb", suffixes("-MIG-1g.5gb")),
        ("--A10", suffixes("--A10")),
        ("A10-SHARED-SHARED", suffixes("A10-SHARED-SHARED")),
        ("A10-SHARED-MIG-1g.5gb", suffixes("A10-SHARED-MIG-1g.5gb")),
        ("A10-MIG-INVALID", ProductError::Uneven),
        ("A10-MIG-", profile("")),
        ("A10-MIG-1g.5gb-MIG-1g.5gb", profile("1g.5gb-MIG-1g.5gb")),
        ("A10-MIG-0g.5gb", profile("0g.5gb")),
        ("A10-MIG-8g.5gb", profile("8g.5gb")),
        ("A10-MIG-01g.5gb", profile("01g.5gb")),
        ("A10-MIG-+1g.5gb", profile("+1g.5gb")),
        ("A10-MIG-1g.0gb", profile("1g.0gb")),
        ("A10-MIG-1g.1001gb", profile("1g.1001gb")),
        ("A10-MIG-1g.4294967297gb", profile("1g.4294967297gb")),
        ("A10-MIG-1g.99999999999999999999gb", profile("1g.99999999999999999999gb")),
        ("A10-MIG-1g.5", profile("1g.5")),
        ("A10-MIG-1c.3g.20gb", profile("1c.3g.20gb")),
        ("A10-MIG-1g.5gb2", profile("1g.5gb2")),
        ("A10-MIG-1g.5gb.", profile("1g.5gb.")),
        ("A10-MIG-1g.5gb..me", profile("1g.5gb..me")),
    ] {
        assert_eq!(parse(label), Err(expected), "{label}");
    }
}

#[test]
fn the_figures_of_a_whole_card_are_not_given_for_a_part_of_it() {
    for card in CATALOGUE {
        for suffix in ["-SHARED", "-MIG-1g.5gb", "-MIG-1g.5gb-SHARED"] {
            assert_eq!(lookup(&format!("{}{suffix}", card.product)), None);
        }
    }
}

#[test]
fn a_pattern_means_parts_of_cards_only_where_it_says_so() {
    let (slice, turn) = ("A10-MIG-1g.5gb", "A10-SHARED");
    for (pattern, meant) in [
        ("*", vec!["A10"]),
        ("A1*", vec!["A10"]),
        ("A10", vec!["A10"]),
        ("A10-*", vec![]),
        ("A10-MIG-*", vec![slice]),
        (slice, vec![slice]),
        (turn, vec![turn]),
        ("A10-SHARED*", vec![turn]),
        ("A10-MIG-1g.5gb-SHARED", vec!["A10-MIG-1g.5gb-SHARED"]),
    ] {
        let all = ["A10", slice, turn, "A10-MIG-1g.5gb-SHARED"];
        let found: Vec<_> = all.into_iter().filter(|product| matches(pattern, product)).collect();
        assert_eq!(found, meant, "{pattern}");
    }
}

#[test]
fn a_slice_has_its_own_memory_and_sevenths_of_the_speed() {
    let share = |label: &str| parse(label).expect("a label").share();
    let slice = share("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb").expect("known");
    assert_eq!(slice, Share { memory: 20_000_000_000, speed: 3.0 / 7.0 });
    let whole = Share { memory: known("NVIDIA-H200").memory(), speed: 1.0 };
    assert_eq!(share("NVIDIA-H200"), Some(whole));
    assert_eq!(share("NVIDIA-H200-SHARED"), Some(whole));
    assert_eq!(share("NVIDIA-H200-MIG-7g.1000gb"), Some(whole));
    assert_eq!(share("NVIDIA-A30-MIG-1g.6gb"), None);
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_read_or_refused(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_nearly_a_label_is_read_to_a_name_without_suffixes_or_refused(
        text in "[A-Z]{0,2}(-MIG-|-SHARED|[0-9]{0,11}g\\.[0-9]{0,11}gb|[.+-]me|-){0,5}"
    ) {
        if let Ok(read) = parse(&text) {
            prop_assert_eq!(parse(&read.name), Ok(product(&read.name, None, false)));
        }
    }

    #[test]
    fn suffixes_leave_the_name_of_every_known_card(
        card in prop::sample::select(CATALOGUE),
        slice in prop::option::of((1_u32..=7, 1_u32..=1_000)),
        attribute in prop::sample::select(vec!["", ".me", "+me", "-me", ".me.all", ".gfx"]),
        shared: bool,
    ) {
        let mut label = card.product.to_owned();
        if let Some((slices, gb)) = slice {
            label += &format!("-MIG-{slices}g.{gb}gb{attribute}");
        }
        if shared {
            label += "-SHARED";
        }
        let read = parse(&label).expect("a label");
        prop_assert_eq!(read.card(), lookup(card.product));
        let share = read.share().expect("known");
        prop_assert!(share.memory > 0 && share.memory <= card.memory());
        prop_assert!(share.speed > 0.0 && share.speed <= 1.0);
        prop_assert_eq!(read, product(card.product, slice, shared));
    }
}
