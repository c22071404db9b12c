//! Tests of the HTTP side, spoken to over a socket.

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

struct Fixture {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Fixture {
    async fn start() -> Self {
        let mut registry = Registry::new(vec![]);
        let round = Gauge::<i64>::default();
        round.set(5);
        registry.register().register("round", "Round in progress", round);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Arc::new(registry), async {
            let _ = stopped.await;
        }));
        Self { address, stop, server }
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    let fixture = Fixture::start().await;
    let metrics = fixture.ask("GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("\nheteroloco_round 5\n"), "{metrics}");
    let health = fixture.ask("GET /healthz").await;
    assert!(health.ends_with("ok\n"), "{health}");
}

#[tokio::test]
async fn anything_else_is_refused() {
    let fixture = Fixture::start().await;
    for (request, status) in [("GET /", "404"), ("POST /metrics", "405"), ("NONSENSE", "400")] {
        let answer = fixture.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_shutdown_ends_the_server_and_frees_the_port() {
    let fixture = Fixture::start().await;
    fixture.stop.send(()).unwrap();
    fixture.server.await.unwrap();
    TcpListener::bind(fixture.address).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_connections_do_not_keep_others_out_for_ever() {
    let fixture = Fixture::start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(fixture.address).await.unwrap());
    }
    let health = fixture.ask("GET /healthz").await;
    assert!(health.ends_with("ok\n"), "{health}");
}

#[tokio::test]
async fn a_process_is_ready_when_it_says_so_and_alive_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let registry = Arc::new(Registry::new(vec![]));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_ready(listener, registry, Arc::clone(&ready), async {
        let _ = stopped.await;
    }));
    let fixture = Fixture { address, stop, server };
    let status = async |request: &str| fixture.ask(request).await[9..12].to_owned();
    for (word, expected) in [(false, "503"), (true, "200"), (false, "503")] {
        ready.store(word, Ordering::Relaxed);
        assert_eq!(status("GET /readyz").await, expected, "{word}");
        assert_eq!(status("GET /healthz").await, "200", "alive whether ready or not");
    }
    for (request, expected) in [
        ("POST /readyz", "405"),
        ("DELETE /healthz", "405"),
        ("GET /metrics?all=1", "200"),
        ("GET /metrics/", "404"),
        ("GET /readyz/../metrics", "404"),
    ] {
        assert_eq!(status(request).await, expected, "{request}");
    }
}

#[tokio::test]
async fn more_who_ask_at_once_than_are_heard_at_once_are_all_answered() {
    let fixture = Fixture::start().await;
    let mut asked = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        asked.push(stream);
    }
    for mut stream in asked {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
    }
}
