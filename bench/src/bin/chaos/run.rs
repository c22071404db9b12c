//! `heteroloco up` with four islands, watched by its records.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::mishap::Victim;

/// How long a round waits for an island after a quorum is there.
pub(crate) const GRACE_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for a round; only a defect reaches it.
const ROUND_WAIT: Duration = Duration::from_secs(180);
/// Records that wait to be looked at.
const RECORDS_MAX: usize = 100_000;
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plan/src");

const RUN: &str = r#"
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: chaos}
spec:
  model:
    config:
      hidden_size: 64
      intermediate_size: 128
      num_hidden_layers: 2
      num_attention_heads: 2
      num_key_value_heads: 2
      vocab_size: 257
      max_position_embeddings: 64
      rms_norm_eps: "1e-5"
      rope_theta: "10000"
      tie_word_embeddings: true
      initializer_range: "0.02"
  data: {path: data, tokenizer: byte}
  batch: {sequences: 8}
  tokens: 10000000000
  sparseLoCo: {innerSteps: 20}
  rounds: {quorum: 60%, grace: GRACEs, deadline: 60s}
  evaluation: {everyRounds: 1000, sequences: 4}
  checkpoint: {everyRounds: 5}
"#;

/// Islands by name, with their cards.
const ISLANDS: [(&str, u32); 4] = [("a", 1), ("b", 2), ("c", 1), ("d", 1)];

/// A folder with prepared data and manifests.
pub(crate) struct Place {
    folder: TempDir,
    heteroloco: PathBuf,
}

impl Place {
    pub(crate) fn new(programs: &Path) -> Result<Place> {
        let place = Place { folder: tempfile::tempdir()?, heteroloco: programs.join("heteroloco") };
        let mut manifests = RUN.replace("GRACE", &GRACE_WAIT.as_secs().to_string());
        for (name, cards) in ISLANDS {
            write!(
                manifests,
                "---\napiVersion: heteroloco.dev/v1alpha1\nkind: ComputeIsland\n\
                 metadata: {{name: {name}}}\nspec:\n  runRef: {{name: chaos}}\n  \
                 devices: [{{product: NVIDIA-GeForce-RTX-4090, count: {cards}}}]\n"
            )?;
        }
        fs::write(place.folder.path().join("run.yaml"), manifests)?;
        let mut prepare = place.command(&["data", "prepare", "--tokenizer", "byte"]);
        let prepared = prepare.args(["--out", "data", "--input", TEXT]).output()?;
        let said = String::from_utf8_lossy(&prepared.stderr);
        ensure!(prepared.status.success(), "failed to prepare data: {said}");
        Ok(place)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.heteroloco);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts the run in a folder of its own.
    pub(crate) fn start(&self, name: &str) -> Result<Running> {
        let mut up = self.command(&["up", "--file", "run.yaml", "--json", "--run-dir", name]);
        let mut process = up.stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("standard output was piped")?;
        let rounds = Arc::default();
        let records = listen(output, Arc::clone(&rounds));
        Ok(Running { process, rounds, records, folder: self.folder.path().join(name) })
    }
}

/// The time at which each committed round was first applied by somebody.
type Rounds = Arc<Mutex<Vec<(u64, Instant)>>>;

fn listen(output: ChildStdout, rounds: Rounds) -> Receiver<Value> {
    let (send, records) = mpsc::sync_channel(RECORDS_MAX);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Ok(record) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(round) = committed(&record) {
                let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
                if rounds.last().is_none_or(|(last, _)| *last < round) {
                    rounds.push((round, Instant::now()));
                }
            }
            // Whoever does not wait for anything lets them pile up.
            let _ = send.try_send(record);
        }
    });
    records
}

fn committed(record: &Value) -> Option<u64> {
    record["round"].as_u64().filter(|_| record["event"] == "round")
}

/// An `up` that goes on.
pub(crate) struct Running {
    process: Child,
    rounds: Rounds,
    records: Receiver<Value>,
    folder: PathBuf,
}

impl Running {
    /// Rounds that were committed and applied by somebody.
    pub(crate) fn rounds(&self) -> u64 {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.last().map_or(0, |(round, _)| round + 1)
    }

    /// The longest time between two rounds, of those from `first` on, in seconds.
    pub(crate) fn longest_between(&self, first: u64) -> f64 {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let times = rounds.iter().filter(|(round, _)| round + 1 >= first).map(|(_, at)| *at);
        let times: Vec<_> = times.collect();
        let between = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        between.fold(0.0, f64::max)
    }

    /// Waits until so many rounds were committed.
    pub(crate) fn wait_for_rounds(&mut self, count: u64) -> Result<()> {
        self.wait_for(&format!("round {count}"), |run, _| run.rounds() >= count)
    }

    /// Waits until an island begins to do something.
    pub(crate) fn wait_for_state(&mut self, island: &str, state: &str) -> Result<()> {
        while self.records.try_recv().is_ok() {}
        let is = |record: &Value| record["island"] == island && record["state"] == state;
        self.wait_for(state, |_, record| is(record))
    }

    fn wait_for(&mut self, what: &str, is: impl Fn(&Running, &Value) -> bool) -> Result<()> {
        let (mut since, mut rounds) = (Instant::now(), self.rounds());
        loop {
            let left = ROUND_WAIT.saturating_sub(since.elapsed());
            let Ok(record) = self.records.recv_timeout(left) else {
                bail!(
                    "no round in {} s: waited for {what}, at round {rounds}",
                    ROUND_WAIT.as_secs()
                );
            };
            if self.rounds() > rounds {
                (since, rounds) = (Instant::now(), self.rounds());
            }
            if is(self, &record) {
                return Ok(());
            }
        }
    }

    /// The process of a victim.
    pub(crate) fn find(&self, victim: Victim) -> Result<Pid> {
        let spec = match victim {
            Victim::Coordinator => "coordinator.json".to_owned(),
            Victim::Rank(island, rank) => format!("specs/{island}.json\0--rank\0{rank}\0"),
        };
        let spec = self.folder.join(spec).display().to_string();
        for entry in fs::read_dir("/proc")?.flatten() {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(process) = id.and_then(Pid::from_raw).filter(|_| line.contains(&spec)) {
                return Ok(process);
            }
        }
        bail!("no process has {spec}")
    }

    /// Ends the run; where the coordinator's store is.
    pub(crate) fn stop(mut self) -> Result<PathBuf> {
        let process = Pid::from_child(&self.process);
        kill_process(process, Signal::INT)?;
        while self.records.recv_timeout(ROUND_WAIT).is_ok() {}
        self.process.wait()?;
        Ok(self.folder.join("coordinator.redb"))
    }
}

impl Drop for Running {
    /// Nothing is left running: the ranks follow their parent.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
