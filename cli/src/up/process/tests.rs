//! Real children, all of them a few lines of shell.

use super::*;

/// Runs `script`; what it does, and where its standard error goes.
fn run(script: &str) -> (Handle, mpsc::Receiver<Report>, tempfile::NamedTempFile) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (handle, received) = run_with_log(script, log.path());
    (handle, received, log)
}

fn run_with_log(script: &str, log: &std::path::Path) -> (Handle, mpsc::Receiver<Report>) {
    let (reports, received) = mpsc::channel(16);
    let launch = Launch {
        who: Who::Coordinator,
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("WORD", "hello".to_owned())],
        log: log.to_owned(),
    };
    (start(launch, reports).unwrap(), received)
}

async fn line(received: &mut mpsc::Receiver<Report>) -> String {
    match received.recv().await {
        Some(Report::Line(Who::Coordinator, line)) => line,
        other => panic!("{other:?}"),
    }
}

async fn exit(received: &mut mpsc::Receiver<Report>) -> Exit {
    match received.recv().await {
        Some(Report::Exited { who: Who::Coordinator, exit, .. }) => exit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn lines_come_before_the_exit_and_the_log_keeps_standard_error() {
    let (_handle, mut received, log) = run("echo $WORD $HETEROLOCO_PARENT; echo bad >&2; exit 3");
    assert_eq!(line(&mut received).await, "hello stdin");
    let end = received.recv().await;
    assert!(
        matches!(&end, Some(Report::Exited { exit: Exit::Code(3), last, .. }) if last == "bad"),
        "{end:?}"
    );
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "bad\n");
    assert!(received.recv().await.is_none());
}

#[tokio::test]
async fn a_child_is_asked_to_end_and_may_do_so_in_its_own_way() {
    let (handle, mut received, _log) =
        run("trap 'echo bye; exit 0' TERM; exec 3<&0; echo up; cat <&3 & wait");
    assert_eq!(line(&mut received).await, "up");
    handle.terminate();
    assert_eq!(line(&mut received).await, "bye");
    assert_eq!(exit(&mut received).await, Exit::Code(0));
}

#[tokio::test]
async fn a_child_that_refuses_to_end_is_killed() {
    let (handle, mut received, _log) = run("trap '' TERM; echo up; exec cat");
    assert_eq!(line(&mut received).await, "up");
    handle.terminate();
    handle.kill();
    let end = received.recv().await;
    let killed = matches!(end, Some(Report::Exited { exit: Exit::Signal(9), killed: true, .. }));
    assert!(killed, "{end:?}");
}

#[tokio::test]
async fn a_child_that_others_kill_was_not_killed_from_here() {
    let (_handle, mut received, _log) = run("kill -9 $$");
    let end = received.recv().await;
    let killed = matches!(end, Some(Report::Exited { exit: Exit::Signal(9), killed: false, .. }));
    assert!(killed, "{end:?}");
}

#[tokio::test]
async fn a_child_ends_with_its_handle() {
    let (handle, mut received, _log) = run("echo up; cat");
    assert_eq!(line(&mut received).await, "up");
    drop(handle);
    assert_eq!(exit(&mut received).await, Exit::Signal(9));
}

#[tokio::test]
async fn a_line_without_an_end_is_cut() {
    let (_handle, mut received, _log) = run("head -c 70000 /dev/zero | tr '\\0' x");
    assert_eq!(line(&mut received).await.len() as u64, LINE_BYTES_MAX);
    assert_eq!(line(&mut received).await.len() as u64, 70_000 - LINE_BYTES_MAX);
    assert_eq!(exit(&mut received).await, Exit::Code(0));
}

#[tokio::test]
async fn a_child_whose_log_cannot_be_written_neither_waits_nor_ends_and_its_last_line_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    // More than fits into a pipe and into what waits in memory.
    let script = "for n in 1 2 3 4 5 6 7 8 9; do head -c 65000 /dev/zero | tr '\\0' x >&2; \
                  echo >&2; done; echo bad >&2 && exit 3";
    let (_handle, mut received) = run_with_log(script, &log);
    let end = received.recv().await;
    assert!(
        matches!(&end, Some(Report::Exited { exit: Exit::Code(3), last, .. }) if last == "bad"),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_written_at_first_has_all_of_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("not yet/log");
    let (_handle, mut received) = run_with_log("echo one >&2; echo up; read x; echo $x >&2", &log);
    assert_eq!(line(&mut received).await, "up");
    std::fs::create_dir(folder.path().join("not yet")).unwrap();
    while std::fs::read_to_string(&log).unwrap_or_default() != "one\n" {
        tokio::task::yield_now().await;
    }
}
