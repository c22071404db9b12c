//! Why a process was killed that nobody here killed: where memory is full, the kernel does.

use crate::memory::Kernel;
use crate::up::supervise::Exit;

/// SIGKILL.
const KILL: i32 = 9;
const FULL: &str = "set a smaller model, sequenceLength or batch, or fewer cards, or end what \
                    else runs here";
const LIKELY: &str = "the kernel's out-of-memory killer is the likely cause (dmesg tells); where \
                      it is, set a smaller model, sequenceLength or batch, or fewer cards, or \
                      end what else runs here";

/// Kills of this run's processes by the kernel for want of memory, as far as they are known.
#[derive(Debug)]
pub(super) struct Killer {
    kernel: Kernel,
    /// Processes that it killed, as far as they are known of.
    known: Option<u64>,
}

impl Killer {
    pub(super) fn new(kernel: Kernel) -> Self {
        let known = kernel.killed();
        Self { kernel, known }
    }

    /// How a process ended, and what to say of it; `ours` says that it was killed from here.
    pub(super) fn look(&mut self, exit: Exit, ours: bool) -> (Exit, Option<&'static str>) {
        if ours || exit != Exit::Signal(KILL) {
            return (exit, None);
        }
        match (self.known, self.kernel.killed()) {
            (Some(known), Some(now)) if now > known => {
                self.known = Some(known + 1);
                (Exit::NoMemory, Some(FULL))
            }
            _ => (exit, Some(LIKELY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kill_that_nobody_here_asked_for_is_the_kernels_for_sure_where_it_counts_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "0::/a\n");
        let counted = |kills: u32| write("groups/a/memory.events", &format!("oom_kill {kills}\n"));
        counted(5);
        let kernel = Kernel::at(folder.path().join("proc"), folder.path().join("groups"));
        let mut killer = Killer::new(kernel);
        let killed = Exit::Signal(KILL);
        assert_eq!(killer.look(killed, false), (killed, Some(LIKELY)));
        counted(7);
        assert_eq!(killer.look(killed, true), (killed, None));
        assert_eq!(killer.look(Exit::Signal(11), false), (Exit::Signal(11), None));
        assert_eq!(killer.look(Exit::Code(3), false), (Exit::Code(3), None));
        for _ in 0..2 {
            assert_eq!(killer.look(killed, false), (Exit::NoMemory, Some(FULL)));
        }
        assert_eq!(killer.look(killed, false), (killed, Some(LIKELY)), "two were counted");
    }
}
