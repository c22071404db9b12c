//! A collector of traces: what processes export by OTLP is kept for tests to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A collector on this machine, as long as the runtime that it was started in.
#[derive(Clone, Debug)]
pub struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    traces: Traces,
}

/// Who did what, by trace.
type Traces = Arc<Mutex<BTreeMap<Vec<u8>, BTreeSet<String>>>>;

impl Collector {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let traces = Traces::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Service(Arc::clone(&traces))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Ok(Self { endpoint, traces })
    }

    /// The traces so far, each as the set of its spans: `service/island/span`.
    pub fn traces(&self) -> Vec<BTreeSet<String>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

struct Service(Traces);

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut traces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
