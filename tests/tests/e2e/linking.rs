//! How the worker finds libtorch: by itself, and a GPU host's own one first.

use std::os::unix::fs::symlink;
use std::process::Command;

use e2e::program;

/// The libraries that the loader would load: lines of `NAME => PATH (ADDRESS)`.
fn loaded(library_path: &str) -> String {
    let mut command = Command::new(program("heteroloco-worker"));
    command.env("LD_TRACE_LOADED_OBJECTS", "1").env("LD_LIBRARY_PATH", library_path);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn path_of<'a>(loaded: &'a str, name: &str) -> Option<&'a str> {
    let line = loaded.lines().find(|line| line.trim_start().starts_with(name))?;
    line.split_whitespace().nth(2)
}

#[test]
fn the_worker_finds_libtorch_without_environment_variables() {
    let loaded = loaded("");
    assert!(!loaded.contains("not found"), "{loaded}");
    assert!(path_of(&loaded, "libtorch_cpu.so ").is_some(), "{loaded}");
}

#[test]
fn a_libtorch_that_stands_first_in_the_library_path_wins() {
    let host = tempfile::tempdir().unwrap();
    let built_with = loaded("");
    let stub = path_of(&built_with, "libtorch.so ").expect("libtorch.so brings CUDA on GPU hosts");
    symlink(stub, host.path().join("libtorch.so")).unwrap();
    let loaded = loaded(host.path().to_str().unwrap());
    let found = path_of(&loaded, "libtorch.so ").unwrap();
    assert!(found.starts_with(host.path().to_str().unwrap()), "{loaded}");
}
