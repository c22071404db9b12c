//! `heteroloco-operator`

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    operator::app::main(operator::args::Args::parse()).await
}
