//! Looks at the cluster that the tests of this crate share.

use std::fs;
use std::path::Path;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(300);

/// The command lines of the running processes that name `dir`.
pub(super) fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    // The owner names the folder too.
    lines.filter(|line| line.contains(dir) && !line.contains(" serve ")).collect()
}

/// Waits until no process names `dir`.
pub(super) async fn until_gone(dir: &Path) {
    until("its processes to end", || processes_of(dir).is_empty()).await;
}

/// Waits until there is a file.
pub(super) async fn until_exists(path: &Path) {
    until("a file", || path.exists()).await;
}

async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let looking = async {
        while !probe() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BOUND, looking).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

/// The cgroups, in every hierarchy, whose names have `part`.
pub(super) fn cgroups(part: &str) -> Vec<std::path::PathBuf> {
    let folders = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten();
    let folders = folders.filter(|entry| entry.file_name().to_string_lossy().contains(part));
    folders.map(|entry| entry.into_path()).collect()
}
