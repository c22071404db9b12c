//! Logs and traces: set up once at the start of a process, flushed at its end.

use std::env;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

const LOG_FORMAT: &str = "HETEROLOCO_LOG";
const LOG_FILTER: &str = "RUST_LOG";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Spans waiting for export; more are dropped.
const QUEUE_SPANS_MAX: usize = 2048;
const BATCH_SPANS_MAX: usize = 512;
const EXPORT_EVERY: Duration = Duration::from_secs(1);
const EXPORT_WAIT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last export.
const FLUSH_WAIT: Duration = Duration::from_secs(3);

/// The speaker: the name of the program, and what tells its processes apart.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// `service.name` of its traces, for example `heteroloco-worker`.
    pub name: String,
    /// Attributes of its traces, for example `island` and `rank`.
    pub attributes: Vec<(&'static str, String)>,
}

/// Why logs and traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `HETEROLOCO_LOG` has another value than `text` and `json`.
    #[error("failed to set up logs: HETEROLOCO_LOG is {found:?}; it may be text or json")]
    Format {
        /// The value.
        found: String,
    },
    /// `RUST_LOG` is no filter.
    #[error("failed to set up logs: RUST_LOG is no filter")]
    Filter(#[source] ParseError),
    /// The exporter's thread cannot be started.
    #[error("failed to start the export of traces")]
    Runtime(#[source] std::io::Error),
    /// The exporter cannot be made of the `OTEL_EXPORTER_OTLP_*` variables.
    #[error("failed to set up the export of traces; see OTEL_EXPORTER_OTLP_ENDPOINT")]
    Exporter(#[source] ExporterBuildError),
    /// The process has a subscriber already.
    #[error("failed to set up logs: they are set up already")]
    Twice(#[source] TryInitError),
}

impl InitError {
    /// Says whether trying the same again is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Runtime(_) => false,
            Self::Format { .. } | Self::Filter(_) | Self::Exporter(_) | Self::Twice(_) => true,
        }
    }
}

/// Keep it until the end of the process; dropping it sends the last spans, in bounded time.
#[derive(Debug)]
#[must_use = "dropping it at once ends the export of traces"]
pub struct Guard {
    export: Option<Export>,
}

/// Sets up the process's logs (`RUST_LOG` filters, `HETEROLOCO_LOG=json` gives JSON lines) and,
/// when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, the export of its traces by OTLP over gRPC.
///
/// # Errors
/// A variable has a value that is not understood, or it was called before.
pub fn init(service: &Service) -> Result<Guard, InitError> {
    let filter = match variable(LOG_FILTER) {
        Some(filter) => EnvFilter::builder().parse(filter).map_err(InitError::Filter)?,
        None => EnvFilter::new("info"),
    };
    let logs = match variable(LOG_FORMAT).as_deref() {
        None | Some("text") => fmt::layer()
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal())
            // It would be said on the very stream that takes nothing, and end the program.
            .log_internal_errors(false)
            .with_target(false)
            .boxed(),
        Some("json") => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(stderr)
            .log_internal_errors(false)
            .boxed(),
        Some(found) => return Err(InitError::Format { found: found.to_owned() }),
    };
    let endpoint = variable(ENDPOINT);
    let export = endpoint.map(|endpoint| Export::start(service, &endpoint)).transpose()?;
    tracing_subscriber::registry()
        .with(export.as_ref().map(Export::layer))
        .with(logs.with_filter(filter))
        .try_init()
        .map_err(InitError::Twice)?;
    Ok(Guard { export })
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(export) = self.export.take() {
            export.finish();
        }
    }
}

/// A set variable that is not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The export of traces, with a runtime of its own: it goes on while the program's is busy, and
/// ends after it.
#[derive(Debug)]
pub(crate) struct Export {
    provider: SdkTracerProvider,
    runtime: Runtime,
}

impl Export {
    pub(crate) fn start(service: &Service, endpoint: &str) -> Result<Self, InitError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(InitError::Runtime)?;
        let entered = runtime.enter();
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_WAIT)
            .build()
            .map_err(InitError::Exporter)?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(EXPORT_EVERY)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let attributes =
            service.attributes.iter().map(|(key, value)| KeyValue::new(*key, value.clone()));
        let resource = Resource::builder()
            .with_service_name(service.name.clone())
            .with_attributes(attributes)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(batches)
            .build();
        drop(entered);
        Ok(Self { provider, runtime })
    }

    /// Makes spans of `INFO` and above part of the traces, without those of the export itself.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let quiet = ["h2", "hyper", "hyper_util", "opentelemetry", "tonic", "tower"];
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_targets(quiet.map(|target| (target, LevelFilter::OFF)));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("heteroloco"))
            .with_filter(filter)
    }

    /// Sends what waits and ends. A collector that does not answer costs [`FLUSH_WAIT`].
    pub(crate) fn finish(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_WAIT) {
            tracing::warn!(%error, "The last traces were not exported.");
        }
        self.runtime.shutdown_background();
    }
}

#[cfg(test)]
mod tests;
