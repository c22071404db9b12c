//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use api::text::{Quantity, TextError};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Train one model over islands of unlike GPUs with SparseLoCo.
#[derive(Debug, Parser)]
#[command(name = "heteroloco", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a TrainingRun and its ComputeIslands as processes of this machine.
    ///
    /// Exit codes: 0 the run is finished, 1 it failed, 2 the manifests or the data were refused,
    /// 130 it was stopped and `--resume` goes on.
    Up(UpArgs),
    /// Show what each island would do, on which of its declared cards, how fast, and why.
    ///
    /// Nothing is looked for on this machine, unless `--emulate` asks for it. Exit codes: 0 there
    /// is a plan, 2 something was refused, with the smallest change that would do.
    Plan(PlanArgs),
    /// Propose ComputeIslands for a cluster's nodes: which of them train together, and why.
    ///
    /// The proposals go to standard output as YAML. Exit codes: 0 there is at least one, 2 there
    /// is none or something was refused, with what to change.
    Group(GroupArgs),
    /// See and steer the islands of a cluster: runs `kubectl-island`.
    ///
    /// That program, in a folder of PATH, is also kubectl's plugin `island`.
    #[command(disable_help_flag = true)]
    Island(IslandArgs),
    /// Prepare training data, or check it.
    #[command(subcommand)]
    Data(DataCommand),
    /// Continue a prompt with a trained model.
    Generate(GenerateArgs),
    /// Measure a checkpoint's model: loss on held-out data, questions and texts from files.
    Eval(EvalArgs),
    /// Write a checkpoint as a folder that Hugging Face transformers loads.
    Export(ExportArgs),
    /// Measure what this machine's cards (or its CPU) and links reach, as a JSON record for plans.
    Probe(ProbeArgs),
}

/// `heteroloco up`.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// Manifests: one TrainingRun and its ComputeIslands, in any number of files and folders; `-`
    /// is standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder for logs, events and checkpoints [default: runs/NAME].
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with the run in the folder.
    #[arg(long)]
    pub resume: bool,
    /// Where the coordinator's store is gone, damaged or old: put it aside, and let a new one go on
    /// from the newest whole checkpoint of the run's islands. Rounds after it are trained again.
    #[arg(long, requires = "resume")]
    pub adopt: bool,
    /// Print events as JSON, one per line, and nothing else.
    #[arg(long)]
    pub json: bool,
    /// Data folder, in place of the run's own.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Summaries of earlier runs, summary.json in their folders: estimates of islands of the same
    /// names are corrected by what their steps took.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub measured: Vec<PathBuf>,
}

/// `heteroloco island`.
#[derive(Clone, Debug, Args)]
pub struct IslandArgs {
    /// What `kubectl island` takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub args: Vec<OsString>,
}

/// `heteroloco plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Manifests: one TrainingRun and its ComputeIslands, in any number of files and folders; `-`
    /// is standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The cluster's nodes, as `kubectl get nodes -o yaml` prints them; assumed where absent.
    #[arg(long, value_name = "FILE")]
    pub nodes: Option<PathBuf>,
    /// Records of `heteroloco probe`: what was measured on a node counts in place of the
    /// catalogue's figures.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub capability: Vec<PathBuf>,
    /// Summaries of earlier runs, summary.json in their folders: estimates of islands of the same
    /// names are corrected by what their steps took.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub measured: Vec<PathBuf>,
    /// Plan what `heteroloco up` does here: on this machine's cards, or on emulated ones.
    #[arg(long, conflicts_with_all = ["nodes", "capability"])]
    pub emulate: bool,
    /// Show other layouts that fit, too, and what each loses by.
    #[arg(long)]
    pub explain: bool,
    /// What is printed.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The same as `--output json`.
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

/// `heteroloco group`.
#[derive(Clone, Debug, Args)]
pub struct GroupArgs {
    /// Manifests with one TrainingRun, in any number of files and folders; ComputeIslands are
    /// passed over; `-` is standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The cluster's nodes, as `kubectl get nodes -o yaml` prints them.
    #[arg(long, value_name = "FILE")]
    pub nodes: PathBuf,
    /// Records of `heteroloco probe`, of these nodes.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub capability: Vec<PathBuf>,
    /// Least memory of an island over all its cards, such as 128Gi.
    #[arg(long, value_parser = bytes, value_name = "BYTES")]
    pub min_memory: Option<u64>,
    /// Most memory of an island, such as 1Ti.
    #[arg(long, value_parser = bytes, value_name = "BYTES")]
    pub max_memory: Option<u64>,
    /// Products that may be used; a trailing `*` takes a family [default: all].
    #[arg(long, num_args = 1.., value_name = "PATTERN")]
    pub product: Vec<String>,
}

/// A quantity as the manifests write it.
fn bytes(text: &str) -> Result<u64, TextError> {
    Quantity::from(text).bytes()
}

/// What `heteroloco plan` prints; docs/plan.md has the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    Table,
    /// One object.
    Json,
    /// The same object.
    Yaml,
}

/// `heteroloco data`.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Turn text, source code and records (.jsonl, .json, .parquet) into token shards.
    Prepare(PrepareArgs),
    /// Read all of the data in a folder and compare it with what was prepared.
    ///
    /// Exit codes: 0 everything is as it was, 1 something is missing, cannot be read or was
    /// changed; every such shard is named.
    Verify(VerifyArgs),
}

/// `heteroloco data prepare`.
#[derive(Clone, Debug, Args)]
pub struct PrepareArgs {
    /// Files and folders to read; `-` is standard input. Text, source code, .jsonl, .ndjson and
    /// .json, each also packed as .gz or .zst, and .parquet.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub input: Vec<PathBuf>,
    /// Field of JSON objects, or column of .parquet files, that has the text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    pub text_field: String,
    /// Read files of these extensions as text whatever they are, raw JSON included; `-` is
    /// standard input.
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "EXT")]
    pub as_text: Vec<String>,
    /// Go on where most bytes of an input are passed over.
    #[arg(long)]
    pub allow_passed_over: bool,
    /// `byte`, or a Hugging Face tokenizer.json.
    #[arg(long, value_name = "byte|FILE")]
    pub tokenizer: data::TokenizerChoice,
    /// Token that ends a document, where the files beside the tokenizer do not say it.
    #[arg(long, value_name = "TOKEN")]
    pub end_token: Option<String>,
    /// Folder to write; new or empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Share of the documents that is held out.
    #[arg(long, default_value = "1%", value_name = "SHARE")]
    pub validation: data::Ratio,
    /// Take so many bytes of text, such as 500M or 1G, evenly from all files; the first ones of
    /// standard input.
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    pub max_bytes: Option<u64>,
}

/// `1G`, also as `1GB`, `1g` or `1GiB`.
fn byte_count(text: &str) -> Result<u64, String> {
    let upper = text.to_uppercase();
    let plain = upper.strip_suffix('B').unwrap_or(&upper).replace('I', "i");
    let plain = plain.strip_suffix('K').map_or(plain.clone(), |number| format!("{number}k"));
    api::text::Quantity::from(plain.as_str())
        .parse()
        .map_err(|_| format!("{text:?} is no number of bytes: write for example 500M, 1G or 2GiB"))
}

/// `heteroloco data verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Folder made by `heteroloco data prepare`.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// `heteroloco generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Folder of a run, of a checkpoint, or of an exported model.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// What to continue; empty begins a document.
    #[arg(long, allow_hyphen_values = true)]
    pub prompt: String,
    /// Tokens to write at most [default: 300].
    #[arg(long, value_name = "N")]
    pub tokens: Option<u32>,
    /// Logits are divided by it; 0 takes the likeliest token every time [default: 0.8].
    #[arg(long, value_name = "NUMBER", value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Consider only so many of the likeliest tokens; 0 considers all [default: 40].
    #[arg(long, value_name = "N")]
    pub top_k: Option<u32>,
    /// Seed of the choices [default: 0].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "write a number of 0 or more, such as 0.8".to_owned())
}

/// `heteroloco eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// Folder of a run, of a checkpoint, or of an exported model.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Questions or texts, a JSON object on each line; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub tasks: Vec<PathBuf>,
    /// Folder made by `heteroloco data prepare`: loss on what is held out there [default: a run's
    /// own data, where neither this nor tasks are given].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Take at most so many documents of each file, and sequences of the data.
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Tokens of a sequence of the data [default: the model's longest].
    #[arg(long, value_name = "N")]
    pub sequence_length: Option<u32>,
    /// Write the figures, and the log-likelihoods of each document, to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `heteroloco export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Folder of a run, of a checkpoint, or of an exported model.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Largest file of parameters, in MB [default: 5000].
    #[arg(long, value_name = "MB")]
    pub shard_megabytes_max: Option<u64>,
}

/// `heteroloco probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// The node's name in the record [default: this host's name].
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Measure the CPU as well, where there are cards; without cards it is measured anyway.
    #[arg(long)]
    pub cpu: bool,
    /// Write the record to this file in place of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Measure the way to another machine too, which runs `probe --serve` at this address. It has
    /// to reach this machine as well, at any port.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Option<String>,
    /// The peer lies beyond this island's uplink: record bits per second to it and from it.
    #[arg(long, requires = "peer")]
    pub uplink: bool,
    /// Only answer one machine that measures its way here; listen at this address.
    #[arg(long, value_name = "HOST:PORT",
          conflicts_with_all = ["node", "cpu", "out", "peer", "uplink"])]
    pub serve: Option<String>,
}

/// Those options that have a value.
fn options<T: Into<OsString>, const N: usize>(
    values: [(&'static str, Option<T>); N],
) -> impl Iterator<Item = OsString> {
    let given = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.flat_map(|(name, value)| [name.into(), value.into()])
}

impl PlanArgs {
    /// The form in which it is printed.
    pub fn output(&self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

impl GenerateArgs {
    /// The worker's command line.
    pub fn worker_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["generate".into(), "--checkpoint".into()];
        args.extend([self.checkpoint.clone().into(), "--prompt".into(), (&self.prompt).into()]);
        let numbers = [
            ("--tokens", self.tokens.map(|count| count.to_string())),
            ("--temperature", self.temperature.map(|number| number.to_string())),
            ("--top-k", self.top_k.map(|count| count.to_string())),
            ("--seed", self.seed.map(|seed| seed.to_string())),
        ];
        args.extend(options(numbers));
        args
    }
}

impl EvalArgs {
    /// The worker's command line.
    pub fn worker_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["eval".into(), "--checkpoint".into()];
        args.push(self.checkpoint.clone().into());
        for file in &self.tasks {
            args.extend(["--tasks".into(), file.into()]);
        }
        args.extend(options([("--data", self.data.clone()), ("--json", self.json.clone())]));
        let numbers = [("--limit", self.limit), ("--sequence-length", self.sequence_length)];
        args.extend(options(numbers.map(|(name, n)| (name, n.map(|n| n.to_string())))));
        args
    }
}

impl ExportArgs {
    /// The worker's command line.
    pub fn worker_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["export".into(), "--checkpoint".into()];
        args.extend([self.checkpoint.clone().into(), "--out".into(), self.out.clone().into()]);
        let most = self.shard_megabytes_max.map(|most| most.to_string());
        args.extend(options([("--shard-megabytes-max", most)]));
        args
    }
}

impl ProbeArgs {
    /// The worker's command line.
    pub fn worker_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["probe".into()];
        let values = [
            ("--node=", self.node.as_ref().map(OsString::from)),
            ("--out=", self.out.clone().map(OsString::from)),
            ("--peer=", self.peer.as_ref().map(OsString::from)),
            ("--serve=", self.serve.as_ref().map(OsString::from)),
        ];
        for (name, value) in values {
            args.extend(value.map(|value| {
                let mut argument = OsString::from(name);
                argument.push(value);
                argument
            }));
        }
        let flags = [("--cpu", self.cpu), ("--uplink", self.uplink)];
        args.extend(flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.into()));
        args
    }
}

#[cfg(test)]
mod bounds;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_manifests_may_follow_one_option_or_several() {
        let parse = |args: &[&str]| {
            let cli = Cli::try_parse_from(args).unwrap();
            let Command::Up(up) = cli.command else { panic!("not up") };
            up.files.len()
        };
        assert_eq!(parse(&["heteroloco", "up", "-f", "a", "b"]), 2);
        assert_eq!(parse(&["heteroloco", "up", "-f", "a", "-f", "b", "--json"]), 2);
    }

    #[test]
    fn a_plan_is_printed_as_asked() {
        let output = |more: &str| {
            let line = format!("heteroloco plan -f a b{more}");
            match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
                Ok(Command::Plan(args)) => Some(args.output()),
                _ => None,
            }
        };
        assert_eq!(output(""), Some(Output::Table));
        assert_eq!(output(" --json"), Some(Output::Json));
        assert_eq!(output(" --output yaml --capability c d"), Some(Output::Yaml));
        assert_eq!(output(" --json --output yaml"), None);
        assert_eq!(output(" --emulate --capability c"), None);
        assert_eq!(output(" --emulate --nodes n"), None);
    }

    #[test]
    fn bytes_are_counted_with_units() {
        let table = [
            ("1G", 1_000_000_000),
            ("1g", 1_000_000_000),
            ("1.5GB", 1_500_000_000),
            ("2GiB", 2 << 30),
            ("3Ki", 3072),
            ("3K", 3000),
            ("3kB", 3000),
            ("12345", 12345),
            ("7B", 7),
        ];
        for (text, bytes) in table {
            assert_eq!(byte_count(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1 G", "-1G", "1X", "1e9", "nan"] {
            assert!(byte_count(text).unwrap_err().contains("write for example"), "{text}");
        }
    }

    #[test]
    fn a_prompt_may_begin_with_a_dash_and_how_to_sample_reaches_the_worker() {
        let args = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Generate(args)) => Ok(args.worker_args()),
            Ok(_) => panic!("not generate"),
            Err(error) => Err(error.to_string()),
        };
        let short = "generate --checkpoint c --prompt -x";
        let sampled = format!("{short} --tokens 7 --temperature 0.5 --top-k 0 --seed 3");
        for line in [short, &sampled] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(args(&format!("heteroloco {line}")), Ok(words));
        }
        for wrong in ["nan", "inf", "-1", "warm"] {
            let refused = args(&format!("heteroloco {short} --temperature {wrong}")).unwrap_err();
            assert!(refused.contains("a number of 0 or more"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_probe_reaches_the_worker_as_it_was_asked_for() {
        let args = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Probe(args)) => Some(args.worker_args()),
            _ => None,
        };
        let words = |line: &str| Some(line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(args("heteroloco probe"), words("probe"));
        let line = "heteroloco probe --uplink --peer b:7 --out r.json --node=-x --cpu";
        assert_eq!(args(line), words("probe --node=-x --out=r.json --peer=b:7 --cpu --uplink"));
        assert_eq!(args("heteroloco probe --serve a:7"), words("probe --serve=a:7"));
        assert_eq!(args("heteroloco probe --serve a:7 --cpu"), None);
        assert_eq!(args("heteroloco probe --uplink"), None);
    }

    #[test]
    fn what_stands_after_island_is_the_plugin_s() {
        for line in ["heteroloco island top -A -n ml", "heteroloco island --help"] {
            let args = line.split(' ').skip(2).collect::<Vec<_>>();
            let Command::Island(island) = Cli::try_parse_from(line.split(' ')).unwrap().command
            else {
                panic!("not island")
            };
            assert_eq!(island.args, args);
        }
    }

    #[test]
    fn an_evaluation_reaches_the_worker_as_it_was_asked_for() {
        let line = "heteroloco eval --checkpoint c --tasks a --tasks b --limit 7 --json j";
        let Command::Eval(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not eval")
        };
        let expected = "eval --checkpoint c --tasks a --tasks b --json j --limit 7";
        assert_eq!(args.worker_args(), expected.split(' ').collect::<Vec<_>>());
    }
}
