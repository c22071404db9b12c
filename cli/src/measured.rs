//! Steps that earlier runs measured correct what plans say of the next one's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plan::calibration::Calibration;
use plan::request::IslandRequest;

use crate::manifests::{self, ManifestError};
use crate::up::summary::Summary;

/// Summaries of runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// One entry for each file.
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    emulated: bool,
    /// By the island's name; at least one.
    corrections: Vec<(String, f64)>,
}

impl Measured {
    /// Reads the `summary.json` of runs' folders.
    ///
    /// # Errors
    /// When a file cannot be read, is no summary, or has no correction that can be used.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Measured, ManifestError> {
        let files = paths.iter().map(|path| file(path)).collect::<Result<_, _>>()?;
        Ok(Measured { files })
    }

    /// Sets the corrections of the islands of those names, of several files the last; a sentence
    /// for each file with islands that are not there.
    pub(crate) fn correct(&self, islands: &mut [IslandRequest]) -> Vec<String> {
        for (name, correction) in self.files.iter().flat_map(|file| &file.corrections) {
            for island in islands.iter_mut().filter(|island| island.name == *name) {
                island.correction = *correction;
            }
        }
        let known: BTreeSet<&str> = islands.iter().map(|island| island.name.as_str()).collect();
        self.files.iter().filter_map(|file| file.unknown(&known)).collect()
    }

    /// A sentence for each file that says little of real cards.
    pub(crate) fn emulated(&self) -> impl Iterator<Item = String> {
        self.files.iter().filter(|file| file.emulated).map(|file| {
            format!(
                "{} was measured on emulated cards: its corrections are no good for real ones",
                file.path.display()
            )
        })
    }
}

impl File {
    fn unknown(&self, known: &BTreeSet<&str>) -> Option<String> {
        let names = self.corrections.iter().map(|(name, _)| name.as_str());
        let unknown: Vec<&str> = names.filter(|name| !known.contains(name)).collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "{}: there are no islands of these names, so their corrections have no effect: {}",
                self.path.display(),
                unknown.join(", ")
            )
        })
    }
}

fn file(path: &Path) -> Result<File, ManifestError> {
    let text = manifests::read_json(path)
        .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    let summary: Summary = serde_json::from_str(&text)
        .map_err(|source| ManifestError::Summary { path: path.to_owned(), source })?;
    let islands = summary.islands.into_iter();
    let corrections: Vec<(String, f64)> = islands
        .filter_map(|(name, island)| {
            let found = island.calibration.filter(Calibration::is_sound)?;
            Some((name, found.correction))
        })
        .collect();
    if corrections.is_empty() {
        return Err(ManifestError::NoCalibration { path: path.to_owned() });
    }
    Ok(File { path: path.to_owned(), emulated: summary.emulated, corrections })
}

#[cfg(test)]
mod unlike;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::up::summary::IslandSummary;

    /// A summary's file with an island `dc` of this correction, or of none.
    fn summary(folder: &tempfile::TempDir, correction: Option<f64>) -> PathBuf {
        let calibration = correction.map(|correction| Calibration {
            island: "dc".into(),
            planned_seconds: 1.0,
            measured_seconds: correction,
            steps: 9,
            correction,
        });
        let island = IslandSummary { calibration, ..IslandSummary::default() };
        let islands = [("dc".to_owned(), island)].into();
        let summary = Summary { run: "mini-llama".into(), islands, ..Summary::default() };
        let path = folder.path().join(format!("{}.json", correction.unwrap_or_default()));
        fs::write(&path, serde_json::to_string(&summary).unwrap()).unwrap();
        path
    }

    fn quickstart() -> Vec<PathBuf> {
        vec![concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml").into()]
    }

    #[test]
    fn the_last_file_corrects_the_island_of_the_name_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [summary(&folder, Some(0.5)), summary(&folder, Some(2.0))];
        let planned = manifests::load(&quickstart(), &paths, None).unwrap();
        let usual = manifests::load(&quickstart(), &[], None).unwrap();
        for (island, usual) in planned.plan.islands.iter().zip(&usual.plan.islands) {
            let expected = if island.spec.name == "dc" { 2.0 } else { 1.0 };
            assert_eq!(island.correction, expected, "{}", island.spec.name);
            let ratio = island.step_seconds() / usual.step_seconds();
            assert!((ratio - expected).abs() < 1e-9, "{ratio} of {}", island.spec.name);
        }
        assert_eq!(planned.notes, usual.notes);
    }

    #[test]
    fn islands_that_are_not_there_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let measured = Measured::read(&[summary(&folder, Some(2.0))]).unwrap();
        let [note] = &measured.correct(&mut [])[..] else { panic!("one note") };
        assert!(note.ends_with("have no effect: dc"), "{note}");
    }

    #[test]
    fn a_file_that_corrects_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for correction in [None, Some(0.0), Some(-1.0), Some(1e9)] {
            let error = Measured::read(&[summary(&folder, correction)]).unwrap_err().to_string();
            assert!(error.contains("it has none that can be used"), "{correction:?}: {error}");
        }
        let path = folder.path().join("other.json");
        fs::write(&path, "{}").unwrap();
        let error = Measured::read(&[path]).unwrap_err().to_string();
        assert!(error.contains("give the summary.json"), "{error}");
    }
}
