//! The model of time: figures by hand, and what holds of all of them.

use super::*;
use crate::cluster::{Curve, Links, Reached};
use crate::model::Llama;
use crate::part::Parts;
use crate::planner::cards::Host;
use crate::planner::cost::fabric::{Fabric, Message, Spot};
use crate::planner::cost::time::{Speed, Work, useful_micro_batch};

fn llama(name: &str) -> Llama {
    preset(name).expect("a preset").validate().expect("a sound preset")
}

fn near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 1e-9
}

/// A card that reaches 100 TFLOP/s and 1 TB/s.
fn round_card() -> Speed {
    let reached = Reached { f32_tflops: 10.0, bf16_tflops: Some(100.0), bandwidth_gbps: 1000.0 };
    Speed::gpu(0.0, 0.0, Precision::Bf16, Some(reached))
}

#[test]
fn a_layer_on_a_card_takes_its_products_and_then_its_bytes() {
    // llama-8b: a layer has 218,112,000 parameters, 235,520 bytes of activations for each token.
    let model = llama("llama-8b");
    assert_eq!(model.layer_parameters(), 218_112_000);
    let parts = Parts::new(&model, 1).expect("a cut");
    let (model, parts) = (&model, &parts);
    let work =
        |size| Work { model, parts, sequence_length: 2048, size, precision: Precision::Bf16 };
    let tokens = 4.0 * 2048.0;
    // 2 FLOPs for each parameter and 4 s times the width of the queries, forward.
    let flops = tokens * (2.0 * 218_112_000.0 + 4.0 * 4096.0 * 2048.0);
    let moved = tokens * 235_520.0 / 1e12;
    let own = work(4).layer(&round_card());
    assert!(near(own.forward, flops / 1e14 + 3.0 * moved), "{own:?}");
    let gradients = 10.0 * 218_112_000.0 / 1e12;
    assert!(near(own.backward, 2.0 * flops / 1e14 + 5.0 * moved + gradients), "{own:?}");
    // A single token waits for its weights to be read, 2 bytes each: once, and twice in backward.
    let few = Work { sequence_length: 1, ..work(1) };
    let own = few.layer(&round_card());
    let weights = 2.0 * 218_112_000.0 / 1e12;
    assert!(near(own.forward, weights + 3.0 * 235_520.0 / 1e12), "{own:?}");
    // The head of 128,256 rows: 2 FLOPs and 40 bytes for each logit, half of these forward.
    let own = work(4).head(&round_card(), 128_256);
    let logits = tokens * 128_256.0;
    let expected = logits * 2.0 * 4096.0 / 1e14 + logits * 20.0 / 1e12;
    assert!(near(own.forward, expected), "{own:?}");
}

#[test]
fn small_layers_take_as_long_as_their_launches() {
    let model = llama("llama-demo");
    let parts = Parts::new(&model, 1).expect("a cut");
    let work = Work {
        model: &model,
        parts: &parts,
        sequence_length: 16,
        size: 1,
        precision: Precision::Bf16,
    };
    let card = work.layer(&round_card());
    assert!(near(card.forward, 1e-4) && near(card.backward, 2e-4), "{card:?}");
    // On a CPU they come on top of the work.
    let flops = 16.0 * model.layer_flops_per_token(16);
    let cpu = work.layer(&Speed::cpu(2, None));
    assert!(near(cpu.both(), flops / (2.0 * 0.05e12) + 2e-4), "{cpu:?}");
    // Whoever emulates a slower card rests in proportion.
    let slow = work.layer(&Speed::cpu(2, None).slowed(0.25));
    assert!(near(slow.both(), 4.0 * cpu.both()), "{slow:?}");
}

#[test]
fn the_optimizer_takes_a_time_for_each_parameter() {
    // 28 bytes for each at 1 TB/s, and what was measured of a CPU's thread.
    assert!(near(round_card().optimizer(1_000_000_000), 0.028));
    assert!(near(Speed::cpu(4, None).optimizer(1_000_000_000), 1.4));
    assert!(near(round_card().slowed(0.5).optimizer(1_000_000_000), 0.056));
    // A datasheet's bandwidth is reached to four fifths.
    let sheet = Speed::gpu(100.0, 1000.0, Precision::Bf16, None);
    assert!(near(sheet.optimizer(1_000_000_000), 0.028 / 0.8));
}

#[test]
fn a_micro_batch_is_of_use_up_to_so_many_tokens_and_sequences() {
    let table = [
        (false, 1, 64),
        (false, 512, 64),
        (false, 2048, 16),
        (false, 32_768, 1),
        (false, u32::MAX, 1),
        (true, 1, 64),
        (true, 256, 8),
        (true, 2048, 1),
        (true, 1_000_000, 1),
    ];
    for (on_cpu, length, expected) in table {
        assert_eq!(useful_micro_batch(on_cpu, length), expected, "{on_cpu} {length}");
    }
}

proptest! {
    #[test]
    fn work_grows_with_tokens_and_shrinks_with_those_that_share_it(
        name in prop::sample::select(&PRESETS[..]),
        sequence_length in 1_u32..4096,
        size in 1_u32..32,
        (tflops, gbps) in (1.0_f64..2000.0, 100.0_f64..8000.0),
    ) {
        let model = llama(name);
        let speed = Speed::gpu(tflops, gbps, Precision::Bf16, None);
        let seconds = |parts: &Parts, size, sequence_length| {
            let precision = Precision::Bf16;
            let work = Work { model: &model, parts, sequence_length, size, precision };
            [work.layer(&speed).both(), work.head(&speed, parts.head_rows(parts.heaviest())).both()]
        };
        let whole = Parts::new(&model, 1).expect("a cut");
        let own = seconds(&whole, size, sequence_length);
        let larger = seconds(&whole, size + 1, sequence_length);
        let longer = seconds(&whole, size, sequence_length + 1);
        let twice = seconds(&whole, 2 * size, sequence_length);
        for at in 0..2 {
            prop_assert!(own[at] > 0.0 && own[at].is_finite());
            prop_assert!(larger[at] >= own[at] && longer[at] >= own[at]);
            // One large micro-batch is no slower than two.
            prop_assert!(twice[at] <= 2.0 * own[at] * (1.0 + 1e-9));
        }
        if let Ok(halves) = Parts::new(&model, 2) {
            let half = seconds(&halves, size, sequence_length);
            for at in 0..2 {
                prop_assert!(half[at] <= own[at] * (1.0 + 1e-9) && half[at] >= 0.49 * own[at]);
            }
        }
        // A card of twice the speed is no slower, and at most twice as fast.
        let fast = Speed::gpu(2.0 * tflops, 2.0 * gbps, Precision::Bf16, None);
        let work = Work {
            model: &model, parts: &whole, sequence_length, size, precision: Precision::Bf16,
        };
        let ratio = work.layer(&speed).both() / work.layer(&fast).both();
        prop_assert!((1.0 - 1e-9..=2.0 + 1e-9).contains(&ratio), "{ratio}");
    }
}

/// Three nodes, of which the last has a slow network. Times are in bytes: no latency.
fn fabric() -> Fabric {
    let host = |network: f64| Host {
        name: None,
        links: Links {
            process: Some(Curve::linear(0.0, 1000.0)),
            node: Some(Curve::linear(0.0, 100.0)),
            network: Some(Curve::linear(0.0, network)),
        },
    };
    Fabric::new(&[host(10.0), host(10.0), host(2.0)], &[])
}

fn spots(of: &[(u32, usize)]) -> Vec<Spot> {
    of.iter().map(|(process, node)| Spot { process: *process, node: *node }).collect()
}

#[test]
fn messages_and_sums_go_at_the_speed_of_the_slower_end() {
    let message = Message::of(100.0, 2.0);
    let send = |from, to| fabric().messages(from, to, message, 1.0);
    let [a, b, slow] = spots(&[(0, 0), (1, 1), (2, 2)])[..] else { unreachable!("three") };
    // 400 bytes in f32 between processes, whatever they are inside.
    assert_eq!((send(a, b), send(a, slow), send(slow, a)), (40.0, 200.0, 200.0));
    assert_eq!(send(a, a), 0.2);
    // Two turns of half of it; four of a third.
    let sum = |of: &[(u32, usize)], sharing| fabric().sum(&spots(of), message, sharing);
    assert!(near(sum(&[(0, 0), (1, 1)], 1.0), 40.0));
    assert!(near(sum(&[(0, 0), (1, 1), (2, 2)], 1.0), 4.0 * 400.0 / 3.0 / 2.0));
    // Of one node no sum uses the network, however many do so.
    assert_eq!(sum(&[(0, 2), (1, 2)], 7.0), 4.0);
    // Cards of two processes: each gathers inside, at the same time, and then they exchange.
    let inside = 2.0 * 200.0 / 1000.0;
    assert!(near(sum(&[(0, 0), (0, 0), (1, 1), (1, 1)], 1.0), inside + 40.0));
}

proptest! {
    #[test]
    fn no_sum_or_message_between_nodes_is_faster_than_the_least(
        members in prop::collection::vec((0_u32..4, 0_usize..3), 2..8),
        values in 1.0_f64..1e9,
        sharing in 1.0_f64..9.0,
    ) {
        // A process is on one node.
        let of: Vec<_> = members.iter().map(|(p, node)| (p + 4 * *node as u32, *node)).collect();
        let team = spots(&of);
        let (fabric, message) = (fabric(), Message::of(values, 4.0));
        let nodes: BTreeSet<usize> = of.iter().map(|(_, node)| *node).collect();
        let processes: BTreeSet<u32> = of.iter().map(|(process, _)| *process).collect();
        let sum = fabric.sum(&team, message, sharing);
        if nodes.len() > 1 {
            let least = fabric.least_sum(processes.len() as u32, message.outside);
            prop_assert!(sum >= least * (1.0 - 1e-9), "{sum} of {least}");
            // More processes never add up in less: what is said for two holds for more.
            let two = fabric.least_sum(2, message.outside);
            prop_assert!(sum >= two * (1.0 - 1e-9));
        }
        for pair in team.windows(2) {
            let seconds = fabric.messages(pair[0], pair[1], message, sharing);
            prop_assert!(near(seconds, fabric.messages(pair[1], pair[0], message, sharing)));
            if pair[0].node != pair[1].node {
                let least = fabric.least_message(message, sharing);
                prop_assert!(seconds >= least * (1.0 - 1e-9));
            }
        }
        // Another member never makes it faster.
        let fewer = fabric.sum(&team[1..], message, sharing);
        prop_assert!(sum >= fewer * (1.0 - 1e-9), "{sum} with, {fewer} without");
    }
}
