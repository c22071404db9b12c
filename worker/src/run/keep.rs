//! What a rank keeps of a run on its disk, and comes back to.

use std::ops::Range;
use std::time::Duration;

use contract::event::{IslandState, WorkerEvent};
use member::OuterState;
use rounds::types::Digest;

use super::Rank;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Found, Part};
use crate::devices::Values;
use crate::error::{RunError, chain};
use crate::events::emit;
use crate::hugging_face::Folder;
use crate::origin::{self, Origin};

/// Wait before a last checkpoint that could not be written is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// Tries to write the last checkpoint of a run that is complete: five minutes.
pub(super) const LAST_SAVES: u32 = 60;
/// The same of an island that was asked to stop, within the time that it is given for that.
pub(super) const STOP_SAVES: u32 = 6;

impl Rank<'_> {
    /// The newest whole checkpoint, of `at_most` that round where one is given; all ranks take the
    /// one that the leader found. `None` where there is none.
    pub(super) fn restore(&mut self, at_most: Option<u64>) -> Result<Option<OuterState>, RunError> {
        let span = self.member.span();
        let root = &self.spec.checkpoint_dir;
        let newest = if self.leads() { self.find(at_most)? } else { None };
        let mut chosen = Vec::new();
        if let Some(newest) = &newest {
            newest.check(&self.spec.run)?;
            chosen = newest.manifest().round.to_le_bytes().to_vec();
        }
        self.member.group().broadcast_bytes(&mut chosen, 0).map_err(RunError::Group)?;
        let Ok(round) = chosen.try_into().map(u64::from_le_bytes) else { return Ok(None) };
        let found = match newest {
            Some(newest) => newest,
            None => Checkpoint::open(&checkpoint::folder_of(root, round))?,
        };
        found.check(&self.spec.run)?;
        let read = |part| found.read(part, &self.layout, span.clone());
        let moments = [&read(Part::Moment1)?[..], &read(Part::Moment2)?];
        let steps = found.manifest().optimizer_steps;
        self.devices.spread_moments(self.member.group(), moments, steps)?;
        let (tokens, samples) = (found.manifest().tokens, found.manifest().samples);
        let (anchor, residual) = (read(Part::Theta)?, read(Part::Residual)?);
        self.saved = Some(round);
        self.tell(IslandState::Starting, round, "resumed from a checkpoint");
        Ok(Some(OuterState { round, tokens, samples, anchor, residual }))
    }

    /// The run stands at `round`, before this island: it goes on from the newest checkpoint of that
    /// round or one before, from the run's beginning, or from θ of others.
    pub(super) fn go_back(&mut self, round: u64) -> Result<(), RunError> {
        self.tell(IslandState::Starting, round, &format!("the run went back to round {round}"));
        self.saved = None;
        let outer = match self.restore(Some(round))? {
            Some(outer) => outer,
            // From the model's start the island catches up as a newcomer does.
            None => {
                let zeros = vec![0.0; self.layout.span(self.member.span()).len()];
                self.devices.spread_moments(self.member.group(), [&zeros, &zeros], 0)?;
                self.fresh()?
            }
        };
        Ok(self.member.begin(&mut self.devices, outer)?)
    }

    /// Looks for a checkpoint, and tells people of those that are damaged.
    fn find(&mut self, at_most: Option<u64>) -> Result<Option<Checkpoint>, RunError> {
        let Found { newest, damaged } = match Checkpoint::find(&self.spec.checkpoint_dir, at_most) {
            // There is another way than to begin anew.
            Err(error @ CheckpointError::AllDamaged { .. }) if at_most > Some(0) => {
                Found { newest: None, damaged: vec![error] }
            }
            found => found?,
        };
        let taken = newest.as_ref().map_or_else(
            || "θ is taken from other islands".to_string(),
            |newest| format!("the checkpoint of round {} is taken", newest.manifest().round),
        );
        let messages = damaged.iter().map(|error| format!("{}; {taken}", chain(error)));
        let messages: Vec<_> = messages.collect();
        self.member.complain(messages.join(". "));
        for message in messages {
            tracing::warn!("{message}");
            emit(&WorkerEvent::Warning { message });
        }
        Ok(newest)
    }

    /// The state of a run's first round.
    pub(super) fn fresh(&self) -> Result<OuterState, RunError> {
        let model = self.spec.run.model.validate().map_err(RunError::Config)?;
        let run = &self.spec.run;
        let origin = match &run.from {
            Some(path) => Origin::Folder(Folder::open(path, &model)?),
            None => Origin::Seed { seed: run.seed, range: model.config().initializer_range },
        };
        let span = self.member.span();
        let anchor = origin::span_values(&origin, &self.layout, &model.tensors(), span)?;
        Ok(OuterState::fresh(0, anchor))
    }

    /// Writes this rank's part; the leader completes the checkpoint once all parts are durable.
    pub(super) fn save(&mut self) -> Result<(), RunError> {
        let (round, span) = (self.member.round(), self.member.span());
        if self.saved == Some(round) {
            return Ok(());
        }
        let theta = self.member.theta_hash(round)?;
        let written = self.write_part(span);
        let message = match &written {
            Ok(entry) => serde_json::to_vec(entry).map_err(RunError::Manifest)?,
            Err(_) => Vec::new(),
        };
        if written.as_ref().is_err_and(|error| !matches!(error, RunError::Checkpoint(_))) {
            // The others wait for this rank's values and not for its word: it ends.
            return written.map(drop);
        }
        let all = self.member.group().all_gather_bytes(&message).map_err(RunError::Group)?;
        written?;
        if all.iter().any(Vec::is_empty) {
            return Err(RunError::PartMissing);
        }
        let parts = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let parts = parts.collect::<Result<Vec<_>, _>>().map_err(RunError::Manifest)?;
        let completed = if self.leads() { self.complete((round, theta), parts) } else { Ok(()) };
        let mut told = vec![u8::from(completed.is_ok())];
        self.member.group().broadcast_bytes(&mut told, 0).map_err(RunError::Group)?;
        completed?;
        if told != [1] {
            return Err(RunError::PartMissing);
        }
        self.member.kept(round);
        self.saved = Some(round);
        Ok(())
    }

    /// Saves what would be lost with this process: a disk that is full, or a folder that is away,
    /// is waited for. All ranks count their tries alike.
    pub(super) fn save_at_last(&mut self, tries: u32) -> Result<(), RunError> {
        for left in (0..tries).rev() {
            match self.save() {
                Err(error) if error.is_unsaved() && left > 0 => {
                    let wait = SAVE_AGAIN.as_secs();
                    let said = format!("{}; it is tried again every {wait} s", chain(&error));
                    tracing::error!(left, "{said}");
                    self.tell(IslandState::Waiting, self.member.round(), &said);
                    std::thread::sleep(SAVE_AGAIN);
                }
                saved => return saved,
            }
        }
        Ok(())
    }

    /// Makes a checkpoint of the ranks' parts.
    fn complete(
        &self,
        (round, theta): (u64, Digest),
        parts: Vec<checkpoint::PartEntry>,
    ) -> Result<(), RunError> {
        let root = &self.spec.checkpoint_dir;
        let island = &self.spec.island.name;
        let mut manifest = checkpoint::manifest(&self.spec.run, island, &self.layout, parts);
        manifest.round = round;
        manifest.tokens = self.member.tokens_before();
        manifest.samples = self.member.run_samples();
        manifest.theta_hash = Some(theta);
        manifest.optimizer_steps = self.devices.optimizer_steps()?;
        crate::hugging_face::write_companions(
            &checkpoint::folder_of(root, round),
            &self.spec.run.model,
            &self.text.tokenizer()?,
        )?;
        let folder = checkpoint::commit(root, &manifest)?;
        emit(&WorkerEvent::Checkpoint { round, path: folder.display().to_string() });
        Ok(())
    }

    fn write_part(&mut self, span: Range<u32>) -> Result<checkpoint::PartEntry, RunError> {
        let length = self.layout.span(span.clone()).len();
        let at = (self.member.round(), self.rank);
        let root = &self.spec.checkpoint_dir;
        checkpoint::write_part(root, at, (span, length), |part| {
            let moment = match part {
                Part::Theta => return Ok(self.member.anchor()),
                Part::Residual => return Ok(self.member.residual().to_vec()),
                Part::Moment1 => Values::Moment1,
                Part::Moment2 => Values::Moment2,
            };
            let mut values = vec![0.0; length];
            self.devices.collect_values(moment, self.member.group(), &mut values)?;
            Ok(values)
        })
    }
}
