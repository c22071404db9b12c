//! Tests that the signs of life are asked for, and soon enough.

use std::net::{TcpListener, TcpStream};

use super::*;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (dialled, accepted)
}

#[test]
fn a_socket_is_asked_when_it_is_silent_and_given_up_within_the_bound() {
    let table = [
        // Seconds are TCP's least, and what is asked of it is three times answered or not.
        (Duration::from_secs(8), Duration::from_secs(6), 8, 2),
        (Duration::from_millis(50), Duration::from_millis(50), 1, 1),
        (Duration::from_secs(60), Duration::from_secs(30), 60, 10),
    ];
    for (interval, timeout, time, every) in table {
        let (socket, _other) = pair();
        Keepalive { interval, timeout }.socket(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(time));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(every));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), TCP_PROBES);
    }
}

#[test]
fn a_peer_that_died_is_noticed_before_its_lease_ends() {
    let Keepalive { interval, timeout } = Keepalive::default();
    let planned = rounds::config::Planned {
        name: "mini".into(),
        islands: 2,
        quorum_percent: 60,
        grace: Duration::from_secs(30),
        deadline: Duration::from_secs(1500),
        go_back: false,
        exchange_seconds: 1.0,
        tokens: 1,
    };
    let lease = Duration::from_millis(planned.rules().lease_ms);
    assert!(interval + timeout < lease, "{interval:?} and {timeout:?} of {lease:?}");
}
