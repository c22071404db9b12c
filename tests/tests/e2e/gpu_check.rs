//! `bench/gpu/check.py`, which measures a machine with a GPU, on this machine's CPU.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Programs of the profile of the running tests, as the pack has them beside its script.
const PROGRAMS: [&str; 6] =
    ["heteroloco", "heteroloco-worker", "heteroloco-coordinator", "card", "memory", "codec"];

struct Pack(TempDir);

impl Pack {
    fn new() -> Pack {
        let pack = Pack(tempfile::tempdir().unwrap());
        fs::create_dir(pack.path("bin")).unwrap();
        for name in PROGRAMS {
            symlink(e2e::program(name), pack.path("bin").join(name)).unwrap();
        }
        for name in ["cuda", "sharded"] {
            symlink(tests(name), pack.path("bin").join(format!("{name}-tests"))).unwrap();
        }
        let mut prepare = Command::new(e2e::program("heteroloco"));
        prepare.args(["data", "prepare", "--tokenizer", "byte", "--validation", "5%", "--out"]);
        prepare.arg(pack.path("data")).arg("--input").arg(e2e::root().join("plan/src"));
        assert!(prepare.status().unwrap().success());
        pack
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// How the script ended, and what it wrote of each check.
    fn check(&self, more: &[&str]) -> (Output, Value) {
        let mut check = Command::new("python3");
        check.arg(e2e::root().join("bench/gpu/check.py")).args(more);
        for name in ["out", "data"] {
            check.arg(format!("--{name}")).arg(self.path(name));
        }
        let output = check.arg("--programs").arg(self.path("bin")).output().unwrap();
        let written = fs::read(self.path("out/figures.json")).unwrap();
        (output, serde_json::from_slice(&written).unwrap())
    }
}

/// The newest build of one of `worker/tests`.
fn tests(name: &str) -> PathBuf {
    let folder = e2e::program("heteroloco").with_file_name("deps");
    let is_test = |path: &Path| {
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hash = own.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        hash.is_some_and(|hash| !hash.contains(['-', '.']))
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let built = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    files.filter(|path| is_test(path)).max_by_key(built).expect("`make test` builds all tests")
}

#[test]
fn every_check_of_a_gpu_runs_on_a_cpu_too() {
    let pack = Pack::new();
    // A machine that is busy with other tests is given more time.
    let (output, told) = pack.check(&["--device", "cpu", "--seconds", "2400"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let checks = told["checks"].as_object().unwrap();
    assert_eq!(checks.len(), 9, "{told:#}");
    for (name, check) in checks {
        let compares = name.starts_with("eager.") || name.starts_with("compiled.");
        let lacks_torch = check["reason"] == "there is no PyTorch to compare with";
        let passed = check["state"] == "passed";
        assert!(passed || compares && lacks_torch, "{name}: {check}\n{said}");
    }
    for name in [
        "cpu.theta_of_unread_steps_differs_by",
        "shared.replicas_identical",
        "shared.exchange_percent",
        "shared.compress_percent",
        "alone.rounds",
        "memory.worst_error_percent",
        "step.tiny.heteroloco.tokens_per_second",
        "probe.f32_tflops",
    ] {
        let value = &told["figures"][name]["value"];
        assert!(value.is_number(), "{name} is {value}");
        assert!(said.contains(&format!("figure {name} ")), "{said}");
    }
    assert_eq!(told["figures"]["shared.replicas_identical"]["value"], 1.0);
}

#[test]
fn a_check_that_fails_is_told_and_the_others_go_on() {
    let pack = Pack::new();
    fs::remove_file(pack.path("bin/cuda-tests")).unwrap();
    let only = ["--device", "cpu", "--only", "numerics", "--only", "probe"];
    let (output, told) = pack.check(&only);
    assert_eq!(output.status.code(), Some(1));
    let checks = &told["checks"];
    assert_eq!(checks["numerics"]["state"], "failed", "{told:#}");
    assert!(checks["numerics"]["reason"].as_str().unwrap().contains("cuda-tests"), "{told:#}");
    assert_eq!(checks["probe"]["state"], "passed", "{told:#}");

    let (output, told) = pack.check(&["--device", "cpu", "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told["checks"]["probe"]["reason"], "no time was left", "{told:#}");
}

#[test]
fn islands_that_share_a_card_compute_on_it() {
    let pack = Pack::new();
    let (output, told) = pack.check(&["--only", "share_card"]);
    let log = fs::read_to_string(pack.path("out/check.log")).unwrap();
    // Where there is no card, that is what their workers say.
    let refused = log.contains("failed to use CUDA device 0: libtorch sees 0 CUDA devices");
    let passed = told["checks"]["share_card"]["state"] == "passed";
    assert!(passed || refused, "{told:#}\n{log}\n{output:?}");
}
