//! The operator's requests, from the API server's audit log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};

use anyhow::Context as _;
use serde_json::Value;
use test_cluster::ControlPlane;

/// Answered requests of one user, by verb and resource.
#[derive(Debug, Default)]
pub(crate) struct Requests(BTreeMap<(String, String), u64>);

impl Requests {
    /// Counts those of `user`. A watch counts when it ends.
    pub(crate) fn of(plane: &ControlPlane, user: &str) -> anyhow::Result<Self> {
        let mut requests = Self::default();
        for entry in fs::read_dir(plane.dir()).context("failed to list the logs")? {
            let path = entry.context("failed to list the logs")?.path();
            // The API server moves a log that is full to a name with the time in it.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("audit") && name.ends_with(".log") {
                let log = File::open(&path).context("failed to open the audit log")?;
                requests.add(BufReader::new(log), user)?;
            }
        }
        Ok(requests)
    }

    fn add(&mut self, mut log: BufReader<File>, user: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        while log.read_line(&mut line).context("failed to read the audit log")? > 0 {
            // Most lines are of others, and parsing is what takes time. The last may be half.
            if line.contains(user)
                && let Ok(event) = serde_json::from_str::<Value>(&line)
                && event["user"]["username"] == user
                && event["stage"] == "ResponseComplete"
            {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let object = &event["objectRef"];
                let resource = match object["subresource"].as_str() {
                    Some(sub) => format!("{}/{sub}", text(&object["resource"])),
                    None => text(&object["resource"]),
                };
                *self.0.entry((text(&event["verb"]), resource)).or_default() += 1;
            }
            line.clear();
        }
        Ok(())
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn reads(&self) -> u64 {
        let read = |verb: &str| ["get", "list", "watch"].contains(&verb);
        self.0.iter().filter(|((verb, _), _)| read(verb)).map(|(_, count)| count).sum()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.total() - self.reads()
    }

    pub(crate) fn print(&self) {
        for ((verb, resource), count) in &self.0 {
            println!("{count:>8}  {verb} {resource}");
        }
    }
}
