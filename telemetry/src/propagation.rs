//! Carries trace contexts (W3C `traceparent`) between processes, so that a round is one trace.
//!
//! Without an export of traces there is nothing to carry, and all of this does nothing.

use std::collections::HashMap;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{KeyRef, MetadataKey, MetadataMap};
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Writes the current span's context into the metadata of a call.
pub fn inject(metadata: &mut MetadataMap) {
    TraceContextPropagator::new()
        .inject_context(&Span::current().context(), &mut Metadata(metadata));
}

/// [`inject`] as an interceptor of a client.
///
/// # Errors
/// None; interceptors have to be able to.
pub fn propagate(mut request: Request<()>) -> Result<Request<()>, Status> {
    inject(request.metadata_mut());
    Ok(request)
}

/// Hangs a span, before it is first entered, under the context that a caller injected, if any.
pub fn set_parent_from(span: &Span, metadata: &MetadataMap) {
    adopt(span, &Carrier(metadata));
}

/// Hangs a span, before it is first entered, under a `traceparent`; one that is empty or malformed
/// leaves the span as it is.
pub fn set_parent(span: &Span, traceparent: &str) {
    adopt(span, &HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]));
}

/// The `traceparent` under which others hang their spans below this one; empty where traces are not
/// exported.
#[must_use]
pub fn traceparent(span: &Span) -> String {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT).unwrap_or_default()
}

fn adopt(span: &Span, carrier: &dyn Extractor) {
    let context = TraceContextPropagator::new().extract(carrier);
    if context.span().span_context().is_valid() {
        // Fails where traces are not exported or the span is filtered out: nothing to hang then.
        let _ = span.set_parent(context);
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Carrier<'a>(&'a MetadataMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        let ascii = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(ascii).collect()
    }
}

#[cfg(test)]
mod tests;
