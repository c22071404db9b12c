//! Laws that both paths of every operation keep, and the rotary tables by their formula.

use super::*;

const BOTH: [Ops; 2] = [Ops::Fused, Ops::Composed(Kind::Float)];
const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

fn wave(shape: &[i64], step: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> =
        (0..count).map(|index| ((index as f64 * 1.7 + step).sin()) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn near(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    for (at, (a, b)) in values(found).iter().zip(values(expected)).enumerate() {
        assert!((a - b).abs() < 2e-5, "{what} {at}: {a} {b}");
    }
}

#[test]
fn rotary_tables_turn_the_pairs_of_a_head_by_angles_that_fall_with_their_place() {
    let (positions, width, theta) = (50, 8, 10_000.0f64);
    let rotary = Rotary::new(positions, width, theta, Device::Cpu).unwrap();
    for position in 0..positions {
        for at in 0..width {
            // Both halves have the angles of the first.
            let pair = (at % (width / 2)) as f64;
            let angle = position as f64 / theta.powf(2.0 * pair / width as f64);
            let found = [&rotary.cosine, &rotary.sine].map(|t| t.double_value(&[position, at]));
            for (found, expected) in found.into_iter().zip([angle.cos(), angle.sin()]) {
                assert!((found - expected).abs() < 2e-5, "{position} {at}: {found} {expected}");
            }
        }
    }
    let first = rotary.first(3).unwrap();
    assert_eq!(first.cosine.size(), [3, width]);
    assert!(rotary.first(51).is_err(), "no table reaches further");
}

#[test]
fn a_turn_keeps_lengths_and_the_product_of_two_depends_on_their_distance_alone() {
    let rotary = Rotary::new(20, 8, 500.0, Device::Cpu).unwrap();
    // The same vector at every position: [1, 1, 20, 8].
    let same = |step: f64| wave(&[1, 1, 1, 8], step).expand([1, 1, 20, 8], false);
    let turned = |step: f64| rotary.turn(&same(step), Kind::Float).unwrap();
    let (query, key) = (turned(0.2), turned(0.9));
    let length = values(&same(0.2)).iter().take(8).map(|v| v * v).sum::<f64>();
    let dots = query.view([20, 8]).matmul(&key.view([20, 8]).tr());
    let lengths = (&query * &query).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    assert!(values(&lengths).iter().all(|found| (found - length).abs() < 1e-5));
    for distance in 0..19 {
        let first = dots.double_value(&[distance, 0]);
        for start in 0..20 - distance {
            let found = dots.double_value(&[start + distance, start]);
            assert!((found - first).abs() < 1e-5, "{distance} from {start}: {found} {first}");
        }
    }
}

struct Heads {
    batch: i64,
    length: i64,
    heads: i64,
    key_value_heads: i64,
}

impl Heads {
    const WIDTH: i64 = 8;

    fn shape(&self) -> AttentionShape {
        let Heads { batch, heads, key_value_heads, .. } = *self;
        AttentionShape { batch, heads, key_value_heads }
    }

    fn mixed(&self) -> Tensor {
        let width = (self.heads + 2 * self.key_value_heads) * Heads::WIDTH;
        wave(&[self.batch * self.length, width], 0.7)
    }

    fn rotary(&self) -> Rotary {
        Rotary::new(self.length, Heads::WIDTH, 500.0, Device::Cpu).unwrap()
    }
}

fn heads() -> [Heads; 4] {
    let of =
        |batch, length, heads, key_value_heads| Heads { batch, length, heads, key_value_heads };
    [of(1, 1, 1, 1), of(2, 7, 4, 4), of(3, 5, 4, 2), of(1, 33, 6, 1)]
}

#[test]
fn both_paths_attend_alike_and_so_do_their_gradients() {
    for heads in heads() {
        let run = |ops: Ops| {
            let mixed = heads.mixed().set_requires_grad(true);
            let out = ops.attention(&mixed, &heads.rotary(), heads.shape()).unwrap();
            let slope = wave(&out.size(), 2.1);
            tch_ext::backward(&[(&out, &slope)]).unwrap();
            (out.detach(), mixed.grad())
        };
        let ([fused, composed], what) = (BOTH.map(run), heads.length);
        near(&fused.0, &composed.0, &format!("length {what}"));
        near(&fused.1, &composed.1, &format!("gradient, length {what}"));
    }
}

#[test]
fn no_token_sees_a_later_one_or_another_sequence() {
    for ops in BOTH {
        for heads in heads() {
            let run =
                |mixed: &Tensor| ops.attention(mixed, &heads.rotary(), heads.shape()).unwrap();
            let before = run(&heads.mixed());
            for changed in 0..heads.batch * heads.length {
                let mixed = heads.mixed();
                let _ = mixed.get(changed).f_fill_(3.0).unwrap();
                let after = run(&mixed);
                let first = changed / heads.length * heads.length;
                for token in 0..heads.batch * heads.length {
                    if token < changed || token >= first + heads.length {
                        near(&after.get(token), &before.get(token), &format!("{changed} {token}"));
                    }
                }
            }
        }
    }
}

#[test]
fn a_first_token_attends_to_itself_alone() {
    for ops in BOTH {
        let heads = Heads { batch: 2, length: 3, heads: 4, key_value_heads: 2 };
        let mixed = heads.mixed();
        let out = ops.attention(&mixed, &heads.rotary(), heads.shape()).unwrap();
        for sequence in 0..2 {
            let row = mixed.get(sequence * 3);
            // Of each pair of query heads, the value of their own.
            let value = |head: i64| row.narrow(0, (4 + 2 + head) * Heads::WIDTH, Heads::WIDTH);
            let expected = Tensor::cat(&[value(0), value(0), value(1), value(1)], 0);
            near(&out.get(sequence * 3), &expected, "its own value");
        }
    }
}

#[test]
fn a_norm_makes_rows_of_one_size_and_hands_on_the_sum() {
    let weight = || Leaf {
        value: Tensor::ones([6], OPTIONS).set_requires_grad(true),
        gradient: Tensor::zeros([6], OPTIONS),
    };
    for ops in BOTH {
        let (x, delta) = (wave(&[5, 6], 0.1) * 7.0, wave(&[5, 6], 0.4));
        let (normed, sum) = ops.norm(&x, Some(&delta), &weight(), 1e-12).unwrap();
        near(&sum, &(&x + &delta), "the sum");
        for row in values(&normed).chunks(6) {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / 6.0;
            assert!((mean - 1.0).abs() < 1e-5, "{mean}");
        }
        let (alone, kept) = ops.norm(&x, None, &weight(), 1e-12).unwrap();
        near(&kept, &x, "nothing is added");
        let scaled = ops.norm(&(&x * 100.0), None, &weight(), 1e-12).unwrap().0;
        near(&scaled, &alone, "the size of a row does not matter");
        let zeros = ops.norm(&(&x * 0.0), None, &weight(), 1e-5).unwrap().0;
        assert!(values(&zeros).iter().all(|value| *value == 0.0), "no division by nothing");
    }
}

#[test]
fn a_gate_is_silu_of_one_half_times_the_other() {
    for ops in BOTH {
        let both = Tensor::from_slice(&[0.0f32, 1.0, -1.0, 20.0, -20.0, 5.0, 7.0, -3.0, 2.0, 4.0])
            .view([1, 10]);
        let found = values(&ops.gate(&both).unwrap());
        let silu = |v: f64| v / (1.0 + (-v).exp());
        let expected = [(0.0, 5.0), (1.0, 7.0), (-1.0, -3.0), (20.0, 2.0), (-20.0, 4.0)]
            .map(|(g, u)| silu(g) * u);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{ops:?}: {found} {expected}");
        }
    }
}

#[test]
fn the_path_follows_from_device_and_kind() {
    let compute = |device, kind| Compute { device, kind, threads: 1 };
    assert_eq!(Ops::new(compute(Device::Cpu, Kind::Float)), Ops::Fused);
    let bf16 = Ops::new(compute(Device::Cpu, Kind::BFloat16));
    assert_eq!((bf16, bf16.kind()), (Ops::Composed(Kind::BFloat16), Kind::BFloat16));
    let card = Ops::new(compute(Device::Cuda(0), Kind::Float));
    assert_eq!((card, card.kind()), (Ops::Composed(Kind::Float), Kind::Float));
    assert_eq!(Ops::Fused.kind(), Kind::Float);
}

#[test]
fn products_are_in_f32_whatever_kind_they_are_multiplied_in() {
    let (x, weight) = (wave(&[3, 5], 0.2), wave(&[4, 5], 0.6));
    let expected = x.matmul(&weight.tr());
    for ops in BOTH {
        near(&ops.product(&x, &weight).unwrap(), &expected, "a product");
    }
    let coarse = Ops::Composed(Kind::BFloat16).product(&x, &weight).unwrap();
    assert_eq!(coarse.kind(), Kind::Float);
    // Eight bits of mantissa.
    let apart = (&coarse - &expected).abs().max().double_value(&[]);
    assert!(apart > 0.0 && apart < 0.05, "{apart}");
}
