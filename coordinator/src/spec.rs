//! The file that tells a coordinator what to do: `heteroloco-coordinator --spec FILE`.

use std::fs;
use std::path::{Path, PathBuf};

use contract::coordinator::CoordinatorSpec;
use rounds::config::{Config, ConfigError};
use rounds::whereabouts::Adopted;

/// A specification that was read and checked.
#[derive(Debug)]
pub struct Spec {
    /// See [`CoordinatorSpec`].
    pub listen: String,
    /// See [`CoordinatorSpec`].
    pub store: PathBuf,
    /// See [`CoordinatorSpec`].
    pub metrics: Option<String>,
    /// The rules of the run.
    pub run: Config,
    /// See [`CoordinatorSpec`].
    pub adopt: Option<Adopted>,
}

/// A specification that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("failed to read the specification {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML of the expected form.
    #[error("failed to understand the specification")]
    Parse(#[source] serde_yaml::Error),
    /// A rule of the run cannot be followed.
    #[error("failed to accept the specification")]
    Rules(#[source] ConfigError),
}

impl Spec {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, is no specification, or has a rule that cannot be followed.
    pub fn read(path: &Path) -> Result<Spec, SpecError> {
        let read = fs::read_to_string(path);
        Spec::parse(&read.map_err(|source| SpecError::Read { path: path.into(), source })?)
    }

    /// Checks a text.
    ///
    /// # Errors
    /// It is no specification, or has a rule that cannot be followed.
    pub fn parse(text: &str) -> Result<Spec, SpecError> {
        let written: CoordinatorSpec = serde_yaml::from_str(text).map_err(SpecError::Parse)?;
        let CoordinatorSpec { listen, store, metrics, run, adopt } = written;
        let run = run.validate().map_err(SpecError::Rules)?;
        Ok(Spec { listen, store, metrics, run, adopt })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use rounds::types::Digest;

    use super::*;

    const GOOD: &str = "
listen: 127.0.0.1:0
store: runs/mini/coordinator
run:
  name: mini
  islands: 3
  minimum: 2
  quorumPercent: 60
  graceMs: 30000
  deadlineMs: 1500000
  tokens: 2000000
";

    #[test]
    fn a_short_specification_is_enough() {
        let spec = Spec::parse(GOOD).unwrap();
        assert_eq!(spec.run.name, "mini");
        assert_eq!((spec.run.lease_ms, spec.run.fetch_deadline_ms), (15_000, 120_000));
        assert_eq!((spec.run.max_members, spec.metrics, spec.adopt), (256, None, None));
    }

    #[test]
    fn what_an_empty_store_takes_up_is_told_by_its_round_and_tokens() {
        let adopt = |more: &str| Spec::parse(&format!("{GOOD}adopt: {{round: 4, {more}}}"));
        let adopted = adopt("tokens: 7").unwrap().adopt.unwrap();
        assert_eq!(adopted, Adopted { round: 4, theta_hash: None, tokens: 7, samples: 0 });
        let hash = "ab".repeat(32);
        let adopted = adopt(&format!("tokens: 7, samples: 9, thetaHash: {hash}")).unwrap();
        let expected =
            Adopted { round: 4, theta_hash: Some(Digest([0xab; 32])), tokens: 7, samples: 9 };
        assert_eq!(adopted.adopt, Some(expected));
        assert!(adopt("samples: 9").is_err());
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let table = [
            ("tokens: 2000000", "tokens: 0", "`tokens`"),
            ("minimum: 2", "minimum: 4", "`minimum`"),
            ("listen: ", "port: ", "port"),
            ("graceMs: 30000", "grace: 30s", "grace"),
            ("name: mini", "name: [", "line"),
        ];
        for (from, to, expected) in table {
            let error = Spec::parse(&GOOD.replace(from, to)).unwrap_err();
            let source = error.source().unwrap().to_string();
            assert!(source.contains(expected), "{to}: {source}");
        }
    }
}
