//! What the plugin's command line refuses, and what its help promises.

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn parsed(line: &str) -> Result<IslandCommand, ErrorKind> {
    let parsed = Plugin::try_parse_from(line.split_whitespace());
    parsed.map(|plugin| plugin.island.command).map_err(|error| error.kind())
}

#[test]
fn what_goes_not_together_is_refused_before_a_cluster_is_asked() {
    use ErrorKind::{
        ArgumentConflict, DisplayHelpOnMissingArgumentOrSubcommand, InvalidValue,
        MissingRequiredArgument, UnknownArgument, ValueValidation,
    };
    let table = [
        ("kubectl-island", DisplayHelpOnMissingArgumentOrSubcommand),
        ("kubectl-island plan", MissingRequiredArgument),
        ("kubectl-island plan a -f b", ArgumentConflict),
        ("kubectl-island plan a -o wide", InvalidValue),
        ("kubectl-island top a", UnknownArgument),
        ("kubectl-island top -A -n ml", ArgumentConflict),
        ("kubectl-island logs", MissingRequiredArgument),
        ("kubectl-island logs a -f --previous-epoch", ArgumentConflict),
        ("kubectl-island logs a --rank -1", UnknownArgument),
        ("kubectl-island logs a --tail many", ValueValidation),
        ("kubectl-island drain a --wait 5m", UnknownArgument),
        ("kubectl-island drain a --wait=5", ValueValidation),
        ("kubectl-island drain run/a", ValueValidation),
        ("kubectl-island run pause", MissingRequiredArgument),
        ("kubectl-island run pause island/a", ValueValidation),
        ("kubectl-island run stop a", ErrorKind::InvalidSubcommand),
        ("kubectl-island explain a b", UnknownArgument),
    ];
    for (line, expected) in table {
        assert_eq!(parsed(line).map(drop), Err(expected), "{line}");
    }
}

#[test]
fn a_run_is_named_as_kubectl_names_it_whatever_the_case_and_the_group() {
    for name in ["a", "run/a", "trun/a", "TrainingRun/a", "trainingruns.heteroloco.dev/a"] {
        match parsed(&format!("kubectl-island run resume {name}")) {
            Ok(IslandCommand::Run(RunCommand::Resume(run))) => assert_eq!(run.name, "a"),
            other => panic!("{name}: {other:?}"),
        }
    }
    for name in ["pod/a", "trainingruns.example.org/a", "run/", "/a"] {
        let line = format!("kubectl-island run resume {name}");
        assert_eq!(parsed(&line).map(drop), Err(ErrorKind::ValueValidation), "{name}");
    }
}

#[test]
fn a_wait_is_a_length_of_time() {
    let wait = |text: &str| match parsed(&format!("kubectl-island drain a --wait={text}")) {
        Ok(IslandCommand::Drain(args)) => args.wait.map(|wait| wait.as_millis()),
        _ => None,
    };
    assert_eq!(["90s", "1h30m", "5ms"].map(wait), [Some(90_000), Some(5_400_000), Some(5)]);
    assert_eq!(["", "90", "-1s", "1.5m"].map(wait), [None; 4]);
}

#[test]
fn the_help_of_what_may_wait_or_end_otherwise_says_so() {
    let help = |name: &str| {
        let mut plugin = Plugin::command();
        plugin.build();
        let command = plugin.find_subcommand_mut(name).expect("a command");
        let help = command.render_long_help().to_string();
        help.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let table = [
        ("plan", "0 there is a plan, 2 something was refused"),
        ("plan", "Nothing is written."),
        ("drain", "Exit code 1 where the pods are not gone in time"),
        ("drain", "[default: 5m]"),
        ("top", "where standard output is no terminal it prints once"),
        ("logs", "Pods are deleted when their epoch ends"),
    ];
    for (name, said) in table {
        assert!(help(name).contains(said), "{said} is missing in {}", help(name));
    }
}
