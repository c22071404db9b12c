//! `heteroloco-worker`: one rank of an island, and what has to be done with libtorch besides.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    worker::program::main(worker::program::Arguments::parse())
}
