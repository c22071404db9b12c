//! Parts that benchmarks of several processes share.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A process that takes a command a line and answers with a line; it ends when this is dropped.
pub struct Rank {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Rank {
    /// Starts it; what it writes to standard error is seen.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = process.stdin.take().context("standard input was piped")?;
        let answers = process.stdout.take().context("standard output was piped")?;
        Ok(Self { process, commands, answers: BufReader::new(answers) })
    }

    /// Writes a line to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.commands, "{line}").context("a rank ended early")
    }

    /// The next line that it writes, waited for.
    ///
    /// # Errors
    /// When it has ended.
    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "a rank ended early");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
