//! From a document's value to a resource, with every problem of it.

use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::envelope;
use crate::crds::spec_schema;
use crate::island::ComputeIsland;
use crate::run::TrainingRun;
use crate::schema::{FieldProblem, Written, check, prune};

/// A kind that is read from files.
pub(super) trait Manifest: CustomResourceExt + DeserializeOwned {
    /// Its contradictions and values that make no sense, a model's folder left out.
    fn problems(&self) -> Vec<FieldProblem>;
}

impl Manifest for TrainingRun {
    fn problems(&self) -> Vec<FieldProblem> {
        let unread = |_: &std::path::Path| Err(String::new());
        let mut problems = self.request(&unread).err().unwrap_or_default();
        problems.retain(|problem| !problem.message.is_empty());
        problems
    }
}

impl Manifest for ComputeIsland {
    fn problems(&self) -> Vec<FieldProblem> {
        self.request().err().unwrap_or_default()
    }
}

/// The document as a resource, once its envelope and its spec follow the schema.
pub(super) fn read<Kind: Manifest>(
    mut value: Value,
    written: Written<'_>,
) -> Result<Kind, Vec<FieldProblem>> {
    let schema = spec_schema::<Kind>();
    if let Some(spec) = value.get_mut("spec") {
        prune(&schema, spec);
    }
    let mut found = envelope::check(&value, &schema, written);
    match &value["spec"] {
        Value::Null if found.iter().any(|it| it.message.contains("`spec`")) => {}
        Value::Null => found.push(FieldProblem::new("spec", "missing: what is wanted")),
        spec => found.extend(check(&schema, spec, written)),
    }
    if found.is_empty() {
        return deserialized(&value).map_err(|problem| vec![problem]);
    }
    beyond::<Kind>(value, &schema, &mut found);
    Err(found)
}

fn deserialized<Kind: Manifest>(value: &Value) -> Result<Kind, FieldProblem> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| FieldProblem::new(error.path().to_string(), error.inner().to_string()))
}

/// Finds problems that would remain after everything was written as the known ones say: no advice
/// is given that is refused when it is followed. What there is no advice for is looked at as if it
/// was not there, where that can be.
fn beyond<Kind: Manifest>(mut value: Value, schema: &Value, found: &mut Vec<FieldProblem>) {
    for problem in &*found {
        if let Some(place) = at(&mut value, &problem.path) {
            *place = problem.meant.clone().unwrap_or(Value::Null);
        }
    }
    if let Some(spec) = value.get_mut("spec") {
        prune(schema, spec);
    }
    let Ok(resource) = deserialized::<Kind>(&value) else { return };
    let whole = found.iter().all(|problem| problem.meant.is_some());
    for problem in resource.problems() {
        let same =
            |before: &&mut FieldProblem| before.path == problem.path && before.meant.is_some();
        match found.iter_mut().find(same) {
            Some(before) => *before = problem,
            None if whole => found.push(problem),
            None => {}
        }
    }
}

/// The value at a path such as `spec.devices[0].count`.
fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Array(items) => {
            let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
            at(
                items.get_mut(number.parse::<usize>().ok()?)?,
                rest.strip_prefix('.').unwrap_or(rest),
            )
        }
        Value::Object(fields) => {
            let fits = |name: &String| {
                let rest = path.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let name = fields.keys().filter(|name| fits(name)).max_by_key(|name| name.len())?;
            let name = name.clone();
            let rest = &path[name.len()..];
            at(fields.get_mut(&name)?, rest.strip_prefix('.').unwrap_or(rest))
        }
        _ => None,
    }
}
