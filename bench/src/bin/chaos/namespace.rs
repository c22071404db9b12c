//! A network of the run's own, in which packets can vanish.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

const INSIDE: &str = "HETEROLOCO_CHAOS_NAMESPACE";
/// How often the connections of a process that is cut off are looked at: new ones are cut, too.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts this program again in a namespace, and waits for it; its exit code. Nothing inside.
pub(crate) fn enter() -> Result<Option<ExitCode>> {
    if std::env::var_os(INSIDE).is_some() {
        return run("ip", &["link", "set", "lo", "up"]).map(|()| None);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    let status = command.status().context(
        "failed to start `unshare` (util-linux), which makes the network that chaos is brought to",
    )?;
    Ok(Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

/// Drops every packet from and to a process for `time`.
pub(crate) fn cut_off(process: Pid, time: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut cut = BTreeSet::new();
    while begun.elapsed() < time {
        // One that was killed meanwhile has no connections.
        for port in ports(process).unwrap_or_default().difference(&cut.clone()) {
            for side in ["--sport", "--dport"] {
                let port = port.to_string();
                run("iptables", &["-w", "-A", "INPUT", "-p", "tcp", side, &port, "-j", "DROP"])?;
            }
            cut.insert(*port);
        }
        sleep(LOOK_EVERY);
    }
    run("iptables", &["-w", "-F", "INPUT"])
}

/// Local ports of a process's TCP sockets.
fn ports(process: Pid) -> Result<BTreeSet<u16>> {
    let folder = format!("/proc/{}", process.as_raw_nonzero());
    let link =
        |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok();
    let inode = |link: String| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    let files = fs::read_dir(format!("{folder}/fd"))?.flatten();
    let inodes: BTreeSet<String> = files.filter_map(link).filter_map(inode).collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("{folder}/net/{table}"))?;
        let owned = |fields: &Vec<&str>| fields.get(9).is_some_and(|inode| inodes.contains(*inode));
        let port = |fields: Vec<&str>| u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok();
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        ports.extend(sockets.filter(owned).filter_map(port));
    }
    Ok(ports)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("failed to start `{program}`: install it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {said}", args.join(" "));
    Ok(())
}
