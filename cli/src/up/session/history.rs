//! The records of earlier sessions, taken into account before new ones are appended.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;

use crate::up::event::Record;
use crate::up::state::RunState;

/// What is on record, and the file to append to. A line that a crash cut off tells nothing, and
/// never runs into the next one.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn open(path: &Path) -> io::Result<(RunState, File)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut state = RunState::default();
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    let mut is_cut = false;
    while reader.read_until(b'\n', &mut line)? > 0 {
        is_cut = line.last() != Some(&b'\n');
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            state.apply(&record);
        }
        line.clear();
    }
    if is_cut {
        file.write_all(b"\n")?;
    }
    Ok((state, file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CUT: &[u8] = b"{\"at\": 2, \"event\": \"warning\", \"message\": \"\xce";
    const EVALUATION: &[u8] = b"{\"at\": 1, \"island\": \"a\", \"rank\": 0, \"epoch\": 1, \
        \"event\": \"evaluation\", \"round\": 0, \"heldoutLoss\": 5.5}";

    #[test]
    fn a_line_cut_inside_a_character_is_passed_over_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, [EVALUATION, b"\n", CUT].concat()).unwrap();
        let (state, mut file) = open(&path).unwrap();
        assert_eq!(state.heldout.get(&0), Some(&5.5));
        file.write_all(&[EVALUATION, b"\n"].concat()).unwrap();
        let expected = [EVALUATION, b"\n", CUT, b"\n", EVALUATION, b"\n"].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        open(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected, "a whole line is left as it is");
    }

    #[test]
    fn a_whole_record_without_a_newline_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, EVALUATION).unwrap();
        assert_eq!(open(&path).unwrap().0.heldout.len(), 1);
        assert_eq!(fs::read(&path).unwrap(), [EVALUATION, b"\n"].concat());
    }
}
