//! Places at which a test may kill the operator, between one write and the next.

/// The environment variable that names the place.
#[cfg(debug_assertions)]
const VARIABLE: &str = "HETEROLOCO_FAULT";

/// Ends the process here, without a word to anybody, where a test asks for it.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    if std::env::var(VARIABLE).is_ok_and(|asked| asked == name) {
        eprintln!("fault: killed at {name}");
        std::process::abort();
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_: &str) {}
