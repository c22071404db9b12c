//! The tree's own rules. They stand apart from the other tests, so that `make lint` has them in
//! seconds.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod arrows;
mod metrics;
mod rules;
mod tree;
mod wording;

use std::path::Path;

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in tests/")
}
