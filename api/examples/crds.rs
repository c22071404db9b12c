//! Writes the custom resource definitions into `crds/`: `make gen`.

use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    fs::create_dir_all(&folder)?;
    for (name, crd) in api::crds::definitions() {
        let header = "# Generated from api/ by `make gen`; do not edit.\n";
        fs::write(folder.join(name), header.to_owned() + &serde_yaml::to_string(&crd)?)?;
    }
    Ok(())
}
