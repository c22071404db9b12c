//! What comes to a waiting probe, or answers a calling one, and is none.

use std::thread;

use super::*;

/// What a waiting probe says of a caller that sends this and goes.
fn heard(said: &[u8]) -> Result<SocketAddr, ProbeError> {
    let waiting = Waiting::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(waiting.address()).unwrap();
    stream.write_all(said).unwrap();
    drop(stream);
    waiting.answer()
}

/// What a calling probe says of somebody who answers so.
fn answered(answer: &'static [u8]) -> ProbeError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let said = line(&stream).unwrap();
        stream.write_all(answer).unwrap();
        said
    });
    let error = join(&address).unwrap_err();
    let said = server.join().unwrap();
    let own = port(&said).expect("a greeting with a port");
    assert_ne!(own, 0, "where this rank listens");
    error
}

#[test]
fn a_caller_that_says_something_else_is_told_of_with_what_it_said() {
    let long = [b'x'; 4096];
    let table: [(&[u8], &str); 8] = [
        (b"", "failed to understand 127.0.0.1:"),
        (b"\n", "failed to understand 127.0.0.1:"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
        (b"heteroloco-probe 1\n", "heteroloco-probe 1;"),
        (b"heteroloco-probe 1 \n", "run the same version"),
        (b"heteroloco-probe 1 -7\n", "heteroloco-probe 1 -7"),
        (b"heteroloco-probe 17 7000\n", "heteroloco-probe 17 7000"),
        (&long, "xxxx; run the same version"),
    ];
    for (said, part) in table {
        let text = heard(said).unwrap_err().to_string();
        assert!(text.contains(part), "{said:?}: {text}");
        assert!(text.len() < 300, "no more than a line of it is kept: {text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_and_not_a_greeting() {
    for said in [&b"\xff\xfe\n"[..], b"heteroloco-probe 1 7\xff\n"] {
        let error = heard(said).unwrap_err();
        let ProbeError::Meet { operation, .. } = &error else { panic!("{error}") };
        assert_eq!(*operation, "answer");
        assert!(error.to_string().ends_with("start both again"), "{error}");
    }
}

#[test]
fn whoever_answers_something_else_than_a_probe_is_named_with_what_it_said() {
    let table: [(&[u8], &str); 6] = [
        (b"", ": ; run the same version"),
        (b"READY\n", "READY"),
        (b"ready now\n", "ready now"),
        (b"not ready\n", "not ready"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"heteroloco-probe 1 7000\n", "heteroloco-probe 1 7000"),
    ];
    for (answer, part) in table {
        let error = answered(answer);
        assert!(matches!(error, ProbeError::Strange { .. }), "{error}");
        assert!(error.to_string().contains(part), "{answer:?}: {error}");
    }
}

#[test]
fn a_greeting_has_a_port_and_nothing_else() {
    for (said, expected) in [
        ("heteroloco-probe 1 7000", Some(7000)),
        ("heteroloco-probe 1 65535", Some(65535)),
        ("heteroloco-probe 1 65536", None),
        ("heteroloco-probe 1  7000", None),
        ("heteroloco-probe 1 7000 more", None),
        ("heteroloco-probe 1\t7000", None),
        ("heteroloco-probe 17000", None),
        ("Heteroloco-probe 1 7000", None),
        (" heteroloco-probe 1 7000", None),
        ("", None),
    ] {
        assert_eq!(port(said), expected, "{said:?}");
    }
}

#[test]
fn addresses_that_nobody_has_are_refused_with_a_remedy() {
    // Nobody listens at port 0.
    let text = join("127.0.0.1:0").unwrap_err().to_string();
    assert!(text.contains("failed to reach the probe at 127.0.0.1:0"), "{text}");
    assert!(text.contains("start `probe --serve` there first"), "{text}");
    let text = Waiting::bind("203.0.113.1:7000").unwrap_err().to_string();
    assert!(text.contains("listen at 203.0.113.1:7000"), "{text}");
}

#[test]
fn what_is_written_as_an_address_is_kept_as_it_is() {
    for right in ["10.0.0.7:7000", "lab.example:1", "[fe80::1]:65535", "host:0"] {
        assert_eq!(address(right).as_deref(), Ok(right));
    }
    for wrong in ["10.0.0.7", "host:-1", "host:7000x", ":", "host:65536", "host: 7"] {
        assert!(address(wrong).unwrap_err().contains("10.0.0.7:7000"), "{wrong}");
    }
}
