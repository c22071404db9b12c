//! Reading again what could not be read: disks and network folders are away for moments.

use std::time::Duration;

use super::CorpusError;

/// Waits between tries, in milliseconds: ten seconds in all.
const PAUSES: [u64; 8] = [100, 200, 400, 800, 1500, 2000, 2500, 2500];

/// Does `attempt` until it succeeds or fails for good, for about ten seconds at most: `pause` is
/// told what failed and for how long to wait before the next try.
///
/// # Errors
/// What `attempt` said last.
pub fn patiently<T>(
    mut pause: impl FnMut(&CorpusError, Duration),
    mut attempt: impl FnMut() -> Result<T, CorpusError>,
) -> Result<T, CorpusError> {
    for wait in PAUSES {
        match attempt() {
            Err(error) if !error.is_final() => pause(&error, Duration::from_millis(wait)),
            done => return done,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    fn away() -> CorpusError {
        CorpusError::Read { path: PathBuf::new(), source: io::ErrorKind::NotConnected.into() }
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_for_ten_seconds_and_no_longer() {
        let (mut waited, mut tries) = (Duration::ZERO, 0);
        let failed: Result<(), _> = patiently(
            |_, wait| waited += wait,
            || {
                tries += 1;
                Err(away())
            },
        );
        assert!(matches!(failed, Err(CorpusError::Read { .. })));
        assert_eq!((waited, tries), (Duration::from_secs(10), PAUSES.len() + 1));
    }

    #[test]
    fn what_is_wrong_for_good_is_said_at_once() {
        let pause = |_: &CorpusError, _| panic!("waited in vain");
        let damaged = || Err::<(), _>(CorpusError::Hash { path: PathBuf::new() });
        assert!(matches!(patiently(pause, damaged), Err(CorpusError::Hash { .. })));
    }
}
