//! The output of a program, and its exit codes.

use std::fmt;
use std::io::{self, Write as _};

use anyhow::Context as _;

/// Exit code of a command whose input has to change before it can work.
pub const REFUSED: u8 = 2;
/// Stopped by the user, as a shell says it of SIGINT.
pub const STOPPED: u8 = 130;

/// Writes to standard output. A reader that went away has what it wanted.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write to standard output; send it somewhere else"),
    }
}

/// Writes a line to standard error. The exit code tells it too, so that it may be lost.
pub fn complain(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}
