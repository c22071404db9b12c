//! Writes the custom resource definitions into `crds/`, and as templates of the Helm chart: `make
//! gen`.

use std::error::Error;
use std::fs;
use std::path::Path;

const HEADER: &str = "# Generated from api/ by `make gen`; do not edit.\n";
/// Metadata that the chart adds to a definition.
const METADATA: &str = "metadata:\n  {{- include \"heteroloco.crdMetadata\" . | nindent 2 }}\n";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let plain = root.join("crds");
    let chart = root.join("charts/heteroloco/templates/crds");
    fs::create_dir_all(&plain)?;
    fs::create_dir_all(&chart)?;
    for (name, crd) in api::crds::definitions() {
        let definition = HEADER.to_owned() + &serde_yaml::to_string(&crd)?;
        fs::write(chart.join(name), template(&definition)?)?;
        fs::write(plain.join(name), definition)?;
    }
    Ok(())
}

/// The chart's template of a definition, which its user may leave out.
fn template(definition: &str) -> Result<String, Box<dyn Error>> {
    if definition.contains("{{") {
        return Err("a definition has {{, which Helm would take for its own: reword it".into());
    }
    let (before, after) = definition.split_once("metadata:\n").ok_or("it has no metadata")?;
    Ok(format!("{{{{- if .Values.crds.install }}}}\n{before}{METADATA}{after}{{{{- end }}}}\n"))
}
