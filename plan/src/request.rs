//! The planner's input: what is asked for, made by `api` from YAML and already checked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Bandwidth, Node};
use crate::model::Llama;
use crate::spec::{EvaluationSpec, OptimizerSpec, PipelineCompression, SparseSpec};

/// A `TrainingRun`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// Its name.
    pub name: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// The model.
    pub model: Llama,
    /// Folder with the parameters to start from, in Hugging Face's form; random ones where absent.
    pub from: Option<PathBuf>,
    /// Folder made by `heteroloco data prepare`; relative to the current folder.
    pub data: PathBuf,
    /// The tokenizer that the data has to be made with.
    pub tokenizer: Tokenizer,
    /// Sequences of one inner step of one island.
    pub sequences: u32,
    /// Tokens of a sequence; at most the model's longest.
    pub sequence_length: u32,
    /// Tokens after which the run is done.
    pub tokens: u64,
    /// The inner optimiser.
    pub optimizer: OptimizerSpec,
    /// Inner steps of the fastest island in a round.
    pub inner_steps: InnerSteps,
    /// The outer exchange.
    pub sparse: SparseSpec,
    /// Held-out loss.
    pub evaluation: EvaluationSpec,
    /// The rules by which a round ends.
    pub rounds: RoundRules,
    /// Folder for checkpoints; the run folder's own where absent.
    pub checkpoint: Option<PathBuf>,
    /// Checkpoint after every so many rounds.
    pub checkpoint_every_rounds: u32,
}

/// How text became tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// One token per byte, and an end token.
    Byte,
    /// A Hugging Face `tokenizer.json`.
    File(PathBuf),
}

/// H of the fastest island.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerSteps {
    /// [`crate::planner::AUTO_INNER_STEPS`].
    Auto,
    /// As many.
    Fixed(u32),
}

/// The rules by which a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundRules {
    /// Share of the members, 1 to 100, whose offers suffice once `grace` has passed.
    pub quorum_percent: u8,
    /// Wait for the others after the quorum.
    pub grace: Duration,
    /// Longest training phase of a round with an offer.
    pub deadline: Duration,
    /// The run may go back behind what islands that are away may hold.
    pub go_back: bool,
}

/// A `ComputeIsland`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct IslandRequest {
    /// Its name.
    pub name: String,
    /// Cards that it may use, best first; not empty.
    pub devices: Vec<DeviceRequest>,
    /// Least memory over all its cards, bytes; 0 asks for nothing.
    pub min_memory: u64,
    /// Cards one replica is split over.
    pub parallelism: Parallelism,
    /// Settings of what its pipeline stages keep and send.
    pub pipeline: PipelineRequest,
    /// The goal of its plan.
    pub objective: Objective,
    /// Its way to the other islands; not known where absent.
    pub uplink: Option<Bandwidth>,
    /// Names of the nodes whose cards it may use; all where absent.
    pub nodes: Option<BTreeSet<String>>,
    /// Seconds that a step of it took, for each that was predicted; 1 where nothing was measured.
    pub correction: f64,
}

/// The goal of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// Tokens per second.
    #[default]
    Throughput,
    /// Tokens per second and watt of the cards used.
    PerWatt,
    /// Tokens per second and cost of the cards used.
    PerCost,
}

/// Cards of one product.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRequest {
    /// Product as GPU feature discovery writes it; a trailing `*` matches a family.
    pub product: String,
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Bytes of one card, in place of the catalogue's or the machine's own figure.
    pub memory: Option<u64>,
    /// Dense TFLOP/s of one card in what it trains in, in place of the catalogue's.
    pub tflops: Option<f64>,
    /// Cost of one card for an hour, in any currency.
    pub cost_per_hour: Option<f64>,
}

/// A layout fixed by the user; `None` leaves it to the planner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parallelism {
    /// Cards that share each layer.
    pub tensor: Option<u32>,
    /// Stages.
    pub pipeline: Option<u32>,
    /// Replicas inside the island.
    pub data: Option<u32>,
}

/// Settings of what pipeline stages keep between forward and backward, and send to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineRequest {
    /// Compresses what goes between stages.
    pub compression: Option<PipelineCompression>,
    /// Whether to compress only where the links are what slows the island down.
    pub compress_where_slow: bool,
    /// True to compute activations again in backward; `None`: where memory demands it.
    pub recompute: Option<bool>,
}

/// The place in which ranks will run.
#[derive(Clone, Debug, PartialEq)]
pub enum Execution {
    /// Each card is a CPU process, slowed down in proportion to the run's fastest card.
    Emulated {
        /// Processor cores of this machine.
        cores: u32,
    },
    /// This machine's cards, and its CPU for the product `cpu`.
    Local {
        /// The cards of this machine; islands take from them in order, each card once.
        cards: Vec<LocalCard>,
        /// CPU threads of each `cpu` rank.
        threads: u32,
    },
    /// The cards of a cluster's nodes.
    Cluster {
        /// The nodes; islands take from them, each card once.
        nodes: Vec<Node>,
    },
}

impl Execution {
    /// CPU threads of a rank that computes on the CPU.
    pub fn threads(&self) -> u32 {
        match self {
            Self::Local { threads, .. } => *threads,
            Self::Emulated { .. } | Self::Cluster { .. } => 1,
        }
    }
}

/// A card of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCard {
    /// CUDA index.
    pub index: u32,
    /// Product, spelt as GPU feature discovery does (spaces become hyphens).
    pub product: String,
    /// Bytes of memory.
    pub memory: u64,
}
