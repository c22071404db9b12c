//! The records of earlier sessions, taken into account before new ones are appended.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use super::disk::EVENTS_BYTES_MAX;
use crate::up::event::Record;
use crate::up::journal::Journal;
use crate::up::state::RunState;

/// The state that is on record, and the journal to append to it. A line that a crash cut off tells
/// nothing, and never runs into the next one.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn open(path: &Path) -> io::Result<(RunState, Journal)> {
    let mut state = RunState::default();
    let journal = |is_cut| Journal::new(path.to_owned(), is_cut, EVENTS_BYTES_MAX);
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((state, journal(false)));
        }
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    let mut is_cut = false;
    while reader.read_until(b'\n', &mut line)? > 0 {
        is_cut = line.last() != Some(&b'\n');
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            state.apply(&record);
        }
        line.clear();
    }
    Ok((state, journal(is_cut)))
}

#[cfg(test)]
mod garbage;

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
        let (state, mut journal) = open(&path).unwrap();
        assert_eq!(state.heldout.get(&0), Some(&5.5));
        journal.push([EVALUATION, b"\n"].concat());
        journal.flush().unwrap();
        let expected = [EVALUATION, b"\n", CUT, b"\n", EVALUATION, b"\n"].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let (_, mut journal) = open(&path).unwrap();
        journal.push(b"{}\n".into());
        journal.flush().unwrap();
        let expected = [&expected[..], b"{}\n"].concat();
        assert_eq!(fs::read(&path).unwrap(), expected, "a whole line is left as it is");
    }

    #[test]
    fn a_whole_record_without_a_newline_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, EVALUATION).unwrap();
        let (state, mut journal) = open(&path).unwrap();
        assert_eq!(state.heldout.len(), 1);
        journal.push(b"{}\n".into());
        journal.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [EVALUATION, b"\n{}\n"].concat());
    }
}
