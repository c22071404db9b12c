//! The traces that a run exports, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::place::{Place, two_islands};

/// By trace: who did what, as `service/island/span`.
type Traces = BTreeMap<Vec<u8>, BTreeSet<String>>;

#[derive(Clone, Default)]
struct Collector {
    traces: Arc<Mutex<Traces>>,
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut traces = self.traces.lock().unwrap();
        for of_process in request.into_inner().resource_spans {
            let attributes = of_process.resource.unwrap_or_default().attributes;
            let who = [text(&attributes, "service.name"), text(&attributes, "island")].join("/");
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                traces.entry(span.trace_id).or_default().insert(format!("{who}/{}", span.name));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[test]
fn a_round_is_one_trace_across_the_coordinator_and_all_islands() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    runtime.spawn(server);

    let place = Place::new();
    place.manifests(2_000, &two_islands());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let (_, code, complaints) = place.up_with(&[], &environment).end();
    assert_eq!(code, 0, "{complaints}");

    let wanted = [
        "heteroloco-coordinator//offer",
        "heteroloco-coordinator//applied",
        "heteroloco-worker/a/train",
        "heteroloco-worker/a/fetch",
        "heteroloco-worker/a/pull",
        "heteroloco-worker/b/train",
        "heteroloco-worker/b/fetch",
        "heteroloco-worker/b/pull",
    ];
    let traces = collector.traces.lock().unwrap();
    let whole = |spans: &BTreeSet<String>| wanted.iter().all(|span| spans.contains(*span));
    assert!(traces.values().any(whole), "no trace has {wanted:?}: {traces:#?}");
}
