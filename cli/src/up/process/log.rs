//! The standard error of a child, copied into its log: a disk that is full neither stops the child
//! nor loses the end of what it said.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::ChildStderr;
use tokio::time::Instant;

use super::super::journal::Journal;
use super::LINE_BYTES_MAX;

/// Bytes of one child that wait for room.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// How often a log that takes nothing is tried again, and how long after the child's end.
const RETRY_EVERY: Duration = Duration::from_secs(1);
const RETRY_WAIT: Duration = Duration::from_secs(600);
/// Longest piece of a line that is kept for messages.
const SHOWN_MAX: usize = 300;

/// The last line that is not blank, shortened.
#[derive(Clone, Debug, Default)]
pub(super) struct LastLine(Arc<Mutex<String>>);

impl LastLine {
    fn note(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if !line.is_empty() {
            let shown = line.chars().take(SHOWN_MAX).collect();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        }
    }

    pub(super) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Copies what a child says into the file `log` until it says no more.
pub(super) async fn copy(output: ChildStderr, log: PathBuf, last: LastLine) {
    let mut output = BufReader::new(output);
    let mut log = Log { journal: Journal::new(log, false, WAITING_BYTES_MAX), retry: None };
    loop {
        let mut line = Vec::new();
        let read = async { (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await };
        let read = read_with_retries(read, &mut log).await;
        if !matches!(read, Ok(1..)) {
            break;
        }
        last.note(&line);
        log.journal.push(line);
        if log.retry.is_none() {
            log.flush();
        }
    }
    log.flush();
    if log.retry.is_some() {
        // The child's end is told now; what it said is written when there is room.
        tokio::spawn(async move {
            let end = Instant::now() + RETRY_WAIT;
            while let Some(at) = log.retry.filter(|at| *at < end) {
                tokio::time::sleep_until(at).await;
                log.flush();
            }
        });
    }
}

/// Waits for `read`, and tries the log again as long as that is due.
async fn read_with_retries<T>(read: impl Future<Output = T>, log: &mut Log) -> T {
    let mut read = std::pin::pin!(read);
    loop {
        let Some(at) = log.retry else { return read.await };
        tokio::select! {
            read = &mut read => return read,
            () = tokio::time::sleep_until(at) => log.flush(),
        }
    }
}

struct Log {
    journal: Journal,
    /// The disk takes nothing, and is tried again then.
    retry: Option<Instant>,
}

impl Log {
    fn flush(&mut self) {
        let mut written = self.journal.flush();
        if written.is_ok() {
            let lost = self.journal.take_dropped();
            if lost > 0 {
                let note = format!("[heteroloco up: {lost} earlier lines found no room on disk]\n");
                self.journal.push(note.into_bytes());
                written = self.journal.flush();
            }
        }
        self.retry = written.is_err().then(|| Instant::now() + RETRY_EVERY);
    }
}
