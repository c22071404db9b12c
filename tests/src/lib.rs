//! Parts that the tests of the whole project share: where things are.
//!
//! The tests stand in `tests/e2e/` and start the programs as a user would.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// A program that was built in the profile of the running tests, such as `heteroloco-worker`.
///
/// # Panics
/// When it has not been built: cargo builds a package's programs for its own tests only.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the running test has a path");
    // target/PROFILE/deps/e2e-HASH -> target/PROFILE/NAME
    let path = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").join(name);
    assert!(
        path.is_file(),
        "{} has not been built: run `make test`, or `cargo build -p cli -p coordinator -p worker` \
         in the same profile first",
        path.display()
    );
    path
}
