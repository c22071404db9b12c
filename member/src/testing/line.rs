//! A line that goes dead without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A line to a server that can go dead as if a NAT had forgotten it: what is connected stays so,
/// and nothing more comes through. New connections are good.
pub(crate) struct Line {
    pub(crate) address: String,
    cut: watch::Sender<u64>,
    connections: Arc<AtomicU64>,
}

impl Line {
    pub(crate) async fn to(server: String) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (cut, connections) = (watch::Sender::new(0), Arc::<AtomicU64>::default());
        let (cuts, count) = (cut.clone(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let server = TcpStream::connect(&server).await.expect("it listens");
                tokio::spawn(carry(client, server, cuts.subscribe()));
            }
        });
        Line { address, cut, connections }
    }

    /// Has all connections that are there go dead.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that were ever made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(SeqCst)
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut cut: watch::Receiver<u64>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
        // The sockets stay open for as long as the test runs.
        _ = cut.changed() => std::future::pending().await,
    }
}
