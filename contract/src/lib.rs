//! The contract between the programs of a run: the files that start them, the lines that they
//! write, the codes that they end with, and what becomes of an island by them. `up` and the
//! operator start the same programs in the same way.

pub mod coordinator;
pub mod event;
pub mod exit;
pub mod fate;
pub mod worker;

/// The environment variable, and its value, by which a parent says that it holds the program's
/// standard input open for as long as it lives: when that closes, the program ends, as by SIGTERM.
pub const PARENT: (&str, &str) = ("HETEROLOCO_PARENT", "stdin");
