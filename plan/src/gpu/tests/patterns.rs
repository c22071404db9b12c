//! Which cards a pattern means, what is known of them, and what is said where nothing is.

use super::*;
use crate::spec::{BatchSpec, CardSpec, RankSpec, Sharding};

fn any_product() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec!["", "-SHARED", "-MIG-1g.5gb", "-MIG-2g.10gb-SHARED"]);
    (prop::sample::select(CATALOGUE), suffix)
        .prop_map(|(card, end)| format!("{}{end}", card.product))
}

proptest! {
    #[test]
    fn a_name_means_itself_and_its_beginnings_mean_it_where_they_say_of_what_sort(
        product in any_product(),
        end in any::<prop::sample::Index>(),
    ) {
        prop_assert!(matches(&product, &product));
        let end = end.index(product.len() + 1);
        let family = format!("{}*", &product[..end]);
        let says = |part: &str| !product.contains(part) || product[..end].contains(part);
        prop_assert_eq!(matches(&family, &product), says("-MIG-") && says("-SHARED"));
        // A name without a star means nothing else.
        let longer = format!("{product}x");
        prop_assert!(!matches(&product, &longer) && !matches(&longer, &product));
    }

    #[test]
    fn a_familys_card_is_of_it_and_none_of_it_is_faster(
        card in prop::sample::select(CATALOGUE),
        end in any::<prop::sample::Index>(),
    ) {
        let family = format!("{}*", &card.product[..end.index(card.product.len() + 1)]);
        let found = lookup(&family).expect("one at least");
        prop_assert!(matches(&family, found.product));
        let all = CATALOGUE.iter().filter(|other| matches(&family, other.product));
        prop_assert!(all.into_iter().all(|other| other.tflops() <= found.tflops()));
        let sentence = assumed(&family).expect("a family that is known");
        prop_assert!(sentence.contains(&family) && sentence.contains(found.product));
        prop_assert_eq!(assumed(card.product), None, "a name is what it says");
    }

    #[test]
    fn a_part_has_of_its_card_what_its_name_says(product in any_product()) {
        let (card, share) = part(&product).expect("of a known card");
        prop_assert!(product.starts_with(card.product));
        prop_assert_eq!(is_part(&product), product != card.product);
        prop_assert_eq!(is_shared(&product), product.ends_with("-SHARED"));
        prop_assert!(share.memory <= card.memory() && share.speed <= 1.0);
        let expected = card.tflops() * share.speed;
        prop_assert_eq!(tflops(&product), expected);
    }

    #[test]
    fn suggestions_are_never_none_and_of_the_catalogue(name in any::<String>()) {
        let found = suggestions(&name);
        prop_assert!(!found.is_empty());
        prop_assert!(found.iter().all(|product| lookup(product).is_some()));
    }

    #[test]
    fn a_part_of_a_name_suggests_those_that_have_it(
        card in prop::sample::select(CATALOGUE),
        (start, end) in any::<(prop::sample::Index, prop::sample::Index)>(),
        upper in any::<bool>(),
    ) {
        let (start, end) = (start.index(card.product.len()), end.index(card.product.len()));
        let piece = &card.product[start.min(end)..=start.max(end)];
        if piece.chars().all(|c| c == '-') {
            return Ok(());
        }
        let piece = if upper { piece.to_uppercase() } else { piece.to_lowercase() };
        prop_assert!(suggestions(&piece).contains(&card.product), "{piece}");
    }
}

fn island(cards: &[(&str, bool)]) -> IslandSpec {
    let device = |(product, emulated): &(&str, bool)| CardSpec {
        product: (*product).into(),
        device: match emulated {
            true => DeviceSpec::Cpu { threads: 1, speed: 0.5 },
            false => DeviceSpec::Cuda { index: 0, precision: Precision::Bf16 },
        },
        memory_bytes: 1,
        planned_bytes: 1,
    };
    let rank = |card| RankSpec { node: None, devices: vec![device(card)] };
    IslandSpec {
        name: "lab".into(),
        index: 0,
        epoch: 1,
        inner_steps: 1,
        tokens_per_second: 1.0,
        sharding: Sharding::whole(1),
        batches: vec![BatchSpec { micro_batches: 1, micro_batch_size: 1 }],
        ranks: cards.iter().map(rank).collect(),
    }
}

#[test]
fn the_peak_of_an_island_is_that_of_its_cards_where_all_are_known_and_real() {
    let of = |cards: &[(&str, bool)]| tflops_of(&island(cards));
    let (h100, l4) = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-L4");
    assert_eq!(of(&[(h100, false), (l4, false)]), Some(989.5 + 121.0));
    // Three sevenths of an A100; f32 of a T4, which trains in that.
    assert_eq!(of(&[("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", false)]), Some(312.0 * (3.0 / 7.0)));
    assert_eq!(of(&[("Tesla-T4", false)]), Some(8.1));
    assert_eq!(of(&[(h100, false), ("Abacus", false)]), None);
    assert_eq!(of(&[(h100, false), (l4, true)]), None, "emulated");
    assert_eq!((tflops("Abacus"), tflops("not a label")), (0.0, 0.0));
}
