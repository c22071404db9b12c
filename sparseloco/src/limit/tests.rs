//! Tests of the bound on absurd contributions.

use super::*;

fn scales_of(weights: &[u64], norms: &[&[f64]]) -> Vec<Vec<f32>> {
    let squares: Vec<Vec<f64>> =
        norms.iter().map(|norms| norms.iter().map(|norm| norm * norm).collect()).collect();
    let squares: Vec<&[f64]> = squares.iter().map(Vec::as_slice).collect();
    let scales = scales(weights, &squares);
    let chunks = norms[0].len();
    (0..norms.len()).map(|nth| (0..chunks).map(|chunk| scales.of(nth, chunk)).collect()).collect()
}

#[test]
fn an_ordinary_set_is_left_alone() {
    let scales = scales_of(&[5, 6, 7], &[&[1.0, 2.0], &[3.0, 0.5], &[1.5, 1.0]]);
    assert_eq!(scales, [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]);
}

#[test]
fn an_absurd_contribution_is_scaled_to_four_times_the_usual() {
    let scales = scales_of(&[5, 5, 5], &[&[1.0, 1.0], &[1.0, 1.0], &[1e9, 1.0]]);
    assert_eq!(scales, [[1.0, 1.0], [1.0, 1.0], [4e-9, 1.0]]);
}

#[test]
fn of_two_contributions_neither_is_absurd() {
    assert_eq!(scales_of(&[5, 5], &[&[1.0], &[1e9]]), [[1.0], [1.0]]);
}

#[test]
fn a_chunk_that_is_quiet_for_the_others_may_be_moved_as_far_as_any() {
    // Only the third island saw the tokens of the second chunk.
    let scales = scales_of(&[5, 5, 5], &[&[1.0, 0.0], &[1.0, 0.0], &[1.0, 1.0]]);
    assert_eq!(scales[2], [1.0, 1.0]);
}

#[test]
fn an_island_that_did_more_may_have_gone_further() {
    let norms: [&[f64]; 3] = [&[1.0], &[1.0], &[12.0]];
    assert_eq!(scales_of(&[100, 100, 300], &norms)[2], [1.0]);
    assert!(scales_of(&[100, 100, 100], &norms)[2][0] < 0.34);
}
