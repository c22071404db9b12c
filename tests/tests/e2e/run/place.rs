//! A folder with prepared data and manifests, and `heteroloco up` running in it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything; only a defect reaches it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

const RUN: &str = r#"
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: tiny}
spec:
  model:
    config:
      hidden_size: 32
      intermediate_size: 64
      num_hidden_layers: 1
      num_attention_heads: 2
      num_key_value_heads: 1
      vocab_size: 257
      max_position_embeddings: 32
      rms_norm_eps: "1e-5"
      rope_theta: "10000"
      tie_word_embeddings: true
      initializer_range: "0.02"
  data: {path: data, tokenizer: byte}
  batch: {sequences: 4}
  tokens: TOKENS
  optimizer: {learningRate: "1e-2", warmupSteps: 2}
  sparseLoCo: {innerSteps: 3}
  rounds: {quorum: 60%, grace: 3s, deadline: 60s}
  evaluation: {everyRounds: 100, sequences: 4}
  checkpoint: {everyRounds: 2}
"#;

/// A `ComputeIsland`.
pub(super) struct Island {
    name: &'static str,
    product: &'static str,
    count: u32,
}

impl Island {
    pub(super) fn new(name: &'static str, product: &'static str, count: u32) -> Self {
        Self { name, product, count }
    }
}

/// One island `a` of one card, and one `b` of two slower ones.
pub(super) fn two_islands() -> [Island; 2] {
    [Island::new("a", "NVIDIA-H100-80GB-HBM3", 1), Island::new("b", "NVIDIA-GeForce-RTX-4090", 2)]
}

/// A small disk under the folder of the run, away when it is dropped.
pub(super) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Takes all room that is left.
    pub(super) fn fill(&self) {
        let mut filler = fs::File::create(self.folder.join("filler")).unwrap();
        // Smaller pieces take what larger ones cannot.
        for size in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(super) fn free(&self) {
        fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

/// A folder to run in.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    /// With prepared data and no manifests.
    pub(super) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let source = e2e::root().join("plan/src");
        let source = source.to_str().unwrap();
        let prepared = place.heteroloco(&[
            "data",
            "prepare",
            "--tokenizer",
            "byte",
            "--out",
            "data",
            "--validation",
            "5%",
            "--input",
            source,
        ]);
        assert!(prepared.status.success(), "{prepared:?}");
        place
    }

    /// Writes `run.yaml`: `islands` train until they have `tokens` together. A round of the two
    /// islands of [`two_islands`] has 512.
    pub(super) fn manifests(&self, tokens: u64, islands: &[Island]) {
        let mut text = RUN.replace("TOKENS", &tokens.to_string());
        for Island { name, product, count } in islands {
            write!(
                text,
                "---\napiVersion: heteroloco.dev/v1alpha1\nkind: ComputeIsland\n\
                 metadata: {{name: {name}}}\nspec:\n  runRef: {{name: tiny}}\n  \
                 devices: [{{product: {product}, count: {count}}}]\n"
            )
            .unwrap();
        }
        fs::write(self.path("run.yaml"), text).unwrap();
    }

    /// Replaces text of `run.yaml`, which has to be there.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("run.yaml")).unwrap();
        assert!(text.contains(from), "no {from:?} in the manifests");
        fs::write(self.path("run.yaml"), text.replace(from, to)).unwrap();
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a disk of so many bytes under the folder of the run; needs root.
    pub(super) fn disk(&self, bytes: u32) -> Disk {
        let folder = self.path("runs");
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&folder);
        assert!(mount.status().unwrap().success(), "failed to mount a small disk");
        Disk { folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(e2e::program("heteroloco"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("HETEROLOCO_WORKER", e2e::program("heteroloco-worker"))
            .env("HETEROLOCO_COORDINATOR", e2e::program("heteroloco-coordinator"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(super) fn heteroloco(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the run of `run.yaml` in `runs/tiny`.
    pub(super) fn up(&self, more: &[&str]) -> Running {
        self.up_with(more, &[])
    }

    /// [`Place::up`] in an environment.
    pub(super) fn up_with(&self, more: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(&["up", "-f", "run.yaml", "--json"]);
        command.envs(environment.iter().copied());
        let command = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, records) = mpsc::sync_channel(100_000);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Running { child, records, seen: Vec::new(), folder: self.path("runs/tiny") }
    }
}

/// An `up` that goes on while the test looks at its records.
pub(super) struct Running {
    child: Child,
    records: Receiver<Value>,
    seen: Vec<Value>,
    folder: PathBuf,
}

impl Running {
    /// The next record of which `is` holds; those before it are only kept.
    pub(super) fn wait_for(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let record = self.records.recv_timeout(left);
            let record = record.unwrap_or_else(|_| panic!("no {what}:\n{}", self.told()));
            self.seen.push(record.clone());
            if is(&record) {
                return record;
            }
        }
    }

    /// Waits for a record of which `is` holds, or for the end of the run.
    pub(super) fn wait_for_or_end(&mut self, is: impl Fn(&Value) -> bool) {
        while let Ok(record) = self.records.recv_timeout(PATIENCE) {
            self.seen.push(record);
            if self.seen.last().is_some_and(&is) {
                return;
            }
        }
    }

    /// The next committed round of `island`; its number.
    pub(super) fn wait_for_round(&mut self, island: &str) -> u64 {
        let is = |record: &Value| record["event"] == "round" && record["island"] == island;
        self.wait_for("round", is)["round"].as_u64().unwrap()
    }

    /// The next time that `island` does so.
    pub(super) fn wait_for_state(&mut self, island: &str, state: &str) {
        let is = |record: &Value| record["state"] == state && record["island"] == island;
        self.wait_for(state, is);
    }

    /// Ctrl-C.
    pub(super) fn interrupt(&self) {
        signal("-INT", self.child.id());
    }

    /// Kills a rank at once.
    pub(super) fn kill_rank(&self, island: &str, rank: u32) {
        self.signal("-KILL", &format!("specs/{island}.json\0--rank\0{rank}\0"));
    }

    /// Kills a rank while nobody looks, and waits until all others of its island have ended by
    /// themselves.
    pub(super) fn kill_rank_unseen(&self, island: &str, rank: u32) {
        signal("-STOP", self.child.id());
        self.kill_rank(island, rank);
        let (started, specs) = (Instant::now(), self.folder.join(format!("specs/{island}.json")));
        let is_rank = |line: &str| line.contains(specs.to_str().unwrap());
        // The command line of a process that has ended is empty.
        while !processes(&is_rank).is_empty() {
            assert!(started.elapsed() < PATIENCE, "ranks of {island} outlive rank {rank}");
            thread::yield_now();
        }
        signal("-CONT", self.child.id());
    }

    /// Kills the coordinator at once.
    pub(super) fn kill_coordinator(&self) {
        self.signal("-KILL", "coordinator.json");
    }

    /// Has the coordinator hang.
    pub(super) fn freeze_coordinator(&self) {
        self.signal("-STOP", "coordinator.json");
    }

    /// Kills every process of the run at once, as a power failure does.
    pub(super) fn kill_everything(mut self) {
        let everyone = processes(&|line| line.contains(self.folder.to_str().unwrap()));
        self.child.kill().unwrap();
        everyone.into_iter().for_each(|id| signal("-KILL", id));
        self.child.wait().unwrap();
        while self.records.recv_timeout(PATIENCE).is_ok() {}
    }

    /// All records, the exit code, and standard error.
    pub(super) fn end(mut self) -> (Vec<Value>, i32, String) {
        while let Ok(record) = self.records.recv_timeout(PATIENCE) {
            self.seen.push(record);
        }
        let mut complaints = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        (std::mem::take(&mut self.seen), code, complaints)
    }

    fn signal(&self, name: &str, spec: &str) {
        let spec = self.folder.join(spec);
        let found = processes(&|line| line.contains(spec.to_str().unwrap()));
        assert!(!found.is_empty(), "no process has {}", spec.display());
        found.into_iter().for_each(|id| signal(name, id));
    }

    fn told(&self) -> String {
        self.seen.iter().map(|record| format!("{record}\n")).collect()
    }
}

impl Drop for Running {
    /// A test that fails leaves nothing running: the ranks follow their parent.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(signal: &str, id: u32) {
    // A process that has just ended is as good as one that is killed.
    let _ = Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
}

/// Processes by their command line.
fn processes(is: &dyn Fn(&str) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let id = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let line = |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    entries.filter_map(id).filter(|id| is(&line(id))).collect()
}
