//! Laws of the whole model: what recomputing, batches, scales and later tokens may change.

use super::*;

fn gradient_of(replica: &mut Replica, work: &[u32], batch: usize, seq: usize) -> Vec<f32> {
    replica.gradients().unwrap().fill(0.0);
    replica.forward_backward(work, batch, seq, 1.0 / (batch * seq) as f64).unwrap();
    replica.gradients().unwrap().to_vec()
}

#[test]
fn recomputing_changes_no_bit_of_loss_or_gradient() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let [mut kept, mut again] = [false, true].map(|recompute| composed(kind, recompute));
        for (batch, seq) in [(1, 1), (2, 12), (3, 16)] {
            let work = tokens(batch, seq);
            let [loss, other] = [&mut kept, &mut again]
                .map(|replica| replica.forward_backward(&work, batch, seq, 0.5).unwrap());
            assert_eq!(loss.to_bits(), other.to_bits(), "{kind:?} {batch} × {seq}");
            let own = gradient_of(&mut kept, &work, batch, seq);
            assert_eq!(own, gradient_of(&mut again, &work, batch, seq), "{kind:?} {batch} × {seq}");
        }
    }
}

#[test]
fn the_scale_is_a_factor_of_the_gradient_and_not_of_the_loss() {
    let work = tokens(2, 8);
    let mut replica = replica(true);
    let mut run = |scale: f64| {
        replica.gradients().unwrap().fill(0.0);
        let loss = replica.forward_backward(&work, 2, 8, scale).unwrap();
        (loss, replica.gradients().unwrap().to_vec())
    };
    let (loss, one) = run(1.0);
    let (same, quarter) = run(0.25);
    assert_eq!(loss, same);
    for (one, quarter) in one.iter().zip(&quarter) {
        assert!((one * 0.25 - quarter).abs() <= 1e-6 * one.abs().max(1e-3), "{one} {quarter}");
    }
    let (_, nothing) = run(0.0);
    assert!(nothing.iter().all(|value| *value == 0.0));
}

#[test]
fn gradients_add_up_until_a_step_is_made() {
    let mut twice = replica(false);
    let work = tokens(1, 10);
    for _ in 0..2 {
        twice.forward_backward(&work, 1, 10, 0.1).unwrap();
    }
    let twice = twice.gradients().unwrap().to_vec();
    let mut once = replica(false);
    once.forward_backward(&work, 1, 10, 0.2).unwrap();
    assert!(largest_difference(&twice, once.gradients().unwrap()) < 1e-5);
}

#[test]
fn a_loss_leaves_gradient_and_parameters_as_they_are() {
    let mut replica = replica(true);
    let work = tokens(2, 8);
    replica.forward_backward(&work, 2, 8, 0.1).unwrap();
    let (gradient, theta) =
        (replica.gradients().unwrap().to_vec(), replica.theta().unwrap().to_vec());
    replica.loss(&tokens(3, 5), 3, 5).unwrap();
    replica.logits(&[1, 2, 3], 2).unwrap();
    assert_eq!(replica.gradients().unwrap(), gradient);
    assert_eq!(replica.theta().unwrap(), theta);
}

#[test]
fn no_logit_depends_on_a_later_token_and_the_loss_of_a_batch_is_that_of_its_rows() {
    let mut replica = replica(false);
    let work = tokens(1, 11);
    let all = replica.logits(&work, work.len()).unwrap();
    for length in 1..work.len() {
        let prefix = replica.logits(&work[..length], 1).unwrap();
        let own = &all[(length - 1) * 37..length * 37];
        assert!(largest_difference(&prefix, own) < 2e-5, "{length}");
    }
    let batch = tokens(4, 9);
    let rows: f64 = batch.chunks(10).map(|row| replica.loss(row, 1, 9).unwrap()).sum();
    assert!((replica.loss(&batch, 4, 9).unwrap() - rows).abs() < 1e-4);
    // In whatever order they come.
    let turned: Vec<u32> = batch.chunks(10).rev().flatten().copied().collect();
    assert!((replica.loss(&turned, 4, 9).unwrap() - rows).abs() < 1e-4);
}

#[test]
fn more_positions_than_there_are_tokens_are_those_that_there_are() {
    let mut replica = replica(true);
    let few = replica.logits(&[1, 2], 2).unwrap();
    assert_eq!(replica.logits(&[1, 2], 100).unwrap(), few);
    assert_eq!(few.len(), 2 * 37);
    let error = replica.logits(&[0; 17], 1).unwrap_err();
    assert!(matches!(error, ModelError::TooLong { length: 17, longest: 16 }), "{error}");
    let error = replica.logits(&[u32::MAX], 1).unwrap_err();
    assert!(matches!(error, ModelError::Token { token: u32::MAX, .. }), "{error}");
}

#[test]
fn a_vocabulary_is_used_to_its_last_token() {
    let mut replica = replica(true);
    let loss = replica.forward_backward(&[36, 0, 36, 36], 1, 3, 1.0).unwrap();
    assert!(loss.is_finite() && loss > 0.0);
    let width = 24;
    let gradient = replica.gradients().unwrap();
    // The embedding is the first tensor; with tied weights each of its rows has a gradient.
    assert!(gradient[36 * width..37 * width].iter().any(|value| *value != 0.0));
}

#[test]
fn a_token_that_is_not_in_a_batch_moves_no_row_of_an_embedding_of_its_own() {
    let mut replica = replica(false);
    replica.forward_backward(&[1, 2, 3, 4], 1, 3, 1.0).unwrap();
    let gradient = replica.gradients().unwrap().to_vec();
    for (row, values) in gradient[..37 * 24].chunks(24).enumerate() {
        // The last token is a target and no input.
        let is_input = (1..=3).contains(&row);
        assert_eq!(values.iter().any(|value| *value != 0.0), is_input, "{row}");
    }
}

#[test]
fn one_graph_over_all_layers_gives_the_gradients_of_a_graph_for_each() {
    for tied in [false, true] {
        let work = tokens(2, 9);
        let (mut each, mut one) = (replica(tied), replica(tied));
        let loss = each.forward_backward(&work, 2, 9, 0.1).unwrap();
        let other = one.forward_backward_in_one_graph(&work, 2, 9, 0.1).unwrap();
        assert!((loss - other).abs() < 1e-4, "{loss} {other}");
        assert!(largest_difference(each.gradients().unwrap(), one.gradients().unwrap()) < 1e-5);
    }
}

#[test]
fn a_step_clips_by_the_norm_that_it_tells_and_zeroes_the_gradient() {
    let mut replica = replica(true);
    replica.forward_backward(&tokens(1, 8), 1, 8, 1.0).unwrap();
    let squares: f64 =
        replica.gradients().unwrap().iter().map(|value| f64::from(*value).powi(2)).sum();
    let norm = replica.optimizer_step(1e-3).unwrap();
    assert!((norm / squares.sqrt() - 1.0).abs() < 1e-6, "{norm} {}", squares.sqrt());
    assert!(replica.gradients().unwrap().iter().all(|value| *value == 0.0));
    assert_eq!(replica.optimizer_steps().unwrap(), 1);
    // One more on nothing decays and counts all the same.
    assert_eq!(replica.optimizer_step(1e-3).unwrap(), 0.0);
    assert_eq!(replica.optimizer_steps().unwrap(), 2);
}
