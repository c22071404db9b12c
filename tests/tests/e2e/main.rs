//! Tests of the whole project, as one binary: its tree, its crates, its programs.

mod arrows;
mod linking;
mod papers;
mod protocol;
mod run;
mod tidy;
