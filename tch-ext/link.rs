//! Instructions to the linker from every crate that links libtorch: a module of those build
//! scripts.

use std::env;
use std::path::PathBuf;

/// The libtorch folder that `LIBTORCH` names.
///
/// # Panics
/// When `LIBTORCH` is unset or names no folder: a build script has no other way to stop a build.
pub(crate) fn libtorch() -> PathBuf {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let folder = env::var_os("LIBTORCH").map(PathBuf::from).filter(|f| f.join("lib").is_dir());
    folder.expect("LIBTORCH names no libtorch folder: run `make setup`, then build with `make`")
}

/// Lets the binaries and tests of the calling crate find libtorch without environment variables,
/// while a full libtorch that stands first in `LD_LIBRARY_PATH` still wins (`docs/gpu-hosts.md`).
pub(crate) fn emit() {
    let library = libtorch().join("lib");
    println!("cargo::rustc-link-arg=-L{}", library.display());
    // RUNPATH, not RPATH: only the former comes after LD_LIBRARY_PATH.
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", library.display());
    // No symbol is taken from libtorch.so itself, and the linker would drop it; but the one of a
    // GPU host is what brings libtorch_cuda into the process.
    println!("cargo::rustc-link-arg=-Wl,--no-as-needed,-ltorch,--as-needed");
}
