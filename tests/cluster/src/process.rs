//! Processes that never outlive this one, commands with a bound, and waiting for a state.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use crate::ClusterError;

/// How much of a log or an output goes into an error, in bytes.
const TAIL_MAX: usize = 4_000;
/// The pause between two looks at a state.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Request = (Command, SyncSender<io::Result<Child>>);

/// The thread that is the parent of every component. The kernel ends a child of `setpriv
/// --pdeathsig` with the *thread* that started it, and the threads of tests come and go.
static SPAWNER: LazyLock<SyncSender<Request>> = LazyLock::new(|| {
    let (sender, requests): (_, Receiver<Request>) = sync_channel(64);
    std::thread::spawn(move || {
        for (mut command, answer) in requests {
            // The one who asked waits for the answer, so that a closed channel cannot be.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

/// A command that the kernel kills as soon as this process is gone, however it went.
pub(crate) fn mortal(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command
}

/// A component that runs until it is stopped or dropped, with a log of its own.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which [`mortal`] made, and appends what it writes to `log`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log: &Path,
    ) -> Result<Self, ClusterError> {
        let open = File::options().create(true).append(true).open(log);
        let file = open.map_err(ClusterError::io(format!("open the log {}", log.display())))?;
        let twin = file.try_clone().map_err(ClusterError::io("share a log"))?;
        // A group of its own keeps a terminal's interrupt from it: it is ended in order instead.
        command.stdin(Stdio::null()).stdout(twin).stderr(file).process_group(0);
        let (answer, started) = sync_channel(1);
        SPAWNER.send((command, answer)).expect("the spawning thread never ends");
        let child = started.recv().expect("the spawning thread answers");
        let child = child.map_err(ClusterError::io(format!("start {name} through setpriv")))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) {
        // The error that there can be is that somebody has waited before.
        let _ = self.child.wait();
    }

    /// An error with the end of its log if it ended.
    pub(crate) fn check(&mut self) -> Result<(), ClusterError> {
        let ended = self.child.try_wait();
        match ended.map_err(ClusterError::io(format!("look after {}", self.name)))? {
            None => Ok(()),
            Some(status) => Err(ClusterError::Ended {
                component: self.name.clone(),
                status: status.to_string(),
                log: self.log.clone(),
                tail: log_tail(&self.log),
            }),
        }
    }

    /// Its name and the end of its log.
    pub(crate) fn tail(&self) -> String {
        format!("--- {} ---\n{}\n", self.name, log_tail(&self.log))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn log_tail(log: &Path) -> String {
    end(&fs::read(log).unwrap_or_default())
}

/// The last bytes as text.
fn end(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_MAX)..]).trim().to_owned()
}

/// Runs `command` to its end with `input` as its stdin, and returns its stdout.
///
/// # Errors
/// When it cannot be started, ends with an error, or takes longer than `bound`: it is killed then.
pub(crate) async fn run(
    command: Command,
    input: &[u8],
    bound: Duration,
) -> Result<String, ClusterError> {
    let line = command_line(&command);
    let output = match tokio::time::timeout(bound, output(command, input)).await {
        Ok(output) => output.map_err(ClusterError::io(format!("start `{line}`")))?,
        Err(_) => {
            let status = format!("killed after {bound:?}");
            return Err(ClusterError::Command { command: line, status, output: String::new() });
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let written = [output.stdout, output.stderr].concat();
    let status = output.status.to_string();
    Err(ClusterError::Command { command: line, status, output: end(&written) })
}

async fn output(command: Command, input: &[u8]) -> io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input says with its status how it fared.
            let _ = stdin.write_all(input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    output
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

/// Why a state is not there.
pub(crate) enum Wait {
    /// Not yet; this was seen instead.
    Again(String),
    /// It will never be.
    Fail(ClusterError),
}

impl From<ClusterError> for Wait {
    fn from(error: ClusterError) -> Self {
        Self::Fail(error)
    }
}

/// Looks until `probe` finds what it looks for, at most for `bound`.
///
/// # Errors
/// [`ClusterError::NotReady`] with the last thing seen, or what `probe` gave up with.
pub(crate) async fn until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, Wait>,
) -> Result<T, ClusterError> {
    let start = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(found) => return Ok(found),
            Err(Wait::Fail(error)) => return Err(error),
            Err(Wait::Again(seen)) => seen,
        };
        if start.elapsed() > bound {
            let what = what.to_owned();
            return Err(ClusterError::NotReady { what, bound, seen, logs: String::new() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
