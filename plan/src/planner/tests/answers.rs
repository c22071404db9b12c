//! Questions that are asked of the planner in several ways have one answer.

use super::bounds::{Case, any_case, small_model};
use super::*;
use crate::cluster::{Bandwidth, Links, Node, NodeCard, Topology};

/// Cards of one kind, and a plan of them on this machine.
fn lab(count: u32) -> (IslandRequest, Execution) {
    let cards: Vec<_> = (0..count).map(|index| card(index, RTX4090)).collect();
    (island("lab", &[device(RTX4090, count)]), local(&cards))
}

/// What `planner::whole` makes of nodes: all of their cards, fastest product first.
fn whole(nodes: &[Node]) -> IslandRequest {
    let mut products: Vec<(&str, u32, u64)> = Vec::new();
    for card in nodes.iter().flat_map(|node| &node.cards) {
        match products.iter_mut().find(|(product, ..)| *product == card.product) {
            Some((_, count, _)) => *count += 1,
            None => products.push((&card.product, 1, card.memory)),
        }
    }
    products.sort_by(|a, b| gpu::tflops(b.0).total_cmp(&gpu::tflops(a.0)));
    let devices: Vec<_> = products.iter().map(|(product, n, _)| device(product, *n)).collect();
    island("whole", &devices)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn nodes_that_hold_a_model_have_a_plan_and_are_as_fast_as_that(case in any_case()) {
        let Execution::Cluster { nodes } = &case.execution else { unreachable!("nodes") };
        let pipeline = PipelineRequest::default();
        let plan = plan_run(&case.run, &[whole(nodes)], &case.execution);
        // Of unlike cards the largest are tried, so that a plan may be found where this says no.
        prop_assert!(!holds(&case.run, nodes, pipeline) || plan.is_ok());
        let speed = tokens_per_second(&case.run, nodes, (Objective::Throughput, pipeline));
        let planned = plan.ok().map(|plan| plan.islands[0].spec.tokens_per_second);
        prop_assert_eq!(speed.is_some(), planned.is_some());
        if let (Some(speed), Some(planned)) = (speed, planned) {
            prop_assert!((speed / planned - 1.0).abs() < 1e-9, "{speed} of {planned}");
        }
    }

    #[test]
    fn a_plan_adds_up(case in any_case()) {
        let Case { run, island, execution } = &case;
        let Ok(plan) = plan_run(run, std::slice::from_ref(island), execution) else {
            return Ok(());
        };
        let own = &plan.islands[0];
        let tokens = f64::from(run.sequences) * f64::from(run.sequence_length);
        prop_assert!((own.spec.tokens_per_second * own.step_seconds() / tokens - 1.0).abs() < 1e-9);
        prop_assert_eq!(own.correction, island.correction);
        let flops = own.spec.tokens_per_second * run.model.flops_per_token(run.sequence_length);
        let mfu = flops / (own.usage.used_tflops * 1e12);
        prop_assert!((own.mfu / mfu - 1.0).abs() < 1e-9 && own.mfu > 0.0);
        // Nothing is faster than its datasheet, whatever is measured.
        prop_assert!(own.mfu * island.correction.min(1.0) < 1.0, "{}", own.mfu);
        prop_assert_eq!(own.usage.used as usize, devices(own).len());
        prop_assert!(own.usage.used <= own.usage.given);
        prop_assert!((0.0..=1.0 + 1e-12).contains(&own.usage.speed()));
        // A card is in one process, once, and where it says.
        let mut places = BTreeSet::new();
        for rank in &own.spec.ranks {
            for device in &rank.devices {
                if let DeviceSpec::Cuda { index, .. } = device.device {
                    prop_assert!(places.insert((rank.node.clone(), index)));
                }
            }
        }
        let nodes = own.spec.ranks.iter().flat_map(|rank| {
            rank.devices.iter().map(move |_| rank.node.clone())
        });
        let planned = own.cards.iter().map(|card| card.node.clone());
        prop_assert_eq!(nodes.collect::<Vec<_>>(), planned.collect::<Vec<_>>());
        // A card computes no longer than a step lasts.
        let step = own.step_seconds() * (1.0 + 1e-9);
        prop_assert!(own.cards.iter().all(|card| card.compute_seconds <= step), "{own:#?}");
        for part in [own.step.compute, own.step.tensor, own.step.bubble, own.step.all_reduce] {
            prop_assert!(part >= 0.0 && part.is_finite());
        }
    }

    #[test]
    fn a_slower_step_by_measurement_is_a_slower_plan(case in any_case()) {
        let Case { run, island, execution } = &case;
        let with = |correction| {
            let island = IslandRequest { correction, ..island.clone() };
            plan_run(run, &[island], execution).map(|mut plan| plan.islands.remove(0))
        };
        let (Ok(fast), Ok(slow)) = (with(1.0), with(2.0)) else { return Ok(()) };
        if island.objective == Objective::Throughput {
            // Links are measured by themselves: what is corrected is all but them.
            let ratio = slow.step_seconds() / fast.step_seconds();
            prop_assert!((0.99..=2.01).contains(&ratio), "{ratio}");
        }
    }
}

/// One computes in bf16 and the other in f32: of two stages only one way round fits, whichever card
/// comes first.
#[test]
fn a_model_is_held_where_it_depends_on_which_card_has_the_head() {
    let model = small_model(2, 1024, 35_103, false);
    let run = RunRequest { model, sequence_length: 1024, ..run("llama-demo", 1) };
    let card =
        |product: &str| NodeCard { product: product.into(), memory: 2_343_547_780, measured: None };
    for products in [[RTX4090, "Tesla-T4"], ["Tesla-T4", RTX4090]] {
        let nodes = vec![Node {
            name: "a".into(),
            topology: Topology::default(),
            cards: products.map(card).to_vec(),
            links: Links::default(),
        }];
        assert!(holds(&run, &nodes, PipelineRequest::default()), "{products:?}");
        let on = Execution::Cluster { nodes: nodes.clone() };
        let plan = plan_run(&run, &[whole(&nodes)], &on).expect("it fits");
        assert_eq!(Grid::of(&plan.islands[0].spec).stages, 2);
    }
}

#[test]
fn an_island_by_itself_is_planned_as_it_is_in_its_run() {
    let (island, on) = lab(4);
    let run = run("llama-1b", 32);
    let alone = plan_island(&run, 1, &island, &on).expect("it fits");
    let plan = plan_run(&run, &[island], &on).expect("it fits");
    let mut expected = plan.islands[0].clone();
    (expected.spec.inner_steps, expected.spec.index) = (0, 0);
    assert_eq!(alone, expected);
}

#[test]
fn islands_that_were_planned_one_at_a_time_begin_as_a_run_of_all() {
    let run = run("llama-demo", 8);
    let uplink = Some(Bandwidth { up: 1e8, down: 5e8 });
    let islands: Vec<IslandRequest> = [("a", H100), ("b", RTX4090), ("c", RTX3090)]
        .into_iter()
        .map(|(name, product)| IslandRequest { uplink, ..island(name, &[device(product, 1)]) })
        .collect();
    let cards = [H100, RTX4090, RTX3090];
    let cards: Vec<_> = (0..).zip(cards).map(|(index, product)| card(index, product)).collect();
    let on = local(&cards);
    let plan = plan_run(&run, &islands, &on).expect("it fits");
    let participants = islands.iter().map(|island| {
        let own = plan_island(&run, 3, island, &on).expect("it fits");
        Participant {
            name: island.name.clone(),
            step_seconds: own.step_seconds(),
            step_tokens: 8 * 256,
            uplink,
        }
    });
    let beginning = begin(&run, participants.collect()).expect("they suit each other");
    assert_eq!((beginning.run, beginning.outer), (plan.run, plan.outer));
    let refused = begin(&run, Vec::new()).expect_err("nobody");
    assert_eq!(refused.0[0].reason, Reason::NoRounds);
    assert!(refused.to_string().contains("the run has no island"), "{refused}");
}

#[test]
fn contributions_of_all_islands_are_kept_beside_a_process_on_the_cpu() {
    let run = run("llama-160m", 8);
    let roomy = DeviceRequest { memory: Some(64 << 30), ..device(CPU, 2) };
    let (cpus, on) = (island("a", &[roomy]), local(&[]));
    let needs = |islands| {
        let plan = plan_island(&run, islands, &cpus, &on).expect("it fits");
        assert!(plan.spec.sharding.stages.iter().all(|stage| !stage.recompute));
        plan.cards[0].memory.card()
    };
    // Two rounds of a hundred more, shared by two ranks; two thirds go where activations were.
    let contribution = cost::wire::contribution_bytes(&run.model, &run.sparse);
    let more = needs(101) - needs(1);
    assert!((3 * more).abs_diff(100 * contribution) <= 300, "{more} of {contribution}");
}

#[test]
fn what_a_contribution_takes_follows_what_is_kept_of_it() {
    let model = run("llama-160m", 1).model;
    let bytes = |top_k, value_bits| {
        let sparse = SparseSpec { top_k, value_bits, ..run("llama-demo", 1).sparse };
        cost::wire::contribution_bytes(&model, &sparse)
    };
    // 162,417,408 / 64 values of log2(64) + 1.5 bits of position, 2 of value and half a bit.
    assert_eq!(bytes(64, 2), (162_417_408.0 / 64.0 * 10.0 / 8.0_f64).ceil() as u64);
    assert!(bytes(64, 1) < bytes(64, 2) && bytes(32, 2) < bytes(64, 2));
    // Positions of all values of a chunk cost a bit and a half: Rice codes of zeros and noise.
    assert_eq!(bytes(4096, 2), (162_417_408.0 * 4.0 / 8.0_f64).ceil() as u64);
}

#[test]
fn a_usage_is_the_sum_of_its_islands() {
    let of =
        |used, given, used_tflops, given_tflops| Usage { used, given, used_tflops, given_tflops };
    let sum: Usage = [of(1, 2, 10.0, 40.0), of(3, 3, 30.0, 30.0)].into_iter().sum();
    assert_eq!(sum, of(4, 5, 40.0, 70.0));
    assert_eq!(sum.speed(), 40.0 / 70.0);
    assert_eq!(of(3, 3, 0.0, 0.0).speed(), 1.0, "all of what nobody knows the speed of");
    assert_eq!(std::iter::empty::<Usage>().sum::<Usage>(), Usage::default());
}

#[test]
fn refusals_are_listed_a_line_each_and_say_whose_they_are() {
    let refusal = |island: Option<&str>, reason| Refusal {
        island: island.map(Into::into),
        reason,
        message: "it is so".into(),
        remedy: "change it".into(),
    };
    let all =
        Refusals(vec![refusal(Some("a"), Reason::NotEnoughCards), refusal(None, Reason::NoRounds)]);
    let expected = "island a: it is so (NotEnoughCards): change it\n\
                    it is so (NoRounds): change it";
    assert_eq!(all.to_string(), expected);
}
