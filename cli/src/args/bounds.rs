//! What the command line takes, what it refuses, and that its help says so.

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn parsed(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|it| it.kind())
}

#[test]
fn options_that_need_or_exclude_each_other_are_refused_before_anything_is_read() {
    use ErrorKind::{
        ArgumentConflict, InvalidSubcommand, MissingRequiredArgument, UnknownArgument,
    };
    let table = [
        ("heteroloco up", MissingRequiredArgument),
        ("heteroloco up -f a --adopt", MissingRequiredArgument),
        ("heteroloco plan", MissingRequiredArgument),
        ("heteroloco plan -f a --emulate --nodes n", ArgumentConflict),
        ("heteroloco plan -f a --emulate --capability c", ArgumentConflict),
        ("heteroloco plan -f a --json --output table", ArgumentConflict),
        ("heteroloco group -f a", MissingRequiredArgument),
        ("heteroloco data verify", MissingRequiredArgument),
        ("heteroloco data prepare --input t --tokenizer byte", MissingRequiredArgument),
        ("heteroloco generate --checkpoint c", MissingRequiredArgument),
        ("heteroloco export --checkpoint c", MissingRequiredArgument),
        ("heteroloco eval", MissingRequiredArgument),
        ("heteroloco probe --serve a:1 --out f", ArgumentConflict),
        ("heteroloco probe --uplink", MissingRequiredArgument),
        ("heteroloco up -f a --nodes n", UnknownArgument),
        ("heteroloco fly", InvalidSubcommand),
    ];
    for (line, expected) in table {
        assert_eq!(parsed(line).map(drop), Err(expected), "{line}");
    }
}

#[test]
fn numbers_beyond_their_bounds_are_refused() {
    let table = [
        "heteroloco generate --checkpoint c --prompt p --tokens -1",
        "heteroloco generate --checkpoint c --prompt p --tokens 4294967296",
        "heteroloco generate --checkpoint c --prompt p --temperature -0.1",
        "heteroloco generate --checkpoint c --prompt p --temperature infinity",
        "heteroloco generate --checkpoint c --prompt p --seed 18446744073709551616",
        "heteroloco eval --checkpoint c --limit 1.5",
        "heteroloco export --checkpoint c --out o --shard-megabytes-max many",
        "heteroloco group -f a --nodes n --min-memory 128GB",
        "heteroloco group -f a --nodes n --max-memory -1Gi",
        "heteroloco group -f a --nodes n --min-memory 80",
        "heteroloco data prepare --input t --tokenizer byte --out o --validation 101%",
        "heteroloco data prepare --input t --tokenizer byte --out o --validation half",
        "heteroloco data prepare --input t --tokenizer byte --out o --max-bytes 1e9",
    ];
    for line in table {
        let refused = parsed(line).map(drop).unwrap_err();
        let of_value = [ErrorKind::ValueValidation, ErrorKind::UnknownArgument];
        assert!(of_value.contains(&refused), "{line}: {refused:?}");
    }
}

#[test]
fn quantities_are_those_of_manifests() {
    let memory = |min: &str| {
        let line = format!("heteroloco group -f a --nodes n --min-memory {min}");
        match parsed(&line) {
            Ok(Command::Group(args)) => args.min_memory,
            other => panic!("{min}: {other:?}"),
        }
    };
    assert_eq!(memory("128Gi"), Some(128 << 30));
    assert_eq!(memory("1.5Ti"), Some(3 << 39));
    assert_eq!(memory("80G"), Some(80_000_000_000));
    assert_eq!(memory("0"), Some(0));
}

#[test]
fn a_share_that_is_held_out_and_how_text_is_read_have_defaults_that_the_help_says() {
    let line = "heteroloco data prepare --input a b --input - --tokenizer byte --out o \
                --as-text rs,json --as-text c";
    let Ok(Command::Data(DataCommand::Prepare(args))) = parsed(line) else { panic!("{line}") };
    assert_eq!(args.input, ["a", "b", "-"].map(PathBuf::from));
    assert_eq!(args.as_text, ["rs", "json", "c"]);
    assert_eq!(
        (&args.text_field[..], args.max_bytes, args.allow_passed_over),
        ("text", None, false)
    );
    let one_percent: data::Ratio = "1%".parse().unwrap();
    assert_eq!(args.validation, one_percent);
    let help = help(&["data", "prepare"]);
    for said in ["[default: text]", "[default: 1%]", "such as 500M or 1G", ".parquet"] {
        assert!(help.contains(said), "{said} is missing in {help}");
    }
}

/// The long help of a command.
fn help(path: &[&str]) -> String {
    let mut command = Cli::command();
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).unwrap();
    }
    // Wrapped lines are one sentence.
    found.render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_whose_exit_codes_mean_something_say_what() {
    let table: [(&[&str], &[&str]); 4] = [
        (
            &["up"],
            &["0 the run is finished", "1 it failed", "2 the manifests", "130 it was stopped"],
        ),
        (&["plan"], &["0 there is a plan", "2 something was refused"]),
        (&["group"], &["0 there is at least one", "2 there is none"]),
        (&["data", "verify"], &["0 everything is as it was", "1 something is missing"]),
    ];
    for (path, parts) in table {
        let help = help(path);
        for part in parts {
            assert!(help.contains(part), "{part:?} is missing in the help of {path:?}: {help}");
        }
    }
}

#[test]
fn what_was_not_asked_for_is_left_to_the_worker() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let worker = |line: &str| match parsed(&format!("heteroloco {line}")).unwrap() {
        Command::Generate(args) => args.worker_args(),
        Command::Eval(args) => args.worker_args(),
        Command::Export(args) => args.worker_args(),
        other => panic!("{other:?}"),
    };
    for line in [
        "generate --checkpoint c --prompt --tokens",
        "eval --checkpoint c",
        "eval --checkpoint c --tasks a --data d --json j --limit 4294967295 --sequence-length 8",
        "export --checkpoint c --out o",
        "export --checkpoint c --out o --shard-megabytes-max 18446744073709551615",
    ] {
        assert_eq!(worker(line), words(line));
    }
}
