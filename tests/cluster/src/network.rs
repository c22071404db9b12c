//! Namespaces, and the network that joins them.
//!
//! Everything hangs on the process that holds a namespace: when it is killed the kernel removes the
//! namespace, and with it its links, routes, rules and mounts. Nothing of it can be left behind.
//!
//! ```text
//! this machine ---- link ---- hub: bridge 10.N.0.1, API server
//! 10.N.255.1                  |-- node 1: 10.N.0.11, pods 10.N.1.0/24
//!                             `-- node 2: 10.N.0.12, pods 10.N.2.0/24
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::ClusterError;
use crate::process::{Process, Wait, mortal, run, until};

/// How long a step of setting up may take.
const SETUP_WAIT: Duration = Duration::from_secs(30);
/// The second bytes of a cluster's addresses that are tried.
const NETWORKS: std::ops::RangeInclusive<u8> = 128..=223;
/// The most nodes of one cluster; each takes a third byte.
pub(crate) const NODES_MAX: u8 = 200;

/// Fails with the reason unless this process may do everything.
pub(crate) fn need_root(step: &str) -> Result<(), ClusterError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(ClusterError::NotRoot { step: step.to_owned() })
}

/// A process that holds namespaces.
#[derive(Debug)]
pub(crate) struct Namespaces {
    holder: Process,
    mounts: bool,
}

impl Namespaces {
    /// A network namespace.
    async fn network(log: &Path) -> Result<Self, ClusterError> {
        let mut command = mortal("unshare");
        command.args(["--net", "--", "sleep", "infinity"]);
        let holder = Process::start("network", command, log)?;
        let mut namespaces = Self { holder, mounts: false };
        let path = |id: &str| format!("/proc/{id}/ns/net");
        let own = fs::read_link(path("self")).map_err(ClusterError::io("read a namespace"))?;
        until("a network namespace", SETUP_WAIT, async || {
            namespaces.holder.check()?;
            let theirs = fs::read_link(path(&namespaces.holder.id().to_string()));
            let other = theirs.as_ref().is_ok_and(|theirs| *theirs != own);
            if other { Ok(()) } else { Err(Wait::Again(format!("{theirs:?}"))) }
        })
        .await?;
        Ok(namespaces)
    }

    /// Namespaces of network, mounts and processes, in which `setup`, a line of shell, is done
    /// first.
    pub(crate) async fn machine(setup: &str, dir: &Path) -> Result<Self, ClusterError> {
        let ready = dir.join("namespaces");
        let script =
            format!("{setup} && touch {} && {{ sleep infinity & wait; }}", ready.display());
        let mut command = mortal("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        // The shell waits in the end, and so reaps what the node's processes leave behind.
        command.args(["--", "sh", "-c", &script]);
        let holder = Process::start("namespaces", command, &dir.join("namespaces.log"))?;
        let mut namespaces = Self { holder, mounts: true };
        until("a node's namespaces", SETUP_WAIT, async || {
            namespaces.holder.check()?;
            if ready.exists() { Ok(()) } else { Err(Wait::Again("no mounts".to_owned())) }
        })
        .await?;
        Ok(namespaces)
    }

    /// A command in these namespaces that ends with this process, and with them.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let file = |name: &str| format!("/proc/{}/ns/{name}", self.holder.id());
        let mut command = mortal("nsenter");
        command.arg(format!("--net={}", file("net")));
        if !self.mounts {
            command.arg("--").arg(program.as_ref());
            return command;
        }
        command.arg(format!("--mount={}", file("mnt")));
        // To enter a process namespace is to fork: the child has to end with its parent as well.
        command.arg(format!("--pid={}", file("pid_for_children")));
        command.args(["--", "setpriv", "--pdeathsig", "KILL", "--"]).arg(program.as_ref());
        command
    }

    /// Runs lines of `ip` in them.
    async fn ip(&self, lines: &str) -> Result<(), ClusterError> {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]);
        run(command, lines.as_bytes(), SETUP_WAIT).await.map(drop)
    }

    /// Lets it pass packets on.
    async fn forward(&self) -> Result<(), ClusterError> {
        let mut command = self.command("sh");
        command.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        run(command, b"", SETUP_WAIT).await.map(drop)
    }
}

impl Drop for Namespaces {
    /// Kills the first process of the namespaces before its parent. The parent ends only after it,
    /// and it ends only after all others: then nothing of them runs any more.
    fn drop(&mut self) {
        let id = self.holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            if let Some(child) = Pid::from_raw(child) {
                // One that has ended by itself is as good.
                let _ = kill_process(child, Signal::KILL);
            }
        }
        if self.mounts && !children.trim().is_empty() {
            self.holder.wait();
        }
    }
}

/// The namespace in which the control plane is and at which every node hangs.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) namespaces: Namespaces,
    /// N of the addresses 10.N.0.0/16.
    network: u8,
}

impl Hub {
    /// Makes the namespace, its bridge and its link to this machine.
    ///
    /// # Errors
    /// Without root, or when every network of the range is taken.
    pub(crate) async fn start(dir: &Path) -> Result<Self, ClusterError> {
        need_root("make a network for nodes")?;
        let namespaces = Namespaces::network(&dir.join("network.log")).await?;
        let network = Self::link(namespaces.holder.id()).await?;
        let lines = format!(
            "link set lo up\n\
             addr add 10.{network}.255.2/30 dev machine\n\
             link set machine up\n\
             link add nodes type bridge\n\
             addr add 10.{network}.0.1/24 dev nodes\n\
             link set nodes up\n"
        );
        namespaces.ip(&lines).await?;
        namespaces.forward().await?;
        let here = format!(
            "addr add 10.{network}.255.1/30 dev hlc{network}\n\
             link set hlc{network} up\n\
             route add 10.{network}.0.0/16 via 10.{network}.255.2\n"
        );
        ip(&["-batch", "-"], &here).await?;
        Ok(Self { namespaces, network })
    }

    /// Takes the first free network by making its link: of two who try, one fails.
    async fn link(holder: u32) -> Result<u8, ClusterError> {
        let routes = ip(&["-4", "route", "show", "table", "all"], "").await?;
        let mut refused = None;
        for network in NETWORKS.filter(|n| !routes.contains(&format!("10.{n}."))) {
            let (name, holder) = (format!("hlc{network}"), holder.to_string());
            let other_end = ["type", "veth", "peer", "name", "machine", "netns", &holder];
            match ip(&[&["link", "add", &name], &other_end[..]].concat(), "").await {
                Ok(_) => return Ok(network),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| ClusterError::NotReady {
            what: "a free network among 10.128.0.0 to 10.223.0.0".to_owned(),
            bound: Duration::ZERO,
            seen: routes,
            logs: String::new(),
        }))
    }

    /// The address on which the API server listens.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.network, 0, 1)
    }

    /// The address of the `nth` node, from 1.
    pub(crate) fn node(&self, nth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.network, 0, 10 + nth)
    }

    /// The addresses of the pods of the `nth` node.
    pub(crate) fn pods(&self, nth: u8) -> String {
        format!("10.{}.{nth}.0/24", self.network)
    }

    /// Joins the namespaces of the `nth` node.
    pub(crate) async fn join(&self, nth: u8, node: &Namespaces) -> Result<(), ClusterError> {
        let (hub, address, pods) = (self.address(), self.node(nth), self.pods(nth));
        let holder = node.holder.id();
        let lines = format!(
            "link add node{nth} type veth peer name eth0 netns {holder}\n\
             link set node{nth} master nodes\n\
             link set node{nth} up\n"
        );
        self.namespaces.ip(&lines).await?;
        let lines = format!(
            "link set lo up\n\
             addr add {address}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {hub}\n"
        );
        node.ip(&lines).await?;
        node.forward().await?;
        self.namespaces.ip(&format!("route replace {pods} via {address}\n")).await
    }
}

async fn ip(args: &[&str], lines: &str) -> Result<String, ClusterError> {
    let mut command = Command::new("ip");
    command.args(args);
    run(command, lines.as_bytes(), SETUP_WAIT).await
}
