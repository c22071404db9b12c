//! Lines for a file on a disk that may be full: what cannot be written is kept in memory, within a
//! bound, until there is room again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// A file that lines are appended to, and those that it has not taken yet.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// The file ends inside a line, which must not run into the next one.
    is_cut: bool,
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the lines that wait, and the most that may.
    bytes: usize,
    bytes_max: usize,
    dropped: u64,
}

impl Journal {
    /// Appends to the file at `path`, which is made when something is written; `is_cut` says that
    /// it ends inside a line.
    pub(super) fn new(path: PathBuf, is_cut: bool, bytes_max: usize) -> Self {
        let waiting = VecDeque::new();
        Self { path, file: None, is_cut, waiting, bytes: 0, bytes_max, dropped: 0 }
    }

    /// Takes lines, each with its end; the oldest that wait make room where there are too many.
    pub(super) fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.waiting.push_back(line);
        while self.bytes > self.bytes_max && self.waiting.len() > 1 {
            self.bytes -= self.waiting.pop_front().map_or(0, |line| line.len());
            self.dropped += 1;
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the file takes nothing more; what it has not taken waits on.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.pop_front() {
            if let Err(error) = self.append(&line) {
                self.waiting.push_front(line);
                return Err(error);
            }
            self.bytes -= line.len();
        }
        Ok(())
    }

    /// How many lines were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).append(true).open(&self.path)?,
        };
        let written = self.write(&mut file, line);
        self.file = Some(file);
        written
    }

    /// Writes a line, or nothing of it.
    fn write(&mut self, file: &mut File, line: &[u8]) -> io::Result<()> {
        if self.is_cut {
            write_all(file, b"\n").map_err(|(_, error)| error)?;
            self.is_cut = false;
        }
        let before = file.metadata()?.len();
        let Err((written, error)) = write_all(file, line) else { return Ok(()) };
        if written > 0 {
            // Another writer's bytes behind the part of the line are not taken away with it.
            let is_last = file.metadata().is_ok_and(|now| now.len() == before + written as u64);
            self.is_cut = !is_last || file.set_len(before).is_err();
        }
        Err(error)
    }
}

/// Writes all bytes; where that fails, says how many were written, and why no more.
fn write_all(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_full_disk_does_not_take_is_kept_in_order_and_written_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        symlink("/dev/full", &path).unwrap();
        let mut journal = Journal::new(path.clone(), false, 100);
        for line in ["one\n", "two\n"] {
            journal.push(line.into());
            let error = journal.flush().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        fs::remove_file(&path).unwrap();
        // The device stays open: another file of that name is another disk.
        journal.file = None;
        journal.push(b"three\n".into());
        journal.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(journal.take_dropped(), 0);
    }

    #[test]
    fn the_oldest_lines_make_room_in_memory_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut journal = Journal::new(path.clone(), false, 12);
        (0..5).for_each(|n| journal.push(format!("line{n}\n").into()));
        journal.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line3\nline4\n");
        assert_eq!((journal.take_dropped(), journal.take_dropped()), (3, 0));
        journal.push(b"longer than all that may wait\n".into());
        journal.flush().unwrap();
        assert_eq!(journal.take_dropped(), 0, "what can be written at once is no burden");
    }

    #[test]
    fn a_file_that_ends_inside_a_line_gets_its_end_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        fs::write(&path, "cu").unwrap();
        let mut journal = Journal::new(path.clone(), true, 100);
        journal.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "cu", "nothing to write, nothing written");
        journal.push(b"one\n".into());
        journal.push(b"two\n".into());
        journal.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "cu\none\ntwo\n");
    }

    #[test]
    fn a_part_of_a_line_counts_as_written_only_as_far_as_it_was() {
        struct Small(Vec<u8>, usize);
        impl Write for Small {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let room = (self.1 - self.0.len()).min(bytes.len()).min(2);
                if room == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.extend(&bytes[..room]);
                Ok(room)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut small = Small(Vec::new(), 5);
        assert!(write_all(&mut small, b"abc").is_ok());
        let (written, error) = write_all(&mut small, b"defg").unwrap_err();
        assert_eq!((written, error.kind()), (2, io::ErrorKind::StorageFull));
        assert_eq!(small.0, b"abcde");
    }
}
