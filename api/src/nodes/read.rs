//! From text to Kubernetes' own Node objects.

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::{NODES_MAX, TEXT_MAX};

/// A text that holds no nodes that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodesError {
    /// More text than is read.
    #[error(
        "failed to read nodes: {0} bytes are more than {TEXT_MAX}: give only nodes with cards, by \
         kubectl get nodes -l nvidia.com/gpu.present=true"
    )]
    TooLong(usize),
    /// More nodes than are read.
    #[error(
        "failed to read nodes: {0} are more than {NODES_MAX}: give only nodes with cards, by \
         kubectl get nodes -l nvidia.com/gpu.present=true"
    )]
    TooMany(usize),
    /// No node at all.
    #[error("failed to read nodes: there are none: give what kubectl get nodes -o yaml prints")]
    None,
    /// Neither YAML nor JSON, or fields that a node has not.
    #[error("failed to read nodes, document {document}: {message}: give what kubectl prints")]
    Unreadable {
        /// Its number, from 1.
        document: usize,
        /// The field and what is wrong with it.
        message: String,
    },
    /// Something else.
    #[error("failed to read nodes, document {document}: {kind} is not Node or List: leave it out")]
    Kind {
        /// Its number, from 1.
        document: usize,
        /// The kind that it has instead.
        kind: String,
    },
    /// A node without a name.
    #[error("failed to read nodes: number {0} has no metadata.name: give it one")]
    Unnamed(usize),
    /// Two nodes of one name.
    #[error("failed to read nodes: {0} is there twice: leave one out")]
    Twice(String),
}

/// A node or a list of them: fields of both.
#[derive(Deserialize)]
struct Document {
    kind: Option<String>,
    metadata: Option<ObjectMeta>,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
    items: Option<Vec<Node>>,
}

/// All nodes of a text.
pub(super) fn objects(text: &str) -> Result<Vec<Node>, NodesError> {
    if text.len() > TEXT_MAX {
        return Err(NodesError::TooLong(text.len()));
    }
    // YAML may begin like JSON too; what is wrong with neither is then said of the YAML.
    let json = text.trim_start().starts_with('{').then(|| json(text));
    let objects = match json {
        Some(Ok(objects)) => objects,
        _ => yaml(text)?,
    };
    match objects.len() {
        0 => Err(NodesError::None),
        count if count > NODES_MAX => Err(NodesError::TooMany(count)),
        _ => Ok(objects),
    }
}

/// One JSON value after another.
fn json(text: &str) -> Result<Vec<Node>, NodesError> {
    let mut objects = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut document = 0;
    while reader.end().is_err() {
        document += 1;
        objects.extend(nodes(document, &mut reader)?);
    }
    Ok(objects)
}

fn yaml(text: &str) -> Result<Vec<Node>, NodesError> {
    let mut objects = Vec::new();
    for (at, reader) in serde_yaml::Deserializer::from_str(text).enumerate() {
        objects.extend(nodes(at + 1, reader)?);
    }
    Ok(objects)
}

/// The nodes of one document; an empty one has none.
fn nodes<'de>(document: usize, reader: impl Deserializer<'de>) -> Result<Vec<Node>, NodesError> {
    let read: Result<Option<Document>, _> = serde_path_to_error::deserialize(reader);
    let unreadable = |error: serde_path_to_error::Error<_>| NodesError::Unreadable {
        document,
        message: error.to_string(),
    };
    let Some(read) = read.map_err(unreadable)? else { return Ok(Vec::new()) };
    match read.kind.as_deref() {
        Some("List" | "NodeList") => Ok(read.items.unwrap_or_default()),
        Some("Node") => {
            let metadata = read.metadata.unwrap_or_default();
            Ok(vec![Node { metadata, spec: read.spec, status: read.status }])
        }
        kind => {
            let kind = kind.unwrap_or("something without kind").to_owned();
            Err(NodesError::Kind { document, kind })
        }
    }
}
