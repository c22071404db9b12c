//! A model's folder that cannot be taken as θ ends the filling, wherever it shows.

use std::fs;
use std::path::Path;

use super::*;

/// Exports the model with one value changed.
fn exported(folder: &Path, change: impl Fn(&parameters::Layout, &mut [f32])) -> Origin {
    let model = model();
    let layout = parameters::Layout::new(model.tensors());
    let mut theta = flat(&layout);
    change(&layout, &mut theta);
    write_parameters(folder, &layout, &theta, 500_000).unwrap();
    Origin::Folder(Folder::open(folder, &model).unwrap())
}

fn values(origin: &Origin, span: Range<u32>) -> Result<Vec<f32>, ImportError> {
    let layout = parameters::Layout::new(model().tensors());
    let canonical = layout.canonical().unwrap();
    span_values(origin, &canonical, layout.tensors(), span)
}

fn pieces() -> u32 {
    parameters::Layout::new(model().tensors()).canonical().unwrap().pieces()
}

#[test]
fn a_value_that_is_not_finite_is_found_by_whoever_holds_it_and_by_nobody_else() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        // The last value of the model: the head's.
        let origin = exported(folder.path(), |_, theta| *theta.last_mut().unwrap() = wrong);
        let error = values(&origin, 0..pieces()).unwrap_err();
        let ImportError::NotFinite { name } = &error else { panic!("{error}") };
        assert_eq!(name, "lm_head.weight");
        assert!(error.is_final());
        values(&origin, 0..1).expect("the embedding is whole");
        assert!(values(&origin, pieces() - 1..pieces()).is_err());
    }
}

#[test]
fn values_at_the_edge_of_f32_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let edge = [f32::MAX, f32::MIN, f32::MIN_POSITIVE / 8.0, -0.0];
    let origin = exported(folder.path(), |_, theta| theta[..4].copy_from_slice(&edge));
    let found = values(&origin, 0..1).unwrap();
    // The first four of the embedding's first row are the first of its first block.
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found[..4]), bits(&edge));
}

#[test]
fn a_file_that_is_cut_off_after_it_was_opened_is_an_error_that_may_pass() {
    let folder = tempfile::tempdir().unwrap();
    let origin = exported(folder.path(), |_, _| ());
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    files.sort();
    let last = fs::OpenOptions::new().write(true).open(files.last().unwrap()).unwrap();
    last.set_len(2_000).unwrap();
    let error = values(&origin, 0..pieces()).unwrap_err();
    assert!(matches!(error, ImportError::Io { .. }) && !error.is_final(), "{error}");
}

#[test]
fn nothing_is_wanted_of_an_empty_span() {
    let folder = tempfile::tempdir().unwrap();
    let origin = exported(folder.path(), |_, theta| theta.fill(f32::NAN));
    for at in [0, 1, pieces()] {
        assert_eq!(values(&origin, at..at).unwrap(), Vec::<f32>::new());
    }
}

#[test]
#[should_panic(expected = "values of the layout")]
fn tensors_of_another_model_are_a_mistake_of_the_caller() {
    let layout = parameters::Layout::new(model().tensors()).canonical().unwrap();
    let origin = Origin::Seed { seed: 1, range: 0.2 };
    let fewer = &model().tensors()[1..];
    let _ = span_values(&origin, &layout, fewer, 0..1);
}
