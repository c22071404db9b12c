//! Tests that spans of several processes form one trace, as a collector sees it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::logs::{Export, Service};

/// A span as the collector got it.
#[derive(Clone, Debug, PartialEq)]
struct Got {
    service: String,
    island: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

#[derive(Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<Got>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource_spans in request.into_inner().resource_spans {
            let attributes = resource_spans.resource.unwrap_or_default().attributes;
            let attribute = |key: &str| {
                let found = attributes.iter().find(|attribute| attribute.key == key);
                match found.and_then(|found| found.value.clone()?.value) {
                    Some(Value::StringValue(value)) => value,
                    _ => String::new(),
                }
            };
            for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.got.lock().unwrap().push(Got {
                    service: attribute("service.name"),
                    island: attribute("island"),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start(&self, runtime: &Runtime) -> SocketAddr {
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        address
    }

    fn span(&self, service: &str, name: &str) -> Got {
        let got = self.got.lock().unwrap();
        let found = got.iter().find(|span| span.service == service && span.name == name);
        found.unwrap_or_else(|| panic!("no span {name} of {service} in {got:?}")).clone()
    }
}

/// Does `work` as a process of its own: its own exporter, flushed at the end.
fn process<T>(address: SocketAddr, name: &str, island: &str, work: impl FnOnce() -> T) -> T {
    let attributes = vec![("island", island.to_owned())];
    let service = Service { name: name.to_owned(), attributes };
    let export = Export::start(&service, &format!("http://{address}")).unwrap();
    let subscriber = tracing_subscriber::registry().with(export.layer());
    let result = tracing::subscriber::with_default(subscriber, work);
    export.finish();
    result
}

#[test]
fn a_round_is_one_trace_across_islands_and_calls() {
    let runtime = Runtime::new().unwrap();
    let collector = Collector::default();
    let address = collector.start(&runtime);
    let round = process(address, "coordinator", "", || {
        let span = tracing::info_span!("round");
        traceparent(&span)
    });
    assert!(round.starts_with("00-"), "{round}");
    let call = process(address, "worker", "lab-a", || {
        let span = tracing::info_span!("train");
        set_parent(&span, &round);
        span.in_scope(|| propagate(Request::new(())).unwrap().into_parts().0)
    });
    process(address, "worker", "lab-b", || {
        let span = tracing::info_span!("pull");
        set_parent_from(&span, &call);
        span.in_scope(|| tracing::info!("A piece was served."));
    });
    let (root, train, pull) = (
        collector.span("coordinator", "round"),
        collector.span("worker", "train"),
        collector.span("worker", "pull"),
    );
    assert_eq!((&train.trace, &pull.trace), (&root.trace, &root.trace));
    assert_eq!((train.parent, pull.parent), (root.id, train.id));
    assert_eq!((train.island.as_str(), pull.island.as_str()), ("lab-a", "lab-b"));
}

#[test]
fn a_parent_that_is_malformed_leaves_the_span_a_trace_of_its_own() {
    let runtime = Runtime::new().unwrap();
    let collector = Collector::default();
    let address = collector.start(&runtime);
    process(address, "worker", "", || {
        for malformed in ["", "00", "00-zz-11-01", &"0".repeat(10_000)] {
            let span = tracing::info_span!("alone");
            set_parent(&span, malformed);
            set_parent_from(&span, &MetadataMap::new());
            span.in_scope(|| {});
        }
    });
    let got = collector.got.lock().unwrap();
    assert_eq!(got.len(), 4);
    assert!(got.iter().all(|span| span.parent.is_empty()));
}

#[test]
fn without_an_export_nothing_is_carried() {
    let span = tracing::info_span!("round");
    set_parent(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(traceparent(&span), "");
    assert!(span.in_scope(|| propagate(Request::new(())).unwrap()).metadata().is_empty());
}

#[test]
fn a_collector_that_does_not_answer_delays_the_end_by_a_bounded_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Instant::now();
    process(silent.local_addr().unwrap(), "worker", "", || {
        tracing::info_span!("lost").in_scope(|| ())
    });
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
