//! Whom to ask for what: several sources side by side, each for a run of pieces of its own.
//!
//! Whoever offered a contribution is asked first, and the other members when that takes long or
//! fails; holders of θ are all alike. A source that is done takes over half of what the slowest
//! still has before it. One that gives nothing for a while is left: what it gave is kept, the rest
//! goes to others, and it is tried again later, with more patience each time, for a slow line is no
//! fault. There is no bound on the whole.

mod book;
mod claim;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rounds::types::{MemberView, Rejection, RejectionCause};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use self::book::{Ask, Book, Holder, Landing, Verdict};
use self::claim::overlap;
use crate::fetch::{FetchError, Fetcher, Wanted};

/// How a fetch fares, for those who wait for it.
#[derive(Debug)]
pub(crate) struct Progress {
    inner: Mutex<(Instant, Option<Rejection>)>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { inner: Mutex::new((Instant::now(), None)) }
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, Option<Rejection>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece was checked and kept.
    fn moved(&self) {
        *self.lock() = (Instant::now(), None);
    }

    fn reject(&self, cause: RejectionCause, detail: String) {
        let rejection = Some(Rejection { cause, detail });
        let mut inner = self.lock();
        if inner.1 != rejection {
            tracing::info!(?rejection, "What is wanted cannot be had, or not yet.");
            inner.1 = rejection;
        }
    }

    /// Why it cannot be had, as far as is known; one that nobody serves may yet be served.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        self.lock().1.clone()
    }

    /// The time since a piece was kept last, or since the start.
    pub(crate) fn silent_for(&self) -> Duration {
        self.lock().0.elapsed()
    }
}

/// How the stream of the source at an address ended.
type Landed = (String, Result<(), FetchError>);

struct Search<'a> {
    fetcher: &'a Fetcher,
    wanted: &'a Wanted,
    progress: &'a Progress,
    book: Book,
    flying: FuturesUnordered<BoxFuture<'a, Landed>>,
}

/// Fetches what is missing here, until it is whole or can never be.
pub(crate) async fn fetch(
    fetcher: &Fetcher,
    wanted: &Wanted,
    mut members: watch::Receiver<Vec<MemberView>>,
    progress: &Progress,
) {
    let book = Book::new(Instant::now(), fetcher.silence);
    let mut search = Search { fetcher, wanted, progress, book, flying: FuturesUnordered::new() };
    loop {
        let missing = wanted.missing(fetcher);
        if missing.is_empty() {
            return;
        }
        search.book.look(holders(fetcher, wanted, &members.borrow_and_update()));
        search.ask(missing);
        search.judge();
        let wakes_at = search.book.wakes_at(Instant::now());
        tokio::select! {
            Some((address, result)) = search.flying.next() => {
                let told = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
                if search.land(&address, result) == Landing::Unusable {
                    tracing::warn!(reason = told, "A contribution is not what was offered.");
                    return progress.reject(RejectionCause::Invalid, told);
                }
            }
            // Nobody waits any more when the sender is gone.
            changed = members.changed() => if changed.is_err() { return },
            () = sleep_until(wakes_at) => {}
        }
    }
}

/// The ranks that may have what is wanted, by address.
fn holders(fetcher: &Fetcher, wanted: &Wanted, members: &[MemberView]) -> BTreeMap<String, Holder> {
    // Not all begin with the same one.
    let me = members.iter().position(|member| member.island == fetcher.island).unwrap_or(0);
    let others = members.iter().cycle().skip(me).take(members.len());
    let others = others.filter(|m| m.island != fetcher.island && wanted.may_be_at(m));
    let mut holders = BTreeMap::new();
    for (place, member) in others.enumerate() {
        let owns = wanted.is_of(member);
        for rank in &member.ranks {
            if let Some(pieces) = overlap(rank, &fetcher.store.span()) {
                holders.insert(rank.address.clone(), Holder { pieces, owns, place });
            }
        }
    }
    holders
}

impl Search<'_> {
    fn ask(&mut self, missing: Vec<u32>) {
        let (fetcher, wanted, progress) = (self.fetcher, self.wanted, self.progress);
        for asked in self.book.ask(missing, Instant::now()) {
            self.flying.push(Box::pin(async move {
                let result = pull((fetcher, wanted, progress), &asked).await;
                (asked.address, result)
            }));
        }
    }

    /// Says so when every source has failed and none is giving anything.
    fn judge(&self) {
        if let Verdict::Rejected(cause) = self.book.verdict() {
            self.progress.reject(cause, self.book.telling());
        }
    }

    fn land(&mut self, address: &str, result: Result<(), FetchError>) -> Landing {
        if let Err(error) = &result {
            tracing::debug!(%error, "A source failed.");
            if error.is_of_the_line() {
                self.fetcher.peers.hang_up(address);
            }
            if let FetchError::Content { .. } = error {
                tracing::warn!(%error, "A member serves what is not what it should be.");
            }
        }
        self.book.land(address, result, Instant::now())
    }
}

/// Takes the claimed pieces from one source, in order, for as long as it keeps giving.
async fn pull(
    (fetcher, wanted, progress): (&Fetcher, &Wanted, &Progress),
    asked: &Ask,
) -> Result<(), FetchError> {
    let Ask { address, owns, wait, claim } = asked;
    let silent = |_| FetchError::Silent { address: address.clone(), wait: *wait };
    let failed = |status| FetchError::peer(address, status);
    // The semaphore is never closed.
    let _permit = fetcher.pulls.acquire().await;
    let client = fetcher.peers.client(address)?;
    let digests = wanted.manifest(fetcher, (address, *owns), client.clone());
    let digests = timeout(*wait, digests).await.map_err(silent)??;
    let stream = wanted.open(fetcher, client, claim.left());
    let mut stream = timeout(*wait, stream).await.map_err(silent)?.map_err(failed)?;
    loop {
        let index = claim.left().start;
        if claim.left().is_empty() {
            return Ok(());
        }
        let piece = timeout(*wait, stream.message()).await.map_err(silent)?.map_err(failed)?;
        let piece = piece.ok_or_else(|| {
            failed(Status::aborted(format!("the stream ended before piece {index}")))
        })?;
        fetcher.traffic.count_received(&piece);
        if piece.index != index {
            let reason = format!("piece {} came where {index} was due", piece.index);
            return Err(FetchError::content(address, reason));
        }
        wanted.accept(fetcher, &digests, (address, piece))?;
        progress.moved();
        claim.took(index);
    }
}

#[cfg(test)]
mod tests;
