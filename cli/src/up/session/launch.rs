//! Processes are started, and what they are told is written first; where the disk takes nothing,
//! the start waits until it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::worker::{ENVIRONMENT, WorkerSpec};
use plan::spec::{DeviceSpec, IslandSpec};

use super::{ANY_PORT, Session};
use crate::up::coordinator;
use crate::up::event::{Body, UpEvent};
use crate::up::process::{self, Handle, Launch, Who};
use crate::up::run_dir::RunDirError;

/// A start that waits for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The start of the coordinator.
    Coordinator,
    /// The start of all ranks of an island.
    Island {
        /// Its name.
        name: String,
        /// The epoch that it will run.
        epoch: u64,
    },
}

impl Session {
    /// Starts what is to be started, or has it wait for the disk.
    pub(super) fn start_when_written(&mut self, start: Start) {
        let started = match &start {
            Start::Coordinator => {
                let address = self.address.clone();
                self.start_coordinator(&address)
            }
            Start::Island { name, epoch } => self.start_island(name, *epoch),
        };
        self.note_written(started.as_ref().map(drop).map_err(|error| error as _));
        if started.is_err() {
            self.held_back.push(start);
        }
    }

    /// Ends what waits to be started: an island, or the coordinator where none is named.
    pub(super) fn drop_held_back(&mut self, island: Option<&str>) {
        let is_meant = |start: &Start| match start {
            Start::Coordinator => island.is_none(),
            Start::Island { name, .. } => island == Some(name),
        };
        let (meant, others) = std::mem::take(&mut self.held_back).into_iter().partition(is_meant);
        self.held_back = others;
        let meant: Vec<Start> = meant;
        for start in meant {
            match start {
                Start::Coordinator => self.unstarted.push_back(Who::Coordinator),
                Start::Island { name, epoch } => {
                    let island = self.setting.plan.islands.iter().find(|i| i.spec.name == name);
                    let ranks = island.map_or(0, |island| island.spec.ranks.len() as u32);
                    let who = |rank| Who::Rank { island: name.clone(), epoch, rank };
                    self.unstarted.extend((0..ranks).map(who));
                }
            }
        }
    }

    /// Starts the coordinator on `listen`.
    ///
    /// # Errors
    /// When what it is told cannot be written.
    pub(super) fn start_coordinator(&mut self, listen: &str) -> Result<(), RunDirError> {
        let dir = &self.setting.dir;
        let run = (&self.setting.plan, self.expected);
        let spec = coordinator::spec(run, dir.path(), listen, self.adopt.as_ref());
        let spec = dir.write_json("coordinator.json", &spec)?;
        let launch = Launch {
            who: Who::Coordinator,
            program: self.setting.programs.coordinator.clone(),
            args: vec!["--spec".into(), spec.into()],
            env: Vec::new(),
            log: dir.log(&Who::Coordinator.to_string())?,
        };
        self.coordinator = self.launch(launch);
        self.pulse.started();
        Ok(())
    }

    /// Starts all ranks of an island. The epoch is on disk before any of them speaks in its name.
    fn start_island(&mut self, name: &str, epoch: u64) -> Result<(), RunDirError> {
        let Some(at) = self.setting.plan.islands.iter().position(|i| i.spec.name == name) else {
            return Ok(());
        };
        self.saved.epochs.insert(name.to_owned(), epoch);
        self.setting.dir.save(&self.saved)?;
        let resume = self.setting.earlier.is_some() || epoch > 1;
        let ranks = 0..self.setting.plan.islands[at].spec.ranks.len() as u32;
        let spec = self.write_spec(at, epoch)?;
        let launch = |rank| Ok((rank, self.rank_launch((at, rank), &spec, epoch, resume)?));
        let launches = ranks.map(launch).collect::<Result<Vec<_>, RunDirError>>()?;
        let island = name.to_owned();
        self.record(Body::Up(UpEvent::IslandStarted { island, epoch }));
        let mut ranks = BTreeMap::new();
        for (rank, launch) in launches {
            if let Some(handle) = self.launch(launch) {
                ranks.insert(rank, handle);
            }
        }
        self.handles.insert(name.to_owned(), ranks);
        Ok(())
    }

    /// Writes what an island's ranks are told; where.
    fn write_spec(&self, at: usize, epoch: u64) -> Result<PathBuf, RunDirError> {
        let plan = &self.setting.plan;
        let island = IslandSpec { epoch, ..plan.islands[at].spec.clone() };
        self.setting.dir.write_spec(&WorkerSpec {
            run: plan.run.clone(),
            coordinator: format!("http://{}", self.address),
            listen: ANY_PORT.to_owned(),
            collective_listen: ANY_PORT.to_owned(),
            metrics: Some(ANY_PORT.to_owned()),
            checkpoint_dir: self.checkpoints.of(&island.name),
            island,
        })
    }

    fn rank_launch(
        &self,
        (at, rank): (usize, u32),
        spec: &Path,
        epoch: u64,
        resume: bool,
    ) -> Result<Launch, RunDirError> {
        let island = &self.setting.plan.islands[at].spec;
        let device = island.ranks[rank as usize].devices[0].device;
        let who = Who::Rank { island: island.name.clone(), epoch, rank };
        let mut args = vec!["--spec".into(), spec.into(), "--rank".into(), rank.to_string().into()];
        if resume {
            args.push("--resume".into());
        }
        Ok(Launch {
            log: self.setting.dir.log(&who.to_string())?,
            who,
            program: self.setting.programs.worker.clone(),
            args,
            env: environment(device),
        })
    }

    /// A process that does not start counts as one that ended at once.
    fn launch(&mut self, launch: Launch) -> Option<Handle> {
        let (who, program) = (launch.who.clone(), launch.program.clone());
        let started = process::start(launch, self.reports.0.clone());
        started.map_err(|error| self.note_unstarted(who, &program, &error)).ok()
    }

    fn note_unstarted(&mut self, who: Who, program: &Path, error: &std::io::Error) {
        let said = format!("failed to start {}: {error}", program.display());
        self.failures.insert(who.clone(), said);
        self.unstarted.push_back(who);
    }
}

/// Ranks on the CPU share few cores: threads that spin while they wait would slow all others down.
fn environment(device: DeviceSpec) -> Vec<(&'static str, String)> {
    let own = match device {
        DeviceSpec::Cpu { threads, .. } => vec![
            ("OMP_NUM_THREADS", threads.to_string()),
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("GOMP_SPINCOUNT", "0".to_owned()),
        ],
        // The order in which the management library counts cards.
        DeviceSpec::Cuda { .. } => vec![("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned())],
    };
    let all = ENVIRONMENT.into_iter().map(|(name, value)| (name, value.to_owned()));
    all.chain(own).collect()
}
