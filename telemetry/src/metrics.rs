//! The figures that Prometheus reads: what all programs share of them. Every label has a closed set
//! of values.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use prometheus_client::registry::Registry as Inner;

/// The metrics of a process, each with the labels that tell it apart.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Inner,
}

impl Registry {
    /// Metrics whose names begin with `heteroloco_` and carry these labels, for example `run` and
    /// `island`.
    #[must_use]
    pub fn new(labels: Vec<(&'static str, String)>) -> Self {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { inner: Inner::with_prefix_and_labels("heteroloco", labels) }
    }

    /// Where metrics are registered.
    pub fn register(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// The metrics as text in the `OpenMetrics` format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.inner)
            .expect("writing into a string does not fail");
        text
    }
}

/// A label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub &'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.0)
    }
}
