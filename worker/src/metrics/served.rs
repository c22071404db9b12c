//! What a scraper is shown.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

/// `/metrics` as Prometheus asks for it.
fn scraped(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time that is not zero");
    let request = "GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The value of the only line of a metric that has these labels.
fn value(answer: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = |line: &&str| {
        line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|l| line.contains(l))
    };
    let mut lines = answer.lines().filter(line);
    let found = lines.next()?.rsplit_once(' ')?.1.parse().ok();
    assert!(lines.next().is_none(), "{name} {labels:?} stands there twice");
    found
}

fn report() -> RoundReport {
    RoundReport {
        round: 6,
        set_tokens: 9,
        islands: 2,
        loss: 1.0,
        theta_hash: None,
        contributed: true,
        contribution_bytes: 3,
        contribution_values: 1,
        bytes_sent: 500,
        bytes_received: 700,
        exchange_seconds: 0.1,
        waiting_seconds: 0.2,
    }
}

#[test]
fn a_scrape_has_what_happened_by_whom_it_was_done() {
    let metrics = Metrics::new("my-run", "lab", 3);
    let (runtime, address) = metrics.listen("127.0.0.1:0").expect("a free port");
    metrics.step(5, 100, 2.5, 0.25);
    metrics.step(5, 40, 2.25, f64::NAN);
    metrics.skipped_step();
    metrics.boundary(64);
    metrics.heldout(3.5);
    metrics.round(&report());
    let answer = scraped(address);
    let who = ["run=\"my-run\"", "island=\"lab\"", "rank=\"3\""];
    let table: [(&str, &[&str], f64); 8] = [
        ("heteroloco_tokens_total", &[], 140.0),
        ("heteroloco_skipped_steps_total", &[], 1.0),
        ("heteroloco_loss", &[], 2.25),
        ("heteroloco_heldout_loss", &[], 3.5),
        // The one that begins after what was applied.
        ("heteroloco_round", &[], 7.0),
        ("heteroloco_network_bytes_total", &["sent", "peer=\"island\""], 500.0),
        ("heteroloco_network_bytes_total", &["received", "peer=\"island\""], 700.0),
        ("heteroloco_network_bytes_total", &["sent", "peer=\"stage\""], 64.0),
    ];
    for (name, labels, expected) in table {
        let labels = [labels, &who[..]].concat();
        assert_eq!(value(&answer, name, &labels), Some(expected), "{name} {labels:?}: {answer}");
    }
    runtime.shutdown_background();
}
