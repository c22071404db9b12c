//! The command line of `kubectl island`.

use std::path::PathBuf;
use std::time::Duration;

use api::text::{DurationText, TextError};
use clap::{Args, Parser, Subcommand};

use cli::args::Output;

/// What kubectl starts as its plugin `island`.
#[derive(Debug, Parser)]
#[command(name = "kubectl-island", bin_name = "kubectl island", version, propagate_version = true)]
#[command(about = "See and steer the islands of a cluster that train one model")]
pub(crate) struct Plugin {
    /// The same as `heteroloco island`.
    #[command(flatten)]
    pub island: IslandArgs,
}

/// `heteroloco island`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IslandArgs {
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: IslandCommand,
}

/// Which cluster, as kubectl's own flags say it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ConnectionArgs {
    /// File that says which clusters there are [default: those of $KUBECONFIG, ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of it to use [default: the current one].
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of islands and runs [default: the context's].
    #[arg(short = 'n', long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum IslandCommand {
    /// Show what islands would do on the cards that are idle now, how fast, and why.
    ///
    /// Idle is what nodes offer less what pods hold and what plans have set aside; cards of the
    /// planned islands themselves count as idle. What the files lack is taken from the cluster: the
    /// run, or the islands of it. Nothing is written. Exit codes: 0 there is a plan, 2
    /// something was refused, with the smallest change that would do.
    Plan(ClusterPlanArgs),
    /// Say why an island is planned as it is, why it is not ready, and what happened lately.
    Explain(NamedIsland),
    /// Watch all islands and runs.
    ///
    /// Redraws when something changes, until it is stopped; where standard output is no terminal it
    /// prints once.
    Top(TopArgs),
    /// Let an island give its cards back and rest (spec.suspend: true).
    ///
    /// Ranks first finish what they do: an offer of the steps made so far, and a checkpoint. Exit
    /// code 1 where the pods are not gone in time.
    Drain(DrainArgs),
    /// Let a drained island go on.
    Undrain(NamedIsland),
    /// Let all islands of a run rest, or go on.
    #[command(subcommand)]
    Run(RunCommand),
    /// Print what the ranks of an island say, each line with its rank and node.
    ///
    /// Without `--follow` ranks are read a few at a time. Pods are deleted when their epoch ends,
    /// and their logs with them: earlier ones are only where the cluster collects logs.
    Logs(LogsArgs),
}

/// One island.
#[derive(Clone, Debug, Args)]
pub(crate) struct NamedIsland {
    /// The ComputeIsland.
    #[arg(value_name = "ISLAND", value_parser = island)]
    pub name: String,
}

/// `island plan`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterPlanArgs {
    /// A ComputeIsland of the cluster, planned alone.
    #[arg(value_name = "ISLAND", value_parser = island,
          required_unless_present = "files", conflicts_with = "files")]
    pub name: Option<String>,
    /// Manifests: a TrainingRun, ComputeIslands of it, or both, in any number of files and
    /// folders; `-` is standard input.
    #[arg(short = 'f', long = "file", num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Accepted as kubectl users type it: nothing is ever written.
    #[arg(long)]
    pub dry_run: bool,
    /// Show other layouts that fit, too, and what each loses by.
    #[arg(long)]
    pub explain: bool,
    /// What is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// `island top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopArgs {
    /// Islands and runs of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Print once and end.
    #[arg(long)]
    pub once: bool,
}

/// `island drain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DrainArgs {
    /// The island.
    #[command(flatten)]
    pub island: NamedIsland,
    /// Wait until its pods are gone, at most so long, such as 90s [default: 5m].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "5m",
          value_parser = time, value_name = "TIMEOUT")]
    pub wait: Option<Duration>,
}

/// `island run`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Let all islands of a run give their cards back and rest; its coordinator stays.
    Pause(NamedRun),
    /// Let a paused run go on.
    Resume(NamedRun),
}

/// One run.
#[derive(Clone, Debug, Args)]
pub(crate) struct NamedRun {
    /// The TrainingRun.
    #[arg(value_name = "RUN", value_parser = run)]
    pub name: String,
}

/// `island logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// The island.
    #[command(flatten)]
    pub island: NamedIsland,
    /// Go on until the ranks end; one that has not started is waited for.
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only this rank.
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,
    /// Begin with the last so many lines of each rank.
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
    /// The epoch before the one in force, as far as its pods are still there.
    #[arg(long, conflicts_with = "follow")]
    pub previous_epoch: bool,
}

/// A name of an island, also as kubectl writes it: `computeisland/NAME`.
fn island(text: &str) -> Result<String, String> {
    const KINDS: [&str; 5] = ["island", "islands", "isl", "computeisland", "computeislands"];
    name(text, &KINDS, "a ComputeIsland")
}

/// A name of a run, also as kubectl writes it: `trainingrun/NAME`.
fn run(text: &str) -> Result<String, String> {
    name(text, &["run", "trun", "trainingrun", "trainingruns"], "a TrainingRun")
}

fn name(text: &str, kinds: &[&str], wanted: &str) -> Result<String, String> {
    let (kind, name) = text.rsplit_once('/').map_or((None, text), |(kind, it)| (Some(kind), it));
    let plain = |kind: &str| kind.trim_end_matches(".heteroloco.dev").to_lowercase();
    if kind.is_some_and(|kind| !kinds.contains(&plain(kind).as_str())) {
        return Err(format!("this takes the name of {wanted}"));
    }
    if name.is_empty() { Err(format!("give the name of {wanted}")) } else { Ok(name.to_owned()) }
}

fn time(text: &str) -> Result<Duration, TextError> {
    DurationText::from(text).parse()
}

#[cfg(test)]
mod refused;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<IslandArgs, clap::Error> {
        Plugin::try_parse_from(line.split(' ')).map(|plugin| plugin.island)
    }

    #[test]
    fn the_plugin_s_command_line_is_consistent() {
        Plugin::command().debug_assert();
    }

    #[test]
    fn kubectl_s_flags_stand_before_or_after_the_command() {
        for line in ["x -n ml --context c explain a", "x explain a --context c --namespace=ml"] {
            let connection = parse(line).unwrap().connection;
            assert_eq!(connection.namespace.as_deref(), Some("ml"), "{line}");
            assert_eq!(connection.context.as_deref(), Some("c"), "{line}");
        }
        assert!(parse("x top -A -n ml").is_err());
        assert!(parse("x explain -A a").is_err());
    }

    #[test]
    fn names_may_have_their_kind_before_them_and_no_other() {
        let name = |text: &str| match parse(&format!("x explain {text}")).map(|it| it.command) {
            Ok(IslandCommand::Explain(island)) => Some(island.name),
            _ => None,
        };
        for text in ["a", "island/a", "computeislands.heteroloco.dev/a", "ComputeIsland/a"] {
            assert_eq!(name(text).as_deref(), Some("a"), "{text}");
        }
        assert_eq!(name("trainingrun/a"), None);
        assert_eq!(name("island/"), None);
        assert!(parse("x run pause trainingrun/a").is_ok());
        assert!(parse("x run pause island/a").is_err());
    }

    #[test]
    fn a_plan_is_of_files_or_of_one_island() {
        assert!(parse("x plan -f a b --dry-run -o json").is_ok());
        assert!(parse("x plan a").is_ok());
        assert!(parse("x plan").is_err());
        assert!(parse("x plan a -f b").is_err());
    }

    #[test]
    fn a_wait_has_a_bound_also_where_none_is_given() {
        let wait = |more: &str| match parse(&format!("x drain a{more}")).map(|it| it.command) {
            Ok(IslandCommand::Drain(args)) => Some(args.wait),
            _ => None,
        };
        assert_eq!(wait(""), Some(None));
        assert_eq!(wait(" --wait"), Some(Some(Duration::from_secs(300))));
        assert_eq!(wait(" --wait=90s"), Some(Some(Duration::from_secs(90))));
        assert_eq!(wait(" --wait=soon"), None);
    }
}
