//! The configuration by which a client reaches the API server as somebody.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ClusterError;
use crate::certificates::Identity;

/// The address of the API server and who vouches for it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) authority: PathBuf,
}

/// Writes a kubeconfig with which a client is `identity`. JSON is YAML.
pub(crate) fn write(path: &Path, server: &Server, identity: &Identity) -> Result<(), ClusterError> {
    let name = "heteroloco";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server.url, "certificate-authority": server.authority,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate": identity.certificate, "client-key": identity.key,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    let text = format!("{config:#}\n");
    fs::write(path, text).map_err(ClusterError::io(format!("write {}", path.display())))
}
