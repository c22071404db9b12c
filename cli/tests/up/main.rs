//! `heteroloco up` as a process, with shell scripts in place of the coordinator and the ranks.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod place;
mod words;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use place::{MANIFESTS, PATIENCE, Place, WORKER, stderr, stdout};

#[test]
fn an_emulated_plan_is_what_up_does() {
    let place = Place::new(WORKER);
    let plan = place.command(&["plan", "-f", "run.yaml", "--emulate", "--json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_str(&stdout(&plan)).unwrap();
    let said = stdout(&place.up(&["--json"]));
    let begin: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(plan["nodes"], "emulated");
    assert_eq!(plan["nodesNote"], begin["emulated"]);
    assert_eq!(plan["rounds"]["count"], begin["rounds"]);
    for (planned, begun) in [0, 1].map(|at| (&plan["islands"][at], &begin["islands"][at])) {
        assert_eq!(planned["innerSteps"], begun["innerSteps"]);
        let (cards, name) = (planned["cards"].as_array().unwrap(), planned["name"].as_str());
        let count = format!("{} × ", cards.len());
        assert!(begun["cards"].as_str().unwrap().starts_with(&count), "{begun}");
        for (rank, card) in cards.iter().enumerate() {
            let spec = format!("runs/tiny/specs/{}.json", name.unwrap());
            let spec: serde_json::Value = serde_json::from_str(&place.read(&spec)).unwrap();
            let device = &spec["island"]["ranks"][rank]["devices"][0];
            assert_eq!(device["plannedBytes"], card["neededBytes"]);
        }
    }
}

#[test]
fn an_island_whose_rank_dies_comes_back_at_the_next_epoch_from_its_checkpoint() {
    let dies_once = r#"
if [ "$name" = b-1 ] && [ "$epoch" = 1 ]; then kill -9 $$; fi
if [ "$island" = b ] && [ "$epoch" = 1 ]; then exec cat > /dev/null; fi
# A complete run has no use for b any more.
until grep -q "b-0 epoch 2" "$here/starts"; do sleep 0.05; done
"#;
    let place = Place::new(&format!("{dies_once}{WORKER}"));
    let output = place.up(&[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let killed =
        "b: rank 1 was killed by signal 9: the kernel's out-of-memory killer is the likely";
    assert!(said.contains(killed), "{said}");
    let starts = place.read("starts");
    assert!(starts.contains("b-0 epoch 2 --resume\n"), "{starts}");
    assert!(starts.contains("b-1 epoch 2 --resume\n"), "{starts}");
    assert_eq!(starts.matches("a-0").count(), 1, "{starts}");
    assert!(said.contains(", 1 restart"), "{said}");
}

#[test]
fn islands_that_can_never_work_end_the_run_with_their_own_sentence() {
    let refuses = r#"
echo '{"event": "failed", "error": "failed to start: no such card"}'
exit 2
"#;
    let place = Place::new(refuses);
    let output = place.up(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    let complained = stderr(&output);
    assert!(complained.contains("failed to start: no such card"), "{complained}");
}

#[test]
fn an_island_without_room_for_its_plan_is_given_up_while_the_others_finish_the_run() {
    let full = r#"
if [ "$name" = b-1 ]; then
  echo '{"event": "failed", "error": "failed to find room on device 0"}'
  exit 4
fi
if [ "$name" = b-0 ]; then exec cat > /dev/null; fi
until grep -q islandGivenUp "$here/runs/tiny/events.jsonl"; do sleep 0.05; done
"#;
    let place = Place::new(&format!("{full}{WORKER}"));
    let output = place.up(&[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", stderr(&output));
    let sentence = "b: given up: rank 1 ended with code 4: failed to find room on device 0";
    assert!(said.contains(sentence), "{said}");
    assert_eq!(place.read("starts").matches("b-1").count(), 1, "{said}");
}

#[test]
fn a_stop_lets_the_ranks_end_and_a_resumed_run_goes_on_at_new_epochs() {
    let waits = r#"
if [ "$epoch" = 1 ]; then
  trap 'echo "{\"event\": \"checkpoint\", \"round\": 7, \"path\": \"/c/$name\"}"; exit 0' TERM
  exec 3<&0
  echo "{\"event\": \"checkpoint\", \"round\": 0, \"path\": \"up-$name\"}"
  cat <&3 > /dev/null & wait
fi
"#;
    let place = Place::new(&format!("{waits}{WORKER}"));
    let mut running = place.up_and_on();
    for rank in ["a-0", "b-0", "b-1"] {
        running.wait_for(&format!("up-{rank}"));
    }
    interrupt(running.child.id());
    let (said, code) = running.end();
    assert_eq!(code, 130, "{said}");
    for rank in ["a-0", "b-0", "b-1"] {
        assert!(said.contains(&format!("checkpoint of round 7 in /c/{rank}")), "{said}");
    }
    let next = said.split_once("to go on:\n  ").expect("what to type next").1;
    let resume = next.lines().next().unwrap();
    assert!(resume.ends_with("/heteroloco up -f run.yaml --resume"), "{said}");
    let output = place.up(&["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let starts = place.read("starts");
    assert!(starts.contains("a-0 epoch 2 --resume\n"), "{starts}");
}

/// The learning rate goes on from where it is, whatever the islands and their batches are now.
#[test]
fn a_run_that_goes_on_with_other_tokens_and_islands_keeps_its_schedule() {
    let place = Place::new(WORKER);
    let manifests = |spec: &str| MANIFESTS.replace("tokens: 1000000", spec);
    let rest = "sparseLoCo: {innerSteps: 30}\n  optimizer: {warmupSteps: 5}";
    let first = manifests(&format!("tokens: 1000000\n  {rest}"));
    fs::write(place.path("run.yaml"), first).unwrap();
    let output = place.up(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = || -> serde_json::Value {
        let spec = place.read("runs/tiny/specs/a.json");
        serde_json::from_str::<serde_json::Value>(&spec).unwrap()["run"].clone()
    };
    let first = run();
    let warmup = first["schedule"]["warmupTokens"].as_u64().unwrap();
    assert!(warmup > 0 && first["schedule"]["anchor"].is_null(), "{first}");

    let checkpoint = place.path("runs/tiny/checkpoints/a/round-00000001");
    fs::create_dir_all(&checkpoint).unwrap();
    fs::write(checkpoint.join("manifest.json"), "{}").unwrap();
    let longer = manifests(&format!("tokens: 3000000\n  {rest}\n  batch: {{sequences: 2}}"));
    let (longer, _) = longer.rsplit_once("---").unwrap();
    fs::write(place.path("run.yaml"), longer).unwrap();
    let output = place.up(&["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let again = run();
    assert_eq!(
        (&again["tokens"], &again["schedule"]["warmupTokens"]),
        (&3_000_000.into(), &warmup.into())
    );
    let anchor = &again["schedule"]["anchor"];
    let ratio = anchor["ratio"].as_f64().unwrap();
    assert!(anchor["tokens"] == 500_000 && (0.5..1.0).contains(&ratio), "{anchor}");

    fs::write(place.path("run.yaml"), longer.replace("warmupSteps: 5", "warmupSteps: 6")).unwrap();
    let output = place.up(&["--resume"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    let complained = stderr(&output);
    assert!(complained.contains("optimizer.warmupSteps (was 5, now 6)"), "{complained}");
}

#[test]
fn data_is_verified_shard_by_shard() {
    let place = Place::new(WORKER);
    let verify = || place.command(&["data", "verify", "data"]).output().unwrap();
    let whole = verify();
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    assert!(stdout(&whole).starts_with("data: 1 shards, "), "{}", stdout(&whole));
    let shard = place.path("data/train-00000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[1000] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let damaged = verify();
    assert_eq!(damaged.status.code(), Some(1), "{}", stdout(&damaged));
    assert!(stderr(&damaged).contains("data/train-00000.bin"), "{}", stderr(&damaged));
    assert!(stderr(&damaged).contains("prepare the data again"), "{}", stderr(&damaged));
    fs::remove_file(&shard).unwrap();
    let missing = verify();
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("data/train-00000.bin"), "{}", stderr(&missing));
}

#[test]
fn a_disk_that_is_full_for_a_while_ends_nothing_and_loses_nothing() {
    let talks = r#"
round=0
until [ -e "$here/end" ]; do
  if [ "$name" = a-0 ]; then
    echo "{\"event\": \"evaluation\", \"round\": $round, \"heldoutLoss\": 5.5}"
    echo "round $round" >&2
    round=$((round + 1))
  fi
  if [ "$name" = b-1 ] && [ "$epoch" = 1 ] && [ -e "$here/die" ]; then kill -9 $$; fi
  sleep 0.05
done
"#;
    let place = Place::new(&format!("{talks}{WORKER}"));
    let mut running = place.up_on_a_disk();
    running.wait_for("held-out loss 5.5000 at the start of round 9");
    running.limit_files("300");
    running.wait_for("takes nothing more (File too large");
    fs::write(place.path("die"), "").unwrap();
    running.wait_for("b: rank 1 was killed by signal 9: ");
    let before = running.said.matches("held-out loss").count();
    let later = format!("at the start of round {}", before + 30);
    running.wait_for(&later);
    assert!(!running.said.contains("b: started, epoch 2"), "{}", running.said);
    running.limit_files("unlimited");
    running.wait_for("is written again after");
    running.wait_for("b: started, epoch 2");
    fs::write(place.path("end"), "").unwrap();
    let (said, code) = running.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("takes nothing more").count(), 1, "{said}");
    assert!(said.contains("nothing was lost"), "{said}");
    let events = place.read("runs/tiny/events.jsonl");
    let events: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rounds = events.iter().filter(|e| e["event"] == "evaluation" && e["island"] == "a");
    let rounds: Vec<u64> = rounds.map(|event| event["round"].as_u64().unwrap()).collect();
    // The last evaluation is the one with which every leader ends.
    assert_eq!(rounds[..rounds.len() - 1], (0..rounds.len() as u64 - 1).collect::<Vec<_>>());
    let log: Vec<String> = (0..rounds.len() - 1).map(|round| format!("round {round}")).collect();
    assert_eq!(place.read("runs/tiny/logs/a-0.log").lines().collect::<Vec<_>>(), log);
    assert!(place.read("runs/tiny/run.json").contains("\"b\": 2"));
    assert!(place.read("runs/tiny/summary.json").contains("\"tokens\": 500000"));
}

#[test]
fn a_run_on_a_disk_that_stays_full_is_finished_and_goes_on_when_it_is_resumed() {
    let waits = r#"
until [ -e "$here/end" ]; do sleep 0.05; done
"#;
    let place = Place::new(&format!("{waits}{WORKER}"));
    let mut running = place.up_on_a_disk();
    running.wait_for("b: started, epoch 1");
    running.limit_files("0");
    fs::write(place.path("end"), "").unwrap();
    let (said, code) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("  rounds        1, "), "{said}");
    assert!(!place.path("runs/tiny/summary.json").exists());
    let output = place.up(&["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_start_on_a_full_disk_leaves_nothing_that_keeps_the_next_one_away() {
    let place = Place::new(WORKER);
    let mut shell = Command::new("bash");
    let up = place.command(&["up", "-f", "run.yaml"]);
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash"]).arg(up.get_program());
    shell.args(up.get_args()).current_dir(place.0.path());
    shell.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("run.json"), "{}", stderr(&output));
    // As a crash would leave it.
    fs::write(place.path("runs/tiny/run.json.partial"), "{").unwrap();
    let output = place.up(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_run_without_a_checkpoint_begins_again_and_keeps_the_old_store() {
    let place = Place::new(WORKER);
    assert_eq!(place.up(&[]).status.code(), Some(0));
    let standing = concat!(
        r#"{"store": "whole", "run": "tiny", "round": 1, "highest": 1, "#,
        r#""tokens": 500000, "checkpoint": null}"#
    );
    fs::write(place.path("standing"), standing).unwrap();
    fs::write(place.path("runs/tiny/coordinator.redb"), "rounds").unwrap();
    let output = place.up(&["--resume"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", stderr(&output));
    let expected = "the run begins again from its start, and 1 round of 500k tokens are lost; the \
                    old store is kept as ";
    assert!(said.contains(expected), "{said}");
    assert_eq!(place.read("runs/tiny/coordinator.redb.aside-1"), "rounds");
    assert!(!said.contains("went back"), "{said}");
    assert!(said.contains("  rounds        1, "), "{said}");
}

#[test]
fn a_lost_store_is_only_replaced_by_a_checkpoint_when_the_user_says_so() {
    let place = Place::new(WORKER);
    assert_eq!(place.up(&[]).status.code(), Some(0));
    let checkpoint = place.path("runs/tiny/checkpoints/a/round-00000001");
    fs::create_dir_all(&checkpoint).unwrap();
    let manifest = r#"{"run": "tiny", "round": 1, "tokens": 500000, "samples": 77, "parts": []}"#;
    fs::write(checkpoint.join("manifest.json"), manifest).unwrap();
    let refused = |args: &[&str]| {
        let output = place.up(args);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        stderr(&output)
    };
    let complained = refused(&["--adopt"]);
    assert!(complained.contains("--resume"), "{complained}");
    let complained = refused(&["--resume"]);
    for expected in ["the coordinator's store is gone", "--resume --adopt", "no round on record"] {
        assert!(complained.contains(expected), "no {expected:?} in: {complained}");
    }
    let whole = concat!(
        r#"{"store": "whole", "run": "tiny", "round": 1, "highest": 1, "#,
        r#""tokens": 5, "checkpoint": 1}"#
    );
    fs::write(place.path("standing"), whole).unwrap();
    let complained = refused(&["--resume", "--adopt"]);
    assert!(complained.contains("is whole and at round 1; go on by --resume"), "{complained}");
    fs::write(place.path("standing"), r#"{"store": "damaged", "reason": "cut"}"#).unwrap();
    fs::write(place.path("runs/tiny/coordinator.redb"), "cut").unwrap();
    let output = place.up(&["--resume", "--adopt"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", stderr(&output));
    let expected =
        "a new store of the coordinator adopts the checkpoint of round 1, at 500k tokens";
    assert!(said.contains(expected), "{said}");
    assert_eq!(place.read("runs/tiny/coordinator.redb.aside-1"), "cut");
    let spec: serde_json::Value =
        serde_json::from_str(&place.read("runs/tiny/coordinator.json")).unwrap();
    let adopt = serde_json::json!({"round": 1, "tokens": 500_000, "samples": 77});
    assert_eq!(spec["adopt"], adopt);
}

#[test]
fn ranks_do_not_outlive_a_killed_up() {
    let holds = r#"
exec 3> "$here/alive"
printf x >&3
exec cat > /dev/null
"#;
    let place = Place::new(holds);
    let alive = place.path("alive");
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    let (send, ends) = mpsc::sync_channel(1);
    let mut running = place.up_and_on();
    let reader = thread::spawn(move || {
        let mut alive = fs::File::open(alive).unwrap();
        alive.read_exact(&mut [0; 3]).unwrap();
        send.send("all ranks are up").unwrap();
        alive.read_to_end(&mut Vec::new()).unwrap();
        send.send("all ranks are gone").unwrap();
    });
    ends.recv_timeout(PATIENCE).unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    ends.recv_timeout(PATIENCE).unwrap();
    reader.join().unwrap();
}

#[test]
fn a_missing_program_and_missing_data_are_said_in_a_sentence() {
    let place = Place::new(WORKER);
    fs::remove_file(place.path("worker")).unwrap();
    let output = place.up(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("failed to find heteroloco-worker"), "{}", stderr(&output));
    let output = place.up(&["--data", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("heteroloco data prepare"), "{}", stderr(&output));
    assert!(!Path::new(&place.path("runs/tiny/run.json")).exists());
}

/// Ctrl-C.
fn interrupt(id: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
