//! Bounds on what a message may hold, and the checks that enforce them.

use rounds::types::Digest;

use crate::error::{Problem, ProtoError};

/// Bytes of a run's or an island's name: Kubernetes' bound on an object's name.
pub(crate) const NAME_BYTES_MAX: usize = 253;
/// Bytes of `host:port`.
pub(crate) const ADDRESS_BYTES_MAX: usize = NAME_BYTES_MAX + 6;
/// Bytes of a reason or a trace context.
pub(crate) const REASON_BYTES_MAX: usize = 4096;
/// Bytes of the reason for which a contribution is rejected: a message may have one for each.
pub(crate) const DETAIL_BYTES_MAX: usize = 512;
/// Ranges of samples that one member has in a round.
pub(crate) const RANGES_MAX: usize = rounds::text::RANGES_MAX;
/// Ranks of one island.
pub(crate) const RANKS_MAX: usize = 4096;
/// Members in a view.
pub(crate) const MEMBERS_MAX: usize = rounds::config::MEMBERS_MAX as usize;
/// Contributions of one round.
pub(crate) const CONTRIBUTIONS_MAX: usize = MEMBERS_MAX;
/// Commits in a view.
pub(crate) const COMMITS_MAX: usize = 64;
/// Bytes of one message to or from the coordinator.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

type Checked<T> = Result<T, ProtoError>;

pub(crate) fn present<T>(field: &str, value: Option<T>) -> Checked<T> {
    value.ok_or_else(|| ProtoError::new(field, Problem::Missing))
}

pub(crate) fn digest(field: &str, bytes: &[u8]) -> Checked<Digest> {
    let array = <[u8; 32]>::try_from(bytes);
    array.map(Digest).map_err(|_| ProtoError::new(field, Problem::DigestLength(bytes.len())))
}

/// A digest that may be absent: no bytes at all.
pub(crate) fn optional_digest(field: &str, bytes: &[u8]) -> Checked<Option<Digest>> {
    if bytes.is_empty() { Ok(None) } else { digest(field, bytes).map(Some) }
}

pub(crate) fn text(field: &str, text: String, max: usize) -> Checked<String> {
    if text.len() > max {
        return Err(ProtoError::new(field, Problem::TooLong { bytes: text.len(), max }));
    }
    Ok(text)
}

pub(crate) fn name(field: &str, value: String) -> Checked<String> {
    let value = text(field, value, NAME_BYTES_MAX)?;
    if value.is_empty() {
        return Err(ProtoError::new(field, Problem::Missing));
    }
    let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    if !value.bytes().all(known) {
        return Err(ProtoError::new(field, Problem::NotAName));
    }
    Ok(value)
}

pub(crate) fn address(field: &str, value: String) -> Checked<String> {
    let value = text(field, value, ADDRESS_BYTES_MAX)?;
    let parts = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != 0);
    let printable = value.bytes().all(|c| c.is_ascii_graphic());
    if port.is_none() || !printable {
        return Err(ProtoError::new(field, Problem::NotAnAddress(value)));
    }
    Ok(value)
}

pub(crate) fn count<T>(field: &str, list: Vec<T>, max: usize) -> Checked<Vec<T>> {
    if list.len() > max {
        return Err(ProtoError::new(field, Problem::TooMany { count: list.len(), max }));
    }
    Ok(list)
}

/// Checks every entry of a bounded list; an error names the entry: `ranks[3].address`.
pub(crate) fn list<T, U: TryFrom<T, Error = ProtoError>>(
    field: &str,
    values: Vec<T>,
    max: usize,
) -> Checked<Vec<U>> {
    let entry = |(at, value)| {
        U::try_from(value).map_err(|error: ProtoError| error.within(&format!("{field}[{at}]")))
    };
    count(field, values, max)?.into_iter().enumerate().map(entry).collect()
}

pub(crate) fn finite(field: &str, value: f32) -> Checked<f32> {
    if value.is_finite() { Ok(value) } else { Err(ProtoError::new(field, Problem::NotFinite)) }
}
