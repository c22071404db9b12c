//! Comparing a corpus with its index beside those who read it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Corpus, CorpusError, patiently};

/// A thread that reads every shard once and stops at the first that is not as it was prepared. It
/// ends, after the shard that it reads, when this is dropped.
#[derive(Debug)]
pub struct Check {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    found: Mutex<Option<CorpusError>>,
    done: AtomicBool,
    dropped: AtomicBool,
}

impl Check {
    /// Starts to check. What cannot be read is tried again as by [`patiently`], with `pause`
    /// between the tries.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(
        corpus: Arc<Corpus>,
        mut pause: impl FnMut(&CorpusError, Duration) + Send + 'static,
    ) -> Result<Check, CorpusError> {
        let shared = Arc::new(Shared::default());
        let (path, of_thread) = (corpus.folder.clone(), Arc::clone(&shared));
        let work = move || {
            for shard in corpus.shards() {
                if of_thread.dropped.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = patiently(&mut pause, || corpus.verify_shard(shard)) {
                    *of_thread.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    break;
                }
            }
            of_thread.done.store(true, Ordering::Release);
        };
        let thread = thread::Builder::new().name("data".to_owned());
        thread.spawn(work).map_err(|source| CorpusError::Read { path, source })?;
        Ok(Check { shared })
    }

    /// The result so far: an error if one was found, else whether everything was checked.
    ///
    /// # Errors
    /// A shard was changed or cannot be read; said once.
    pub fn result(&self) -> Result<bool, CorpusError> {
        let done = self.shared.done.load(Ordering::Acquire);
        match self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::Relaxed);
    }
}
