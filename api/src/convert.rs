//! From what users write to the planner's input: parses every text, checks every range.

pub(crate) mod island;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use plan::model::{Llama, LlamaConfig, PRESETS, preset};
use plan::request::{InnerSteps, RoundRules, RunRequest, Tokenizer};
use plan::spec::{EvaluationSpec, OptimizerSpec, SparseSpec};

use crate::run::{self, Model, ModelConfig, Optimizer, OuterRule, SparseLoCo, TrainingRun, Volume};
use crate::schema::FieldProblem;
use crate::text::{Decimal, Quantity};

/// Tokens that the byte tokenizer makes: 256 bytes and the end token.
const BYTE_TOKENS: u32 = 257;
/// Values of a chunk of the sparse layout.
const CHUNK: u32 = 4096;

/// The text of the `config.json` in a model's folder, or why there is none. Nothing else of a run
/// is read from files, and nothing is read here.
pub type ReadConfig<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

impl TrainingRun {
    /// The planner's input. `read` is asked where the model is `from` a folder.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn request(&self, read: ReadConfig<'_>) -> Result<RunRequest, Vec<FieldProblem>> {
        let mut check = Check::default();
        let spec = &self.spec;
        let model = check.model(&spec.model, read);
        let longest = model.as_ref().map(|model| model.config().max_position_embeddings);
        let optimizer = check.optimizer(&spec.optimizer);
        let sparse = check.sparse(&spec.sparse_lo_co);
        let rounds = check.rounds(&spec.rounds);
        let sequence_length = check.sequence_length(spec.batch.sequence_length, longest);
        let tokenizer = check.tokenizer(&spec.data.tokenizer, model.as_ref());
        let inner_steps = check.inner_steps(spec.sparse_lo_co.inner_steps);
        check.memory("spec.coordinator.storage", Some(&spec.coordinator.storage));
        check.volume("spec.data.volume", spec.data.volume.as_ref());
        check.volume("spec.checkpoint.volume", spec.checkpoint.volume.as_ref());
        let tokens = check.whole("spec.tokens", spec.tokens);
        let seed = check.whole("spec.seed", spec.seed);
        check.finish(|| {
            Some(RunRequest {
                name: self.metadata.name.clone()?,
                seed: seed?,
                model: model?,
                from: spec.model.from.clone().map(Into::into),
                data: spec.data.path.clone().into(),
                tokenizer,
                sequences: spec.batch.sequences,
                sequence_length: sequence_length?,
                tokens: tokens?,
                optimizer: optimizer?,
                inner_steps,
                sparse: sparse?,
                evaluation: EvaluationSpec {
                    every_rounds: spec.evaluation.every_rounds,
                    sequences: spec.evaluation.sequences,
                },
                rounds: rounds?,
                checkpoint: spec.checkpoint.path.clone().map(Into::into),
                checkpoint_every_rounds: spec.checkpoint.every_rounds,
            })
        })
    }
}

/// The problems found so far.
#[derive(Default)]
struct Check {
    problems: Vec<FieldProblem>,
}

impl Check {
    fn problem(&mut self, path: &str, message: impl Display) {
        self.problems.push(FieldProblem::new(path, message.to_string()));
    }

    fn parse<T, E: Display>(&mut self, path: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.problem(path, error)).ok()
    }

    /// The value that `make` makes of the checked parts; a `None` of `make` has been reported
    /// already, or is a missing name.
    fn finish<T>(mut self, make: impl FnOnce() -> Option<T>) -> Result<T, Vec<FieldProblem>> {
        match make() {
            Some(made) if self.problems.is_empty() => Ok(made),
            made => {
                if made.is_none() && self.problems.is_empty() {
                    self.problem("metadata.name", "missing: name the resource");
                }
                Err(self.problems)
            }
        }
    }

    fn whole(&mut self, path: &str, value: i64) -> Option<u64> {
        let message = format!("{value} is below 0");
        self.parse(path, u64::try_from(value).map_err(|_| message))
    }

    /// Bytes.
    fn memory(&mut self, path: &str, text: Option<&Quantity>) -> Option<u64> {
        text.and_then(|text| self.parse(path, text.bytes()))
    }

    fn volume(&mut self, path: &str, volume: Option<&Volume>) {
        if volume.is_some_and(|it| it.claim_name.is_some() == it.host_path.is_some()) {
            self.problem(path, "set one of claimName and hostPath");
        }
    }

    /// A number for which `fits` holds; `wanted` says what that is.
    fn number(&mut self, path: &str, text: &Decimal, wanted: Wanted) -> Option<f64> {
        let value: f64 = self.parse(path, text.parse())?;
        // Most are computed with in f32, where 1e300 is infinite and 1e-60 is zero.
        let single = f64::from(value as f32);
        if !wanted.fits(value) || !wanted.fits(single) || single.is_infinite() {
            self.problem(path, format!("{} has to be {}", text.0, wanted.words()));
            return None;
        }
        Some(value)
    }

    fn model(&mut self, model: &Model, read: ReadConfig<'_>) -> Option<Llama> {
        let (path, config) = match (&model.preset, &model.config, &model.from) {
            (Some(name), None, None) => match preset(name) {
                Some(config) => ("spec.model.preset", config),
                None => {
                    let known = PRESETS.join(", ");
                    self.problem("spec.model.preset", format!("{name} is not one of {known}"));
                    return None;
                }
            },
            (None, Some(config), None) => ("spec.model.config", self.config(config)?),
            (None, None, Some(folder)) => {
                let path = "spec.model.from";
                let text = self.parse(path, read(Path::new(folder)))?;
                (path, self.parse(path, pretrained::config(&text))?)
            }
            _ => {
                self.problem("spec.model", "set one of preset, config and from");
                return None;
            }
        };
        self.parse(path, config.validate())
    }

    fn config(&mut self, config: &ModelConfig) -> Option<LlamaConfig> {
        let mut number = |key: &str, text: &Decimal| {
            self.number(&format!("spec.model.config.{key}"), text, Wanted::Positive)
        };
        let rms_norm_eps = number("rms_norm_eps", &config.rms_norm_eps);
        let rope_theta = number("rope_theta", &config.rope_theta);
        let initializer_range = number("initializer_range", &config.initializer_range);
        Some(LlamaConfig {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            rms_norm_eps: rms_norm_eps?,
            rope_theta: rope_theta?,
            tie_word_embeddings: config.tie_word_embeddings,
            initializer_range: initializer_range?,
        })
    }

    fn sequence_length(&mut self, asked: Option<u32>, longest: Option<u32>) -> Option<u32> {
        let longest = longest?;
        let length = asked.unwrap_or(longest);
        if length > longest {
            let message = format!(
                "{length} is longer than the model's {longest} positions: write `{longest}`"
            );
            self.problem("spec.batch.sequenceLength", message);
        }
        Some(length)
    }

    fn tokenizer(&mut self, text: &str, model: Option<&Llama>) -> Tokenizer {
        if text != "byte" {
            return Tokenizer::File(text.into());
        }
        let vocabulary = model.map_or(BYTE_TOKENS, |model| model.config().vocab_size);
        if vocabulary < BYTE_TOKENS {
            let message = format!(
                "the byte tokenizer makes {BYTE_TOKENS} tokens, the model has {vocabulary}: \
                 raise vocab_size"
            );
            self.problem("spec.data.tokenizer", message);
        }
        Tokenizer::Byte
    }

    fn optimizer(&mut self, optimizer: &Optimizer) -> Option<OptimizerSpec> {
        let mut number = |name: &str, text: &Decimal, wanted| {
            self.number(&format!("spec.optimizer.{name}"), text, wanted)
        };
        let learning_rate = number("learningRate", &optimizer.learning_rate, Wanted::Positive);
        let ratio = &optimizer.min_learning_rate_ratio;
        let min_learning_rate_ratio = number("minLearningRateRatio", ratio, Wanted::Share);
        let weight_decay = number("weightDecay", &optimizer.weight_decay, Wanted::NotNegative);
        let beta1 = number("beta1", &optimizer.beta1, Wanted::Decay);
        let beta2 = number("beta2", &optimizer.beta2, Wanted::Decay);
        let epsilon = number("epsilon", &optimizer.epsilon, Wanted::Positive);
        let grad_clip = number("gradClip", &optimizer.grad_clip, Wanted::Positive);
        Some(OptimizerSpec {
            learning_rate: learning_rate?,
            min_learning_rate_ratio: min_learning_rate_ratio?,
            warmup_steps: optimizer.warmup_steps.into(),
            weight_decay: weight_decay?,
            beta1: beta1?,
            beta2: beta2?,
            epsilon: epsilon?,
            grad_clip: grad_clip?,
        })
    }

    fn sparse(&mut self, sparse: &SparseLoCo) -> Option<SparseSpec> {
        if sparse.chunk != CHUNK {
            let message = format!(
                "{} is not possible: this version has chunks of {CHUNK}, write `{CHUNK}`",
                sparse.chunk
            );
            self.problem("spec.sparseLoCo.chunk", message);
        }
        if sparse.overlap != 0 {
            let message = format!(
                "{} is not possible: this version ends an exchange before it trains on; write `0`",
                sparse.overlap
            );
            self.problem("spec.sparseLoCo.overlap", message);
        }
        // These did best in `make bench-convergence`; the paper's α is its own.
        let (rule, alpha, retention) = match sparse.rule {
            OuterRule::Paper => (plan::spec::Rule::Paper, "1.0", "0"),
            OuterRule::Counted => (plan::spec::Rule::Counted, "1.5", "0.5"),
        };
        let alpha = sparse.outer_learning_rate.clone().unwrap_or(alpha.into());
        let retention = sparse.retention.clone().unwrap_or(retention.into());
        let mut number = |name: &str, text: &Decimal, wanted| {
            self.number(&format!("spec.sparseLoCo.{name}"), text, wanted).map(|value| value as f32)
        };
        let error_decay = number("errorDecay", &sparse.error_decay, Wanted::PositiveShare);
        let outer = number("outerLearningRate", &alpha, Wanted::Positive);
        let retention = number("retention", &retention, Wanted::Share);
        Some(SparseSpec {
            top_k: sparse.top_k,
            value_bits: if sparse.value_bits == 1 { 1 } else { 2 },
            error_decay: error_decay?,
            outer_learning_rate: outer?,
            rule,
            retention: retention?,
        })
    }

    fn inner_steps(&mut self, steps: run::InnerSteps) -> InnerSteps {
        match steps {
            run::InnerSteps::Auto(_) => InnerSteps::Auto,
            run::InnerSteps::Fixed(steps) => {
                if steps == 0 || steps > 100_000 {
                    let message = format!("{steps} is not between 1 and 100000");
                    self.problem("spec.sparseLoCo.innerSteps", message);
                }
                InnerSteps::Fixed(steps)
            }
        }
    }

    fn rounds(&mut self, rounds: &run::Rounds) -> Option<RoundRules> {
        let quorum_percent = self.parse("spec.rounds.quorum", rounds.quorum.parse());
        let grace = self.parse("spec.rounds.grace", rounds.grace.parse());
        let deadline = self.parse("spec.rounds.deadline", rounds.deadline.parse());
        if let (Some(grace), Some(deadline)) = (grace, deadline)
            && (deadline == Duration::ZERO || grace > deadline)
        {
            self.problem("spec.rounds.deadline", "has to be above 0 and at least the grace");
        }
        Some(RoundRules {
            quorum_percent: quorum_percent?,
            grace: grace?,
            deadline: deadline?,
            go_back: rounds.go_back,
        })
    }
}

/// The range in which a number has to lie.
#[derive(Clone, Copy)]
enum Wanted {
    Positive,
    Tflops,
    NotNegative,
    Share,
    PositiveShare,
    Decay,
}

impl Wanted {
    fn fits(self, value: f64) -> bool {
        match self {
            Self::Positive => value > 0.0,
            Self::Tflops => value > 0.0 && value <= 100_000.0,
            Self::NotNegative => value >= 0.0,
            Self::Share => (0.0..=1.0).contains(&value),
            Self::PositiveShare => value > 0.0 && value <= 1.0,
            Self::Decay => (0.0..1.0).contains(&value),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Positive => "above 0 and below 1e38",
            Self::Tflops => "above 0 and at most 100000",
            Self::NotNegative => "0 or more and below 1e38",
            Self::Share => "between 0 and 1",
            Self::PositiveShare => "above 0 and at most 1",
            Self::Decay => "at least 0 and below 1",
        }
    }
}
