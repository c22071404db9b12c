//! A namespace of a cluster, as tests look at it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{ClusterError, ControlPlane};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A namespace, there or not.
#[derive(Clone, Copy)]
pub struct Namespace<'a> {
    plane: &'a ControlPlane,
    name: &'a str,
}

impl ControlPlane {
    /// The namespace of that name.
    pub fn namespace<'a>(&'a self, name: &'a str) -> Namespace<'a> {
        Namespace { plane: self, name }
    }
}

impl Namespace<'_> {
    /// Runs `kubectl` in the namespace and returns what it prints.
    ///
    /// # Errors
    /// Those of [`ControlPlane::kubectl`].
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, ClusterError> {
        self.plane.kubectl(&self.within(arguments)).await
    }

    /// Applies objects to the namespace.
    ///
    /// # Errors
    /// Those of [`ControlPlane::kubectl`], such as what the API server refuses.
    pub async fn apply(&self, objects: &[Value]) -> Result<String, ClusterError> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let arguments = self.within(&["apply", "-f", "-"]);
        self.plane.kubectl_with(&arguments, list.as_bytes()).await
    }

    /// An object; null where there is none, or nobody answers.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        let asked = self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]).await;
        asked.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// All objects of a kind; none where nobody answers.
    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let asked = self.kubectl(&["get", kind, "-o", "json"]).await;
        let list = asked.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
    }

    /// Waits until an object is as wished; the object.
    ///
    /// # Errors
    /// The object as it was last seen, after `patience`.
    pub async fn wait(
        &self,
        (kind, name): (&str, &str),
        patience: Duration,
        wish: impl Fn(&Value) -> bool,
    ) -> Result<Value, Value> {
        let begun = Instant::now();
        loop {
            let object = self.get(kind, name).await;
            if wish(&object) {
                return Ok(object);
            }
            if begun.elapsed() >= patience {
                return Err(object);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn within<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        ["-n", self.name].iter().chain(arguments).copied().collect()
    }
}

/// A condition of an object; null where there is none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}
