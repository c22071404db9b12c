//! Real children, all of them a few lines of shell.

use super::*;

/// Runs `script`; what it does, and where its standard error goes.
fn run(script: &str) -> (Handle, mpsc::Receiver<Report>, tempfile::NamedTempFile) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (reports, received) = mpsc::channel(16);
    let launch = Launch {
        who: Who::Coordinator,
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("WORD", "hello".to_owned())],
        log: log.path().to_owned(),
    };
    (start(launch, reports).unwrap(), received, log)
}

async fn line(received: &mut mpsc::Receiver<Report>) -> String {
    match received.recv().await {
        Some(Report::Line(Who::Coordinator, line)) => line,
        other => panic!("{other:?}"),
    }
}

async fn exit(received: &mut mpsc::Receiver<Report>) -> Exit {
    match received.recv().await {
        Some(Report::Exited(Who::Coordinator, exit)) => exit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn lines_come_before_the_exit_and_the_log_keeps_standard_error() {
    let (_handle, mut received, log) = run("echo $WORD $HETEROLOCO_PARENT; echo bad >&2; exit 3");
    assert_eq!(line(&mut received).await, "hello stdin");
    assert_eq!(exit(&mut received).await, Exit::Code(3));
    assert_eq!(last_line(log.path()), "bad");
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
    assert_eq!(exit(&mut received).await, Exit::Signal(9));
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
    assert_eq!(line(&mut received).await.len() as u64, LINE_BYTES);
    assert_eq!(line(&mut received).await.len() as u64, 70_000 - LINE_BYTES);
    assert_eq!(exit(&mut received).await, Exit::Code(0));
}

#[test]
fn a_log_that_is_not_there_has_no_last_line() {
    assert_eq!(last_line(Path::new("/nonexistent/log")), "");
}
