//! How a run is taken up again: what is there is looked at, and where a part of it was lost, an
//! empty store takes the place of the coordinator's, which is kept.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use contract::coordinator::Standing;
use contract::exit::EXIT_CONFIG;
use tokio::process::Command;
use tokio::time::Instant;

use super::beginning::{self, Beginning, Found};
use super::whole::Kept;
use super::{ANY_PORT, Session, SessionError};
use crate::up::coordinator;
use crate::up::event::{Body, UpEvent};
use crate::up::run_dir::RunDirError;

/// Longest time for a look at the coordinator's store, which may have to be repaired.
const LOOK_WAIT: Duration = Duration::from_secs(120);
/// The coordinator of a session that was just killed has let go of its store within this time.
const RELEASE_WAIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Session {
    /// Finds out where the session begins.
    ///
    /// # Errors
    /// When what is there does not go together, or cannot be read.
    pub(super) async fn beginning(&self) -> Result<Beginning, SessionError> {
        if self.setting.earlier.is_none() {
            return Ok(Beginning::GoOn);
        }
        let store = self.look_at_store().await?;
        let newest = self.newest_checkpoint()?;
        let told = self.state.islands.values().filter_map(|island| island.checkpoint.as_ref());
        let found = Found {
            store: &store,
            newest: newest.as_ref(),
            told: told.map(|(round, _)| *round).max(),
            rounds: self.state.committed(),
            tokens: self.state.tokens,
            theta_hash: newest
                .as_ref()
                .and_then(|newest| self.state.theta_at(newest.round)?.parse().ok()),
        };
        Ok(beginning::decide(&found, self.setting.adopt)?)
    }

    /// Makes the folder ready for it, and tells of it.
    ///
    /// # Errors
    /// When the store cannot be put aside.
    pub(super) fn take_up(&mut self, beginning: Beginning) -> Result<(), SessionError> {
        let event = match beginning {
            Beginning::GoOn => return Ok(()),
            Beginning::Again { rounds, tokens } => {
                UpEvent::BeganAgain { rounds, tokens, store: self.put_store_aside()? }
            }
            Beginning::Adopt(adopt) => {
                let (round, tokens) = (adopt.round, adopt.tokens);
                let cost = beginning::cost(self.state.committed(), round);
                self.adopt = Some(adopt);
                UpEvent::Adopted { round, tokens, cost, store: self.put_store_aside()? }
            }
        };
        self.record(Body::Up(event));
        Ok(())
    }

    /// The newest checkpoint of the run's islands; where it is to be adopted, every value of it has
    /// to be right.
    fn newest_checkpoint(&self) -> Result<Option<Kept>, SessionError> {
        let mut all = self.checkpoints.all(&self.setting.plan.run.name)?;
        all.sort_by_key(|kept| std::cmp::Reverse(kept.round));
        Ok(all.into_iter().find(|kept| !self.setting.adopt || kept.is_whole()))
    }

    /// Moves the store out of the way of a new one; where it is then, if there was one.
    fn put_store_aside(&self) -> Result<Option<String>, RunDirError> {
        let store = coordinator::store(self.setting.dir.path());
        let name = |n: u32| PathBuf::from(format!("{}.aside-{n}", store.display()));
        let aside = (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        match durable::rename(&store, &aside) {
            Ok(()) => Ok(Some(aside.display().to_string())),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let source = error.source;
                Err(RunDirError::Io { operation: "put aside", path: store.clone(), source })
            }
        }
    }

    /// Asks the coordinator's program for the standing of its store.
    async fn look_at_store(&self) -> Result<Standing, SessionError> {
        let (plan, folder) = (&self.setting.plan, self.setting.dir.path());
        let spec = coordinator::spec((plan, self.expected), folder, ANY_PORT, None);
        let spec = self.setting.dir.write_json("coordinator.json", &spec)?;
        let mut command = Command::new(&self.setting.programs.coordinator);
        command.arg("--spec").arg(spec).arg("--standing").stdin(Stdio::null()).kill_on_drop(true);
        let give_up = Instant::now() + RELEASE_WAIT;
        loop {
            let output = tokio::time::timeout(LOOK_WAIT, command.output()).await;
            let output = output.map_err(|_| {
                SessionError::Store(format!("it was not read within {} s", LOOK_WAIT.as_secs()))
            })?;
            let output = output.map_err(|error| SessionError::Store(error.to_string()))?;
            if output.status.success() {
                return serde_json::from_slice(&output.stdout)
                    .map_err(|error| SessionError::Store(error.to_string()));
            }
            if Instant::now() >= give_up || output.status.code() == Some(EXIT_CONFIG) {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(SessionError::Store(said));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
