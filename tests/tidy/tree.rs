//! The house rules that a machine can check, over every file that git knows or would add.

use std::fs;
use std::process::Command;

use super::{root, rules, wording};

/// Paths of the repository's files, relative to its root. Deleted ones are left out.
fn files() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(list).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "tidy needs a git checkout: {output:?}");
    let names = String::from_utf8(output.stdout).unwrap();
    let present = names.split_terminator('\0').filter(|name| root().join(name).is_file());
    present.map(str::to_owned).collect()
}

/// Rust files that are modules of tests only, because `#[cfg(test)]` stands where they are
/// declared.
fn test_modules() -> Vec<String> {
    let rust = files().into_iter().filter(|path| is_rust(path));
    rust.flat_map(|path| rules::test_modules(&path, &read(&path).unwrap_or_default())).collect()
}

/// Binary files have no lines.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

fn check(keep: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<String>) {
    let kept = files().into_iter().filter(|path| keep(path));
    let problems = kept.filter_map(|path| Some(rule(&path, &read(&path)?)));
    let problems: Vec<_> = problems.flatten().collect();
    assert!(problems.is_empty(), "{} to mend:\n{}", problems.len(), problems.join("\n"));
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs") && !path.starts_with("proto/src/gen/")
}

#[test]
fn every_rust_file_keeps_the_house_rules() {
    let tests = test_modules();
    check(is_rust, |path, text| rules::rust(path, text, &tests));
}

#[test]
fn source_lines_fit_a_hundred_columns() {
    let source = |path: &str| is_rust(path) || path.ends_with(".py") || path.ends_with(".proto");
    check(source, rules::columns);
}

#[test]
fn no_file_names_a_machine_or_a_registry_host() {
    check(|path| !path.ends_with("Cargo.lock"), rules::places);
}

#[test]
fn the_pure_crates_touch_no_file_clock_or_network() {
    let pure = |path: &str| {
        is_rust(path)
            && ["plan/src/", "rounds/src/", "sparseloco/src/"].iter().any(|p| path.starts_with(p))
    };
    let tests = test_modules();
    check(pure, |path, text| rules::purity(path, text, &tests));
}

#[test]
fn log_lines_are_sentences() {
    check(is_rust, wording::logs);
}

#[test]
fn constants_say_what_their_times_are_for() {
    let tests = test_modules();
    check(is_rust, |path, text| wording::times(path, text, &tests));
}

/// A patch that fits no more would be found out only by `make sim-mutations`, which no push runs.
#[test]
fn every_defect_of_the_simulation_can_be_put_in() {
    let is_patch = |path: &String| path.starts_with("sim/mutations/");
    let patches: Vec<_> = files().into_iter().filter(is_patch).collect();
    assert!(!patches.is_empty(), "sim/mutations has no patch");
    let fits = |patch: &String| {
        let check = ["apply", "--check", patch];
        Command::new("git").args(check).current_dir(root()).output().unwrap().status.success()
    };
    let stale: Vec<_> = patches.into_iter().filter(|patch| !fits(patch)).collect();
    assert!(stale.is_empty(), "refit to the code they change: {stale:?}");
}
