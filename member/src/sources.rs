//! Whom to ask for what: several sources side by side, each for a run of pieces of its own.
//!
//! Whoever offered a contribution is asked first, and the other members when that takes long or
//! fails; holders of θ are all alike. A source that is done takes over half of what the slowest
//! still has before it. One that gives nothing for a while is left: what it gave is kept, the rest
//! goes to others, and it is tried again later, with more patience each time, for a slow line is no
//! fault. There is no bound on the whole.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rounds::types::{MemberView, RankAddress, Rejection, RejectionCause};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use crate::fetch::{FetchError, Fetcher, Wanted};

/// Sources that give parts of one thing at a time.
const SOURCES_MAX: usize = 8;
/// From the start until members that did not offer it are asked, too.
const HELP_WAIT: Duration = Duration::from_secs(1);
/// Until a source that failed is asked again: twice as long each time.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(250);
/// Until a source that may not serve it yet is asked again.
const EARLY_WAIT: Duration = Duration::from_millis(50);
/// Failures in a row that count: each doubles the patience with a source.
const FAILURES_MAX: u32 = 3;
/// With nothing to wait for but the members' change.
const LOOK_EVERY: Duration = Duration::from_secs(4);

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

/// The overlap of a rank's pieces with the wanted ones.
fn overlap(rank: &RankAddress, wanted: &Range<u32>) -> Option<Range<u32>> {
    let range = rank.first_piece.max(wanted.start)..rank.end_piece.min(wanted.end);
    (range.start < range.end).then_some(range)
}

/// Runs of consecutive indices.
fn runs(indices: &[u32]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// The pieces that one source is giving. Another source may take its end over.
#[derive(Debug)]
struct Claim {
    first: u32,
    next: AtomicU32,
    end: AtomicU32,
}

impl Claim {
    fn of(range: Range<u32>) -> Arc<Claim> {
        let (next, end) = (AtomicU32::new(range.start), AtomicU32::new(range.end));
        Arc::new(Claim { first: range.start, next, end })
    }

    fn left(&self) -> Range<u32> {
        self.next.load(Relaxed)..self.end.load(Relaxed)
    }

    fn has_moved(&self) -> bool {
        self.next.load(Relaxed) > self.first
    }

    /// The latter half of what is left, which is another's from now on.
    fn split(&self) -> Range<u32> {
        let left = self.left();
        let middle = left.start + (left.end - left.start).div_ceil(2);
        self.end.store(middle, Relaxed);
        middle..left.end
    }
}

/// A rank of another island that may have it.
#[derive(Debug)]
struct Source {
    pieces: Range<u32>,
    /// It is of the island that offered it.
    owns: bool,
    /// Its place among the members.
    place: usize,
    ready_at: Instant,
    /// In a row.
    failures: u32,
    /// It served what is not it, and is not asked again.
    lied: bool,
}

/// How one stream of pieces ended.
struct Landed {
    address: String,
    /// It gave something.
    gave: bool,
    result: Result<(), FetchError>,
}

struct Search<'a> {
    fetcher: &'a Fetcher,
    wanted: &'a Wanted,
    progress: &'a Progress,
    started: Instant,
    /// By address.
    sources: BTreeMap<String, Source>,
    /// By the address of who is giving them.
    claims: BTreeMap<String, Arc<Claim>>,
    flying: FuturesUnordered<BoxFuture<'a, Landed>>,
    /// What says most of why it is not here yet.
    telling: FetchError,
    owner_lied: bool,
}

/// Fetches what is missing here, until it is whole or can never be.
pub(crate) async fn fetch(
    fetcher: &Fetcher,
    wanted: &Wanted,
    mut members: watch::Receiver<Vec<MemberView>>,
    progress: &Progress,
) {
    let mut search = Search {
        fetcher,
        wanted,
        progress,
        started: Instant::now(),
        sources: BTreeMap::new(),
        claims: BTreeMap::new(),
        flying: FuturesUnordered::new(),
        telling: FetchError::NoSource,
        owner_lied: false,
    };
    loop {
        let missing = wanted.missing(fetcher);
        if missing.is_empty() {
            return;
        }
        search.look(&members.borrow_and_update());
        search.dispatch(missing);
        search.judge();
        let wakes_at = search.wakes_at();
        tokio::select! {
            Some(landed) = search.flying.next() => {
                if let Err(error) = search.land(landed) {
                    tracing::warn!(%error, "A contribution is not what was offered.");
                    return progress.reject(RejectionCause::Invalid, error.to_string());
                }
            }
            // Nobody waits any more when the sender is gone.
            changed = members.changed() => if changed.is_err() { return },
            () = sleep_until(wakes_at) => {}
        }
    }
}

impl Search<'_> {
    /// Keeps the sources as the members are.
    fn look(&mut self, members: &[MemberView]) {
        let (fetcher, wanted) = (self.fetcher, self.wanted);
        // Not all begin with the same one.
        let me = members.iter().position(|member| member.island == fetcher.island).unwrap_or(0);
        let others = members.iter().cycle().skip(me).take(members.len());
        let others = others.filter(|m| m.island != fetcher.island && wanted.may_be_at(m));
        let mut there = BTreeMap::new();
        for (place, member) in others.enumerate() {
            for rank in &member.ranks {
                if let Some(pieces) = overlap(rank, &fetcher.store.span()) {
                    there.insert(rank.address.clone(), (pieces, wanted.is_of(member), place));
                }
            }
        }
        let claims = &self.claims;
        self.sources.retain(|at, _| there.contains_key(at) || claims.contains_key(at));
        for (address, (pieces, owns, place)) in there {
            let ready_at = self.started;
            let new = Source { pieces, owns, place, ready_at, failures: 0, lied: false };
            let known = self.sources.remove(&address);
            let source = match known {
                Some(Source { ready_at, failures, lied, .. }) => {
                    Source { ready_at, failures, lied, ..new }
                }
                None => new,
            };
            self.sources.insert(address, source);
        }
    }

    /// Gives every source that may be asked now something to do.
    fn dispatch(&mut self, mut missing: Vec<u32>) {
        let now = Instant::now();
        missing.retain(|piece| !self.claims.values().any(|claim| claim.left().contains(piece)));
        let mut order: Vec<(bool, u32, usize, String)> = self
            .sources
            .iter()
            .filter(|(at, source)| {
                let may_be_asked = source.owns || self.needs_help();
                may_be_asked && !source.lied && source.ready_at <= now && !self.is_giving(at)
            })
            .map(|(at, source)| (!source.owns, source.failures, source.place, at.clone()))
            .collect();
        order.sort();
        for (.., address) in order {
            if self.claims.len() >= SOURCES_MAX {
                return;
            }
            let source = &self.sources[&address];
            let Some(range) = self.choose(&source.pieces, &missing) else { continue };
            missing.retain(|piece| !range.contains(piece));
            let claim = Claim::of(range);
            let wait = self.fetcher.silence * 2u32.pow(source.failures);
            let asked = Asked { address: address.clone(), owns: source.owns, wait };
            let (fetcher, wanted, progress) = (self.fetcher, self.wanted, self.progress);
            self.claims.insert(address, Arc::clone(&claim));
            self.flying.push(Box::pin(async move {
                let result = pull((fetcher, wanted, progress), &asked, &claim).await;
                Landed { address: asked.address, gave: claim.has_moved(), result }
            }));
        }
    }

    fn is_giving(&self, address: &str) -> bool {
        self.claims.contains_key(address)
    }

    /// Whether others than the owner are asked: it is gone, failed, or takes long.
    fn needs_help(&self) -> bool {
        let fails = |source: &Source| source.lied || source.failures > 0;
        let mut owners = self.sources.values().filter(|source| source.owns);
        self.started.elapsed() >= HELP_WAIT || owners.all(fails)
    }

    /// The longest run of pieces that nobody is giving; or else half of the longest that somebody
    /// is.
    fn choose(&self, pieces: &Range<u32>, free: &[u32]) -> Option<Range<u32>> {
        let within = free.iter().copied().filter(|piece| pieces.contains(piece));
        let free = runs(&within.collect::<Vec<_>>());
        if let Some(longest) = free.into_iter().max_by_key(|run| run.end - run.start) {
            return Some(longest);
        }
        let has_all = |left: &Range<u32>| pieces.start <= left.start && left.end <= pieces.end;
        let claims = self.claims.values().filter(|claim| claim.left().len() >= 2);
        let claims = claims.filter(|claim| has_all(&claim.left()));
        claims.max_by_key(|claim| claim.left().len()).map(|claim| claim.split())
    }

    /// Says so when every source has failed and none is giving anything.
    fn judge(&self) {
        let failed = self.sources.values().all(|source| source.lied || source.failures > 0);
        if !failed || self.claims.values().any(|claim| claim.has_moved()) {
            return;
        }
        let cause =
            if self.owner_lied { RejectionCause::Invalid } else { RejectionCause::Unserved };
        self.progress.reject(cause, self.telling.to_string());
    }

    fn wakes_at(&self) -> Instant {
        let now = Instant::now();
        let help_at = self.started + HELP_WAIT;
        let idle = self.sources.iter().filter(|(at, s)| !s.lied && !self.is_giving(at));
        let times = idle.map(|(_, source)| source.ready_at).chain([help_at]);
        times.filter(|at| *at > now).min().unwrap_or(now + LOOK_EVERY)
    }

    /// Takes note of how a stream ended; an error means that it can never be had.
    fn land(&mut self, landed: Landed) -> Result<(), FetchError> {
        let Landed { address, gave, result } = landed;
        self.claims.remove(&address);
        let Some(source) = self.sources.get_mut(&address) else { return Ok(()) };
        let now = Instant::now();
        let Err(error) = result else {
            source.failures = 0;
            return Ok(());
        };
        tracing::debug!(%error, failures = source.failures, "A source failed.");
        if error.is_of_the_line() {
            self.fetcher.peers.hang_up(&address);
        }
        match &error {
            FetchError::Offered { .. } => return Err(error),
            FetchError::Content { .. } => {
                tracing::warn!(%error, "A member serves what is not what it should be.");
                source.lied = true;
                self.owner_lied |= source.owns;
            }
            early if early.is_early() && self.started.elapsed() < self.fetcher.silence => {
                source.ready_at = now + EARLY_WAIT;
            }
            _ => {
                source.ready_at = now + RETRY_WAIT_MIN * 2u32.pow(source.failures);
                // As patient as before with one that gave something.
                let failures = if gave { source.failures } else { source.failures + 1 };
                source.failures = failures.clamp(1, FAILURES_MAX);
            }
        }
        if error.weight() >= self.telling.weight() {
            self.telling = error;
        }
        Ok(())
    }
}

/// Who is asked, and how.
struct Asked {
    address: String,
    owns: bool,
    /// The longest that it may give nothing.
    wait: Duration,
}

/// Takes the pieces of `claim` from one source, in order, for as long as it keeps giving.
async fn pull(
    (fetcher, wanted, progress): (&Fetcher, &Wanted, &Progress),
    asked: &Asked,
    claim: &Claim,
) -> Result<(), FetchError> {
    let Asked { address, owns, wait } = asked;
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
        claim.next.store(index + 1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
