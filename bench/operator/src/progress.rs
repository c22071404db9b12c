//! How far the islands are, from one watch of islands and one of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use test_cluster::{ControlPlane, Tool};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::operator::Operator;

/// Name, phase, and a node for each rank.
const ISLAND: &str = "jsonpath={.metadata.name} {.status.plan.phase} \
                      {.status.plan.ranks[*].node}{\"\\n\"}";
/// The island and the pod.
const POD: &str = "jsonpath={.metadata.labels.heteroloco\\.dev/island} {.metadata.name}{\"\\n\"}";
/// Between two looks at whether the operator still lives.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Seconds until something was true of every island.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// It has a plan.
    pub(crate) planned: f64,
    /// Its plan is starting or running, and all its pods are made.
    pub(crate) applied: f64,
    /// All its ranks run.
    pub(crate) running: f64,
}

/// Follows islands and pods of a namespace.
#[derive(Debug)]
pub(crate) struct Progress {
    islands: Watch,
    pods: Watch,
    seen: Seen,
}

/// Everything that the watches told so far.
#[derive(Debug, Default)]
struct Seen {
    /// Phase and ranks of each plan.
    plans: BTreeMap<String, (String, usize)>,
    /// The pods of each island.
    pods: BTreeMap<String, BTreeSet<String>>,
}

impl Progress {
    pub(crate) fn watch(plane: &ControlPlane, namespace: &str) -> anyhow::Result<Self> {
        let islands = Watch::start(plane, namespace, &["computeislands"], ISLAND)?;
        let pods = ["pods", "--selector=heteroloco.dev/island"];
        let pods = Watch::start(plane, namespace, &pods, POD)?;
        Ok(Self { islands, pods, seen: Seen::default() })
    }

    /// Waits until all ranks of so many islands run.
    pub(crate) async fn follow(
        &mut self,
        islands: usize,
        begun: Instant,
        patience: Duration,
        operator: &mut Operator,
    ) -> anyhow::Result<Reached> {
        let mut reached = [None; 3];
        let mut said = Instant::now();
        loop {
            match tokio::time::timeout(LOOK_EVERY, self.next()).await {
                Ok(event) => event?,
                Err(_) => operator.check()?,
            }
            let counts = self.seen.counts();
            for (time, count) in reached.iter_mut().zip(counts) {
                if count == islands && time.is_none() {
                    *time = Some(begun.elapsed().as_secs_f64());
                }
            }
            if let [Some(planned), Some(applied), Some(running)] = reached {
                return Ok(Reached { planned, applied, running });
            }
            let [planned, applied, running] = counts;
            let where_ = format!("{planned} planned, {applied} applied, {running} running");
            if said.elapsed() > LOOK_EVERY {
                said = Instant::now();
                eprintln!("{:>5} s: {where_}", begun.elapsed().as_secs());
            }
            if begun.elapsed() > patience {
                anyhow::bail!("of {islands} islands after {} s: {where_}", patience.as_secs());
            }
        }
    }

    /// Waits until nothing happened for so long.
    pub(crate) async fn quiet(&mut self, quiet: Duration) {
        while let Ok(Ok(())) = tokio::time::timeout(quiet, self.next()).await {}
    }

    /// Ranks of all plans.
    pub(crate) fn ranks(&self) -> usize {
        self.seen.plans.values().map(|(_, ranks)| ranks).sum()
    }

    async fn next(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            line = self.islands.lines.next_line() => self.seen.island(&told(line)?),
            line = self.pods.lines.next_line() => self.seen.pod(&told(line)?),
        }
        Ok(())
    }
}

fn told(line: std::io::Result<Option<String>>) -> anyhow::Result<String> {
    let line = line.context("failed to read from a watch")?;
    line.context("a watch ended: see the API server's log")
}

impl Seen {
    fn island(&mut self, line: &str) {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        if let (Some(name), Some(phase)) = (words.next(), words.next()) {
            self.plans.insert(name.to_owned(), (phase.to_owned(), words.count()));
        }
    }

    fn pod(&mut self, line: &str) {
        if let Some((island, pod)) = line.split_once(' ') {
            self.pods.entry(island.to_owned()).or_default().insert(pod.to_owned());
        }
    }

    /// Islands that are planned, applied, and running.
    fn counts(&self) -> [usize; 3] {
        let made = |name: &str| self.pods.get(name).map_or(0, BTreeSet::len);
        let mut counts = [self.plans.len(), 0, 0];
        for (name, (phase, ranks)) in &self.plans {
            let runs = phase == "Running";
            let applied = (runs || phase == "Starting") && made(name) >= *ranks;
            counts[1] += usize::from(applied);
            counts[2] += usize::from(runs);
        }
        counts
    }
}

/// A `kubectl get --watch`; dropping it kills it.
#[derive(Debug)]
struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Watch {
    fn start(
        plane: &ControlPlane,
        namespace: &str,
        what: &[&str],
        output: &str,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(Tool::Kubectl.path());
        command.args(["get", "--watch", "--namespace", namespace, "--output", output]).args(what);
        command.env("KUBECONFIG", plane.kubeconfig()).env("HOME", plane.dir());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("failed to start a watch")?;
        let stdout = child.stdout.take().context("a watch has no output")?;
        Ok(Self { lines: BufReader::new(stdout).lines(), _child: child })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_island_is_applied_when_its_plan_starts_and_all_its_pods_are_made() {
        let mut seen = Seen::default();
        seen.island("a  ");
        assert_eq!(seen.counts(), [0, 0, 0]);
        seen.island("a Planned n-1 n-2");
        seen.pod("a a-1-0");
        seen.pod("a a-1-0");
        assert_eq!(seen.counts(), [1, 0, 0]);
        seen.island("a Starting n-1 n-2");
        assert_eq!(seen.counts(), [1, 0, 0]);
        seen.pod("a a-1-1");
        assert_eq!(seen.counts(), [1, 1, 0]);
        seen.island("a Running n-1 n-2");
        assert_eq!(seen.counts(), [1, 1, 1]);
    }
}
