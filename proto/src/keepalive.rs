//! Signs of life on every connection: a peer that is cut off without a word (its machine lost its
//! power, a NAT forgot it, its process hangs) is noticed within a bound, by clients and servers.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

/// Time to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Probes of TCP that go unanswered until a connection counts as dead.
const TCP_PROBES: u32 = 3;
/// TCP counts in seconds.
const TCP_WAIT_MIN: Duration = Duration::from_secs(1);

/// The times after which a silent peer is asked for a sign of life, and counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// A peer that is silent for so long is asked,
    pub interval: Duration,
    /// and its connection is closed when it does not answer within this time.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Together less than the lease of a member.
    fn default() -> Keepalive {
        Keepalive { interval: Duration::from_secs(8), timeout: Duration::from_secs(5) }
    }
}

impl Keepalive {
    /// A client's connection: asked by HTTP/2 whether or not a call is open, so that one that died
    /// between calls costs none.
    pub fn client(self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .connect_timeout(CONNECT_WAIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.interval)
            .keep_alive_timeout(self.timeout)
            .keep_alive_while_idle(true)
    }

    /// A server's connections.
    pub fn server<L>(self, server: Server<L>) -> Server<L> {
        server
            .http2_keepalive_interval(Some(self.interval))
            .http2_keepalive_timeout(Some(self.timeout))
    }

    /// A server's sockets: the operating systems of both ends ask each other, too. For connections
    /// that are driven only now and then, so that programs cannot answer in time, that is all there
    /// is; it tells nothing of a program that hangs.
    pub fn incoming(self, incoming: TcpIncoming) -> TcpIncoming {
        incoming
            .with_nodelay(Some(true))
            .with_keepalive(Some(self.interval.max(TCP_WAIT_MIN)))
            .with_keepalive_interval(Some(self.tcp_interval()))
            .with_keepalive_retries(Some(TCP_PROBES))
    }

    /// The same for a socket that dialled.
    ///
    /// # Errors
    /// When the operating system does not take the settings.
    pub fn socket(self, socket: &impl AsFd) -> io::Result<()> {
        let keepalive = TcpKeepalive::new()
            .with_time(self.interval.max(TCP_WAIT_MIN))
            .with_interval(self.tcp_interval())
            .with_retries(TCP_PROBES);
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive)
    }

    fn tcp_interval(self) -> Duration {
        (self.timeout / TCP_PROBES).max(TCP_WAIT_MIN)
    }
}

#[cfg(test)]
mod tests;
