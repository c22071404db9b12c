//! The place of a cluster: its files, and the addresses that its control plane listens on.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fs, io};

use tempfile::TempDir;

use crate::ClusterError;
use crate::network::Hub;

/// The first of three ports of a control plane; below those that the kernel hands out.
const FIRST_PORT: u16 = 20_000;

/// The folder of a cluster; a temporary one is removed with the last that uses it, or with this
/// process, however it ends.
#[derive(Debug)]
pub(crate) enum Folder {
    Given(PathBuf),
    Temporary(Swept),
}

/// A folder, and a process that outlives this one by as long as it takes to remove it: statics of
/// tests are never dropped, and nothing is when a test run is killed.
#[derive(Debug)]
pub(crate) struct Swept {
    dir: TempDir,
    sweeper: Child,
}

impl Swept {
    /// Its standard input ends with this process. Others may write until they have ended, too.
    const SCRIPT: &str = "cat; for _ in $(seq 50); do rm -rf \"$0\" && exit; sleep 0.1; done";

    fn new(dir: TempDir) -> io::Result<Self> {
        let mut sweeper = Command::new("sh");
        sweeper.args(["-c", Self::SCRIPT]).arg(dir.path()).stdin(Stdio::piped());
        // Else an interrupt from the terminal ends it with the tests.
        sweeper.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        sweeper.spawn().map(|sweeper| Self { dir, sweeper })
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

impl Folder {
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self, ClusterError> {
        let failed = ClusterError::io("make the cluster's folder");
        match given {
            Some(path) => {
                { fs::create_dir_all(&path).and_then(|()| fs::canonicalize(&path)).map_err(failed) }
                    .map(Self::Given)
            }
            // Short, because paths of sockets may have 107 bytes.
            None => {
                let dir = tempfile::Builder::new().prefix("hlc-").tempdir();
                dir.and_then(Swept::new).map_err(failed).map(Self::Temporary)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(swept) => swept.dir.path(),
        }
    }
}

/// The addresses that the control plane listens on.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    /// The address of etcd, which asks nobody who he is.
    etcd: Ipv4Addr,
}

impl Place {
    /// An address of the loopback network that no other process takes, because it is made of this
    /// one's id, and ports that no other control plane of this process has: nothing to race for,
    /// and a restarted API server finds its port free.
    pub(crate) fn loopback() -> Self {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let nth = STARTED.fetch_add(1, Ordering::Relaxed) % 1_000;
        let address = Ipv4Addr::new(127, 128 | high, middle, low);
        Self { address, port: FIRST_PORT + 3 * nth, etcd: address }
    }

    /// The hub's address, whose ports nobody else has; etcd where no pod reaches it.
    pub(crate) fn hub(hub: &Hub) -> Self {
        Self { address: hub.address(), port: FIRST_PORT, etcd: Ipv4Addr::LOCALHOST }
    }

    pub(crate) fn etcd(&self) -> String {
        format!("http://{}:{}", self.etcd, self.port + 1)
    }

    pub(crate) fn etcd_peers(&self) -> String {
        format!("http://{}:{}", self.etcd, self.port + 2)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }
}
