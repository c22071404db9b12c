//! One child process: started in its own process group, its standard output read line by line, its
//! standard error copied into a log file, its end reported. The child is killed when its handle is
//! dropped.

mod log;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use contract::PARENT;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use self::log::LastLine;
use super::supervise::Exit;

/// Longest line taken from a child; what is longer is cut into lines of this length.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// A child that ended has its last lines read within this time, even if its output is held open by
/// a process of its own.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Requests to a child that it has not been given yet; more than a session makes of one child.
const SIGNALS_MAX: usize = 8;

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The run's coordinator.
    Coordinator,
    /// A rank of an island.
    Rank {
        /// Name of the island.
        island: String,
        /// Epoch of its plan.
        epoch: u64,
        /// The rank.
        rank: u32,
    },
}

impl fmt::Display for Who {
    /// The name of its log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => write!(f, "coordinator"),
            Self::Rank { island, rank, .. } => write!(f, "{island}-{rank}"),
        }
    }
}

/// The command to run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Whose process it is.
    pub who: Who,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to this process's own environment.
    pub env: Vec<(&'static str, String)>,
    /// File that its standard error is appended to, as far as the disk takes it.
    pub log: PathBuf,
}

/// An event of a child.
#[derive(Debug)]
pub enum Report {
    /// It wrote a line to its standard output.
    Line(Who, String),
    /// It is gone; nothing comes after this.
    Exited {
        /// Whose process it was.
        who: Who,
        /// How it ended.
        exit: Exit,
        /// Whether it was killed from here.
        killed: bool,
        /// The last line of its log.
        last: String,
    },
}

/// Asks a child to end; dropping it kills the child.
#[derive(Debug)]
pub struct Handle {
    ask: mpsc::Sender<Ask>,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Terminate,
    Kill,
}

impl Handle {
    /// Sends SIGTERM.
    pub fn terminate(&self) {
        // A full or closed queue means that the child was asked often enough or is gone.
        let _ = self.ask.try_send(Ask::Terminate);
    }

    /// Sends SIGKILL to the child and what it started.
    pub fn kill(&self) {
        let _ = self.ask.try_send(Ask::Kill);
    }
}

/// Starts a child; what it does goes to `reports`.
///
/// # Errors
/// When the program cannot be run.
pub fn start(launch: Launch, reports: mpsc::Sender<Report>) -> io::Result<Handle> {
    let mut child = Command::new(&launch.program)
        .args(&launch.args)
        .envs(launch.env.iter().map(|(key, value)| (key, value)))
        .env(PARENT.0, PARENT.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal reaches the whole foreground group; the ranks are told in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // Waiting for a child would close it, and its closing is what tells the child to end.
    let parent_lives = child.stdin.take();
    let (ask, asked) = mpsc::channel(SIGNALS_MAX);
    let (who, lines, last) = (launch.who.clone(), reports.clone(), LastLine::default());
    let readers = [
        child.stdout.take().map(|output| tokio::spawn(read_lines(output, who, lines))),
        child.stderr.take().map(|output| tokio::spawn(log::copy(output, launch.log, last.clone()))),
    ];
    tokio::spawn(async move {
        let (status, killed) = watch(&mut child, asked).await;
        drop(parent_lives);
        let read = futures::future::join_all(readers.into_iter().flatten());
        let _ = tokio::time::timeout(DRAIN_WAIT, read).await;
        let exit = status.map_or(Exit::Unknown, exit_of);
        // The receiver is gone only when the session is.
        let (who, last) = (launch.who, last.get());
        let _ = reports.send(Report::Exited { who, exit, killed, last }).await;
    });
    Ok(Handle { ask })
}

/// Waits for the child's end and does what is asked until then; how it ended, and whether it was
/// killed here. The child is reaped here only, so its number cannot have become another process's.
async fn watch(child: &mut Child, mut asked: mpsc::Receiver<Ask>) -> (Option<ExitStatus>, bool) {
    loop {
        let ask = tokio::select! {
            status = child.wait() => return (status.ok(), false),
            ask = asked.recv() => ask.unwrap_or(Ask::Kill),
        };
        signal(child, ask);
        if matches!(ask, Ask::Kill) {
            return (child.wait().await.ok(), true);
        }
    }
}

fn signal(child: &Child, ask: Ask) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else { return };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    // A process that is gone already is what was wanted.
    let _ = match ask {
        Ask::Terminate => rustix::process::kill_process(pid, rustix::process::Signal::TERM),
        Ask::Kill => rustix::process::kill_process_group(pid, rustix::process::Signal::KILL),
    };
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

async fn read_lines(output: ChildStdout, who: Who, reports: mpsc::Sender<Report>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if reports.send(Report::Line(who.clone(), text)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
