//! Programs of the system, from Debian packages.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::ClusterError;
use crate::process::run;
use crate::tools::{cache, lock};

const INSTALL_WAIT: Duration = Duration::from_secs(900);

/// Packages that a node needs: a file that shows that a package is there, and the package.
pub(crate) const NODE: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("ip", "iproute2"),
];

/// Packages that building an image needs.
pub(crate) const IMAGES: [(&str, &str); 2] = [("buildah", "buildah"), ("mmdebstrap", "mmdebstrap")];

/// Installs those of `wanted` that are missing, if this is root's process on a Debian.
///
/// # Errors
/// [`ClusterError::Packages`] with what is missing, and why it could not be installed.
pub(crate) async fn ensure(wanted: &[(&str, &str)]) -> Result<(), ClusterError> {
    if missing(wanted).is_empty() {
        return Ok(());
    }
    let installed = install(wanted).await;
    let still = missing(wanted);
    if still.is_empty() {
        return Ok(());
    }
    let join = |words: Vec<&str>| words.join(" ");
    Err(ClusterError::Packages {
        programs: join(still.iter().map(|(program, _)| *program).collect()),
        packages: join(still.iter().map(|(_, package)| *package).collect()),
        source: installed.err().map(Box::new),
    })
}

async fn install(wanted: &[(&str, &str)]) -> Result<(), ClusterError> {
    crate::network::need_root("install Debian packages")?;
    let _turn = lock(&cache()).await?;
    let packages: Vec<_> = missing(wanted).into_iter().map(|(_, package)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt(&["update"]), b"", INSTALL_WAIT).await?;
    let quiet = ["install", "--yes", "--no-install-recommends"];
    run(apt(&[&quiet[..], &packages].concat()), b"", INSTALL_WAIT).await.map(drop)
}

fn missing<'a>(wanted: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    wanted.iter().filter(|(program, _)| !is_there(program)).copied().collect()
}

/// Says whether a path exists or a program is in one of `PATH`'s folders, or in those of root.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    Path::new(program).is_absolute() && Path::new(program).exists()
        || folders.map(|folder| folder.join(program)).any(|file| file.is_file())
}
