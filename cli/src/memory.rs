//! The memory of this machine that is left to a process, and what became of those that had none
//! left: from `/proc` and from the process's control groups (cgroups), of which each may have a
//! limit of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// A limit from here on is none: cgroup v1 writes "unlimited" as the largest multiple of a page.
const UNLIMITED: u64 = 1 << 60;

/// Memory that is left, and whose bound that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes.
    pub bytes: u64,
    /// The holder of the bound.
    pub bound: Bound,
}

/// The holder of a bound on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The machine has no more (`MemAvailable`).
    Machine,
    /// A control group, such as a container's, may not have more.
    Cgroup,
}

/// The folders in which the kernel tells of memory.
#[derive(Clone, Debug)]
pub struct Kernel {
    proc: PathBuf,
    groups: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::at("/proc".into(), "/sys/fs/cgroup".into())
    }
}

/// One control group.
#[derive(Clone, Debug)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Kernel {
    /// The kernel whose `/proc` and tree of control groups are there.
    pub fn at(proc: PathBuf, groups: PathBuf) -> Self {
        Self { proc, groups }
    }

    /// Memory that is left to this process and its children; nothing where nobody says.
    pub fn available(&self) -> Option<Available> {
        let machine = fs::read_to_string(self.proc.join("meminfo")).ok();
        let machine = machine.and_then(|text| number(&text, "MemAvailable:"));
        let machine = machine.map(|kibibytes| Available {
            bytes: kibibytes.saturating_mul(1024),
            bound: Bound::Machine,
        });
        let groups = self.groups().into_iter().filter_map(|group| group.left());
        let groups = groups.map(|bytes| Available { bytes, bound: Bound::Cgroup });
        machine.into_iter().chain(groups).min_by_key(|available| available.bytes)
    }

    /// Processes of this one's control group that the kernel killed because memory was full;
    /// nothing where it does not say.
    pub fn killed(&self) -> Option<u64> {
        self.groups().first()?.killed()
    }

    /// The control groups that bound this process, the innermost first.
    fn groups(&self) -> Vec<Group> {
        let Ok(text) = fs::read_to_string(self.proc.join("self/cgroup")) else { return Vec::new() };
        let line = |wanted: fn(&str) -> bool| {
            // number:controllers:path
            let mut parts = text.lines().map(|line| line.splitn(3, ':'));
            parts.find_map(|mut parts| (wanted(parts.nth(1)?)).then(|| parts.next())?)
        };
        let first = line(|controllers| controllers.split(',').any(|name| name == "memory"));
        let (root, path, version) = match (first, line(str::is_empty)) {
            (Some(path), _) => (self.groups.join("memory"), path, Version::V1),
            (None, Some(path)) => (self.groups.clone(), path, Version::V2),
            (None, None) => return Vec::new(),
        };
        // Inside a container the path may be the host's, and the root is the container's own.
        let own = Path::new(path.trim_start_matches('/'));
        let folders = own.ancestors().map(|path| root.join(path)).filter(|folder| folder.is_dir());
        folders.map(|folder| Group { folder, version }).collect()
    }
}

impl Group {
    /// Bytes that it may still take: files that are cached and not in use make room.
    fn left(&self) -> Option<u64> {
        let (limit, used, cached) = match self.version {
            Version::V1 => {
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            }
            Version::V2 => ("memory.max", "memory.current", "inactive_file"),
        };
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        let value = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let limit = value(limit).filter(|limit| *limit < UNLIMITED)?;
        let cached = read("memory.stat").and_then(|text| number(&text, cached)).unwrap_or(0);
        Some(limit.saturating_sub(value(used)?.saturating_sub(cached)))
    }

    fn killed(&self) -> Option<u64> {
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        number(&fs::read_to_string(self.folder.join(name)).ok()?, "oom_kill")
    }
}

/// The number behind `key` on a line of its own.
fn number(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == key).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:  24000000 kB\nMemAvailable:   20000000 kB\nSwapFree: 0 kB\n";
    const MACHINE: Available = Available { bytes: 20_000_000 * 1024, bound: Bound::Machine };

    /// A kernel that has these files.
    fn kernel(folder: &Path, files: &[(&str, &str)]) -> Kernel {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Kernel::at(folder.join("proc"), folder.join("groups"))
    }

    fn of(files: &[(&str, &str)]) -> (Option<Available>, Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec![("proc/meminfo", MEMINFO)];
        all.extend(files);
        let kernel = kernel(folder.path(), &all);
        (kernel.available(), kernel.killed())
    }

    #[test]
    fn the_machine_bounds_a_process_that_nothing_else_does() {
        assert_eq!(of(&[]), (Some(MACHINE), None));
        let unlimited = [
            ("proc/self/cgroup", "0::/user.slice/app.scope\n"),
            ("groups/user.slice/app.scope/memory.max", "max\n"),
            ("groups/user.slice/app.scope/memory.current", "1000\n"),
            ("groups/user.slice/app.scope/memory.events", "low 0\noom 2\noom_kill 3\n"),
        ];
        assert_eq!(of(&unlimited), (Some(MACHINE), Some(3)));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kernel(folder.path(), &[]).available(), None);
    }

    #[test]
    fn the_tightest_of_all_groups_around_a_process_counts() {
        let nested = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("groups/a/memory.max", "5000\n"),
            ("groups/a/memory.current", "3000\n"),
            ("groups/a/memory.stat", "anon 1000\ninactive_file 1500\n"),
            ("groups/a/b/memory.max", "9000\n"),
            ("groups/a/b/memory.current", "100\n"),
        ];
        let left = |bytes| Some(Available { bytes, bound: Bound::Cgroup });
        assert_eq!(of(&nested).0, left(3500));
        let full = [&nested[..], &[("groups/a/memory.current", "9999")]].concat();
        assert_eq!(of(&full).0, left(0));
    }

    #[test]
    fn a_container_whose_path_is_the_hosts_is_bounded_at_its_own_root() {
        let v1 = [
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/1f\n0::/\n"),
            ("groups/memory/memory.limit_in_bytes", "4096\n"),
            ("groups/memory/memory.usage_in_bytes", "1024\n"),
            ("groups/memory/memory.stat", "inactive_file 0\ntotal_inactive_file 24\n"),
            ("groups/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ];
        let left = Available { bytes: 3096, bound: Bound::Cgroup };
        assert_eq!(of(&v1), (Some(left), Some(1)));
        let limit = ("groups/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of(&[&v1[..], &[limit]].concat()).0, Some(MACHINE));
    }
}
