//! `heteroloco up`: a whole run as processes of this machine.
//!
//! [`supervise`] decides who is started and killed, [`state`] knows what was told, [`summary`] adds
//! it up, [`heldout`] watches a loss, [`lines`] and [`next`] have the words: all without processes
//! or a clock. [`run_dir`], [`process`], [`screen`] and [`session`] do the work.

pub mod coordinator;
pub mod event;
pub mod heldout;
mod journal;
pub mod lines;
pub mod next;
pub mod process;
pub mod run_dir;
pub mod screen;
pub mod session;
pub mod state;
pub mod summary;
pub mod supervise;

use std::num::NonZero;
use std::path::PathBuf;

use self::event::Outcome;
use self::next::Next;
use self::run_dir::{RunDir, RunDirError};
use self::session::{Programs, Session, SessionError};
use crate::args::UpArgs;
use crate::corpus::{self, CorpusRefused};
use crate::manifests::{self, ManifestError, Planned};
use crate::memory::Kernel;
use crate::outlook::{self, TooLarge};
use crate::programs::{Program, ProgramError};

/// A run could not be started.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// There is no plan.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// The data does not fit the run.
    #[error(transparent)]
    Corpus(#[from] CorpusRefused),
    /// The machine has too little memory for it.
    #[error(transparent)]
    Memory(#[from] TooLarge),
    /// An executable is missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The run folder cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The session could not go on.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl UpError {
    /// Says whether what the user asked for has to change before it can work.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Manifests(_) | Self::Corpus(_) | Self::Memory(_) => true,
            Self::RunDir(error) => !matches!(error, RunDirError::Io { .. }),
            Self::Session(error) => error.is_refusal(),
            Self::Program(_) => false,
        }
    }
}

/// Plans, starts, supervises and ends a run; how it ended.
///
/// # Errors
/// When it cannot be started.
pub async fn up(args: &UpArgs) -> Result<Outcome, UpError> {
    let Planned { mut plan, emulated, mut notes } =
        manifests::load(&args.files, &args.measured, args.data.as_deref())?;
    if !args.resume {
        // A run that goes on has its parameters in checkpoints.
        manifests::check_origin(&plan.run)?;
    }
    outlook::check_memory(&plan, Kernel::default().available())?;
    let corpus = corpus::check(&plan.run, &plan.tokenizer)?;
    notes.extend(outlook::warnings(&plan));
    notes.extend(corpus.notes(&plan.run, plan.outer.round_tokens));
    let held_out = corpus.is_evaluated(&plan.run).then(|| corpus.folder.clone());
    plan.run.data = corpus.folder;
    let programs =
        Programs { worker: Program::Worker.find()?, coordinator: Program::Coordinator.find()? };
    let path = args.run_dir.clone().unwrap_or_else(|| PathBuf::from("runs").join(&plan.run.name));
    let (dir, saved) = RunDir::open(&path, args.resume)?;
    if let Some(saved) = &saved {
        saved.check(&plan.run, &corpus.hash)?;
    }
    let setting = session::Setting {
        dir,
        plan,
        emulated,
        notes,
        programs,
        data_hash: corpus.hash,
        earlier: saved,
        adopt: args.adopt,
        json: args.json,
        next: Next::new(args, &path, held_out),
        cores: std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    Ok(Session::start(setting).await?.run().await)
}
