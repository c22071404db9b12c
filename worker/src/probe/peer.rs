//! Meeting a probe on another machine: it listens, this one calls, and then both join a group.
//!
//! ```text
//!  --peer                                --serve
//!    | -- "heteroloco-probe 1 PORT" ------> |   PORT: where the caller's rank listens
//!    |                                      |   its own rank listens where it was called
//!    | <------------------------- "ready" - |
//!    | ============== group ============== |
//! ```

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use collective::Endpoint;

use super::ProbeError;
use super::pair::{self, FOLLOWER, LEADER, Leader};

/// How long a probe waits to be called.
const CALLED_WAIT: Duration = Duration::from_secs(300);
/// Longest wait for an answer while meeting.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Longest line while meeting.
const LINE_BYTES_MAX: u64 = 64;
/// Of a host's addresses so many are tried.
const ADDRESSES_MAX: usize = 4;

const HELLO: &str = "heteroloco-probe 1";
const READY: &str = "ready";
const REACH: &str = "start `probe --serve` there first, and let its port through the firewalls";

/// Of an argument: `HOST:PORT`.
pub(super) fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("write HOST:PORT, such as 10.0.0.7:7000".to_owned()),
    }
}

/// Calls the probe that waits at `address`; this rank leads.
pub(super) fn join(address: &str) -> Result<Leader, ProbeError> {
    let failed = |source| meet("reach the probe at", address, REACH)(source);
    let stream = call(address).map_err(failed)?;
    let local = stream.local_addr().map_err(failed)?;
    // Where the way to the peer begins, its answers can come in.
    let endpoint = Endpoint::bind(&SocketAddr::new(local.ip(), 0).to_string())
        .map_err(ProbeError::group("listen for"))?;
    let own = endpoint.address();
    writeln!(&stream, "{HELLO} {}", own.port()).map_err(failed)?;
    let answer = line(&stream).map_err(failed)?;
    if answer != READY {
        return Err(ProbeError::Strange { who: address.to_owned(), detail: answer });
    }
    let theirs = stream.peer_addr().map_err(failed)?;
    let addresses = [own, theirs].map(|address| address.to_string());
    let group = endpoint.connect(pair::config(LEADER), &addresses);
    Ok(Leader::of(group.map_err(ProbeError::group("connect to"))?))
}

fn call(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in address.to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, ANSWER_WAIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A probe that waits to be called.
#[derive(Debug)]
pub(super) struct Waiting {
    listener: TcpListener,
    address: SocketAddr,
}

impl Waiting {
    /// Listens at `address`.
    pub(super) fn bind(address: &str) -> Result<Waiting, ProbeError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Waiting { address: listener.local_addr()?, listener })
        });
        bound.map_err(meet("listen at", address, "choose a free port of this machine"))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for one caller and follows it to the end; who it was.
    pub(super) fn answer(self) -> Result<SocketAddr, ProbeError> {
        let address = self.address.to_string();
        let remedy = "start `probe --peer` there, and let this port through the firewalls";
        let accepted = accept(self.listener);
        let (stream, caller) = accepted.map_err(meet("be called at", &address, remedy))?;
        let failed = |source| meet("answer", &caller.to_string(), "start both again")(source);
        let hello = line(&stream).map_err(failed)?;
        let Some(port) = port(&hello) else {
            return Err(ProbeError::Strange { who: caller.to_string(), detail: hello });
        };
        // The listener is closed by now: its port is the rank's.
        let endpoint = Endpoint::bind(&address).map_err(ProbeError::group("listen for"))?;
        writeln!(&stream, "{READY}").map_err(failed)?;
        let theirs = SocketAddr::new(caller.ip(), port);
        let addresses = [theirs, self.address].map(|address| address.to_string());
        let group = endpoint.connect(pair::config(FOLLOWER), &addresses);
        pair::follow(&mut group.map_err(ProbeError::group("connect to"))?)?;
        Ok(caller)
    }
}

/// The first caller; nobody else is listened to afterwards.
fn accept(listener: TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let called = tokio::time::timeout(CALLED_WAIT, listener.accept()).await;
        let (stream, caller) = called.map_err(|_| io::ErrorKind::TimedOut)??;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok((stream, caller))
    })
}

fn line(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut text = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn port(hello: &str) -> Option<u16> {
    hello.strip_prefix(HELLO)?.strip_prefix(' ')?.parse().ok()
}

fn meet<'a>(
    operation: &'static str,
    address: &'a str,
    remedy: &'static str,
) -> impl FnOnce(io::Error) -> ProbeError + 'a {
    move |source| ProbeError::Meet { operation, address: address.to_owned(), remedy, source }
}

#[cfg(test)]
mod strangers;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::probe::links;

    /// Sizes small enough for any machine.
    const MESSAGES: [u64; 3] = [1 << 10, 4 << 10, 16 << 10];

    #[test]
    fn two_machines_meet_and_measure_their_way_in_both_directions() {
        let waiting = Waiting::bind("127.0.0.1:0").unwrap();
        let address = waiting.address().to_string();
        let served = thread::spawn(move || waiting.answer());
        let mut leader = join(&address).unwrap();
        let curve = links::point_to_point(&mut leader, &MESSAGES).unwrap();
        let uplink = links::uplink(&mut leader, &MESSAGES).unwrap();
        leader.end().unwrap();
        assert!(served.join().unwrap().unwrap().ip().is_loopback());
        assert!(curve.seconds(16384.0) > 0.0);
        assert!(uplink.up > 0.0 && uplink.down > 0.0, "{uplink:?}");
    }

    #[test]
    fn a_caller_that_is_no_probe_is_told_of() {
        for said in ["GET / HTTP/1.1\r\n", "heteroloco-probe 1 70000\n", "heteroloco-probe 2 7\n"] {
            let waiting = Waiting::bind("127.0.0.1:0").unwrap();
            let mut stream = TcpStream::connect(waiting.address()).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            let refused = waiting.answer().unwrap_err().to_string();
            assert!(refused.contains("failed to understand 127.0.0.1:"), "{refused}");
        }
    }

    #[test]
    fn a_place_where_nobody_waits_is_named_with_a_remedy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let refused = join(&free).unwrap_err().to_string();
        assert!(refused.contains(&free) && refused.contains("probe --serve"), "{refused}");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = Waiting::bind(&address).unwrap_err().to_string();
        assert!(refused.contains("choose a free port"), "{refused}");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for wrong in ["", "host", ":7", "host:", "host:70000", "host:x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert_eq!(address("[::1]:7000").unwrap(), "[::1]:7000");
        assert_eq!(address("a.b:1").unwrap(), "a.b:1");
    }
}
