//! The pulse of the coordinator: one that hangs does not end, and would be waited for without end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often it is asked, and how long an answer may take.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Asked so often in vain, a coordinator that served hangs;
const MISSES_MAX: u32 = 4;
/// and one that is about to serve may have its store to repair.
const MISSES_AT_START_MAX: u32 = 60;
/// How a client begins that speaks HTTP/2: its preface and empty settings. Any server of the
/// protocol answers with its own settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The state of the coordinator's answers: whether it served, and how often it did not answer
/// since.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    serves: bool,
    misses: u32,
}

impl Pulse {
    /// It was started and says nothing yet.
    pub(super) fn started(&mut self) {
        *self = Self { serves: false, misses: 0 };
    }

    /// It says that it serves.
    pub(super) fn serves(&mut self) {
        *self = Self { serves: true, misses: 0 };
    }

    /// Takes an answer or none; for how long there was none, once that is too long.
    pub(super) fn beat(&mut self, answered: bool) -> Option<Duration> {
        self.misses = if answered { 0 } else { self.misses + 1 };
        let most = if self.serves { MISSES_MAX } else { MISSES_AT_START_MAX };
        (self.misses >= most).then(|| ASK_EVERY * std::mem::take(&mut self.misses))
    }
}

/// Asks the coordinator at `address` again and again, until nobody wants to know.
pub(super) fn ask(address: String) -> mpsc::Receiver<bool> {
    let (answers, received) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        // After a pause of this process the answers of the pause are not missing.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answered = tokio::time::timeout(ASK_EVERY, greet(&address)).await;
            if answers.send(matches!(answered, Ok(true))).await.is_err() {
                return;
            }
        }
    });
    received
}

async fn greet(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut first = [0; 1];
    stream.write_all(GREETING).await.is_ok() && matches!(stream.read(&mut first).await, Ok(1))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_silence_without_a_break_is_too_long_and_a_start_may_take_longer() {
        let mut pulse = Pulse::default();
        pulse.serves();
        let beats = [false, false, false, true, false, false, false].map(|b| pulse.beat(b));
        assert_eq!(beats, [None; 7]);
        assert_eq!(pulse.beat(false), Some(Duration::from_secs(20)));
        assert_eq!(pulse.beat(false), None, "it is told once, and again after as long");
        pulse.started();
        assert_eq!([false; 59].map(|b| pulse.beat(b)), [None; 59]);
        assert_eq!(pulse.beat(false), Some(Duration::from_secs(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_connections_and_says_nothing_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut answers = ask(listener.local_addr().unwrap().to_string());
        assert_eq!(answers.recv().await, Some(false));
    }

    #[tokio::test]
    async fn one_byte_is_an_answer_and_a_closed_port_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = vec![0; GREETING.len()];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(&[0]).await.unwrap();
            greeting
        });
        assert!(greet(&address).await);
        assert_eq!(server.await.unwrap(), GREETING);
        assert!(!greet(&address).await);
    }
}
