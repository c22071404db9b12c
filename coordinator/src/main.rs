//! `heteroloco-coordinator --spec FILE`

use std::process::ExitCode;

use clap::Parser;
use coordinator::app;

#[tokio::main]
async fn main() -> ExitCode {
    app::main(app::Args::parse()).await
}
