//! Writes `proto/src/gen/` from the `.proto` files: `make gen`. No protoc is needed. A program of
//! its own, because `proto` does not compile while what is generated lags behind what uses it.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no folder above")?;
    let files = ["coordinator", "exchange", "collective"]
        .map(|name| root.join(format!("heteroloco/v1/{name}.proto")));
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .out_dir(root.join("src/gen"))
        .bytes(".heteroloco.v1.Piece.data")
        .bytes(".heteroloco.v1.Frame.payload")
        .build_transport(true)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
