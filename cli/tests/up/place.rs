//! A folder with what `heteroloco up` needs, and scripts in place of the programs that it starts.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Longest wait for anything; only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const MANIFESTS: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: tiny}
spec:
  model: {preset: llama-demo}
  data: {path: data, tokenizer: byte}
  tokens: 1000000
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: a}
spec:
  runRef: {name: tiny}
  devices: [{product: NVIDIA-H100-80GB-HBM3, count: 1}]
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: b}
spec:
  runRef: {name: tiny}
  devices: [{product: NVIDIA-GeForce-RTX-4090, count: 2}]
";

/// Serves nothing, and ends when it is told to. Its store is what `$here/standing` says.
const COORDINATOR: &str = r#"
here=$(dirname "$0")
if [ "$3" = --standing ]; then
  cat "$here/standing" 2> /dev/null || echo '{"store": "missing"}'
  exit
fi
echo '{"event": "listening", "address": "127.0.0.1:9"}'
exec cat > /dev/null
"#;

/// `$island`, `$rank`, `$spec` and `$here` are set; every start is written to `$here/starts`.
const PREAMBLE: &str = r#"#!/bin/sh
here=$(dirname "$0")
spec="$2"
island=$(basename "$spec" .json)
rank="$4"
name="$island-$rank"
epoch=$(sed -n 's/.*"epoch": \([0-9]*\).*/\1/p' "$spec")
echo "$name epoch $epoch $5" >> "$here/starts"
"#;

/// A leader tells of one round and ends; so do the other ranks.
pub(crate) const WORKER: &str = r#"
if [ "$rank" = 0 ]; then
  echo '{"event": "evaluation", "round": 0, "heldoutLoss": 5.5}'
  echo '{"event": "round", "round": 0, "tokens": 500000, "islands": 2, "loss": 3.5,
    "thetaHash": "ab", "contributionBytes": 1200, "contributionValues": 1000, "bytesSent": 1250,
    "bytesReceived": 1250, "computeSeconds": 1, "exchangeSeconds": 1,
    "waitingSeconds": 0}' | tr '\n' ' '
  echo
  echo '{"event": "finished", "ending": "complete"}'
fi
"#;

pub(crate) struct Place(pub tempfile::TempDir);

impl Place {
    /// Prepared data, manifests and the scripts.
    pub(crate) fn new(worker: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.script("coordinator", &format!("#!/bin/sh\n{COORDINATOR}"));
        place.script("worker", &format!("{PREAMBLE}{worker}"));
        fs::write(place.path("text.txt"), "to be or not to be, that is the question. ".repeat(200))
            .unwrap();
        fs::write(place.path("run.yaml"), MANIFESTS).unwrap();
        let text = place.path("text.txt");
        let prepared = place
            .command(&["data", "prepare", "--tokenizer", "byte", "--out", "data", "--input"])
            .arg(text)
            .args(["--validation", "0%"])
            .output()
            .unwrap();
        assert!(prepared.status.success(), "{prepared:?}");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heteroloco"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("HETEROLOCO_WORKER", self.path("worker"))
            .env("HETEROLOCO_COORDINATOR", self.path("coordinator"));
        command
    }

    pub(crate) fn up(&self, more: &[&str]) -> Output {
        self.command(&["up", "-f", "run.yaml"]).args(more).output().unwrap()
    }

    pub(crate) fn up_and_on(&self) -> Running {
        Self::started(self.command(&["up", "-f", "run.yaml"]))
    }

    /// [`Place::up_and_on`], of which files may be kept from growing.
    pub(crate) fn up_on_a_disk(&self) -> Running {
        let up = self.command(&["up", "-f", "run.yaml"]);
        let mut shell = Command::new("bash");
        // Without the trap the signal of the limit would end the program before it sees the error.
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "bash"]).arg(up.get_program());
        shell.args(up.get_args()).current_dir(self.0.path());
        shell.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::started(shell)
    }

    pub(crate) fn started(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::sync_channel(1000);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines, said: String::new() }
    }
}

/// An `up` that goes on while the test looks at what it says.
pub(crate) struct Running {
    pub child: Child,
    lines: Receiver<String>,
    pub said: String,
}

impl Running {
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.said.contains(text) {
            let line = self.lines.recv_timeout(PATIENCE);
            self.said += &line.unwrap_or_else(|_| panic!("no {text:?} in:\n{}", self.said));
            self.said.push('\n');
        }
    }

    /// From now on no file of its may grow beyond so many bytes.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.child.id().to_string(), &format!("--fsize={bytes}:")]);
        assert!(command.status().unwrap().success());
    }

    /// The rest of what it says, and its exit code.
    pub(crate) fn end(mut self) -> (String, i32) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said += &line;
            self.said.push('\n');
        }
        (self.said, self.child.wait().unwrap().code().unwrap())
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
