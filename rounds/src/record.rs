//! The record of a run: what was committed and what was taken back, each entry chained to all
//! before it by its hash, so that a changed or missing entry shows.

use serde::{Deserialize, Serialize};

use crate::types::{Contribution, Digest};

/// The content of an entry of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Deed {
    /// A round was committed.
    Commit {
        /// The round.
        round: u64,
        /// The set that was aggregated, in this order.
        set: Vec<Contribution>,
    },
    /// θ of a round was lost with all its holders; the run went back.
    Rewind {
        /// The round that was lost.
        from: u64,
        /// The round that it went on from.
        to: u64,
        /// Why.
        reason: String,
    },
    /// The run went on from what members or a checkpoint hold, which this record knows nothing of.
    Adopt {
        /// The round that it went on from.
        round: u64,
        /// Hash of θ at its start, where it was known.
        theta: Option<Digest>,
        /// Tokens of all rounds before.
        tokens: u64,
        /// Samples that were handed out before.
        samples: u64,
        /// Why.
        reason: String,
    },
}

/// One entry of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    /// Position in the record, from 0.
    pub index: u64,
    /// The deed.
    pub deed: Deed,
    /// blake3 over the previous entry's hash and this one's content.
    pub hash: Digest,
}

/// The record was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to verify the record: entry {index} does not follow from those before it")]
pub struct Broken {
    /// The first entry that is wrong.
    pub index: u64,
}

/// The hash before the first entry: it ties a record to its run.
pub fn genesis(run: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("heteroloco record v1");
    hasher.update(run.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

impl Entry {
    /// The entry at `index` after the one whose hash is `previous`.
    pub fn new(index: u64, previous: Digest, deed: Deed) -> Entry {
        let hash = chain(previous, index, &deed);
        Entry { index, deed, hash }
    }
}

/// Checks that `entries`, from the first one on, are the record of `run`; its last hash.
///
/// # Errors
/// Names the first entry that does not follow.
pub fn verify<'a>(
    run: &str,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<Digest, Broken> {
    let mut previous = genesis(run);
    for (index, entry) in (0..).zip(entries) {
        if entry.index != index || entry.hash != chain(previous, index, &entry.deed) {
            return Err(Broken { index });
        }
        previous = entry.hash;
    }
    Ok(previous)
}

/// Lengths go before everything of variable length, so no two deeds have the same bytes.
fn chain(previous: Digest, index: u64, deed: &Deed) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(&index.to_le_bytes());
    match deed {
        Deed::Commit { round, set } => {
            hasher.update(&[1]);
            hasher.update(&round.to_le_bytes());
            hasher.update(&(set.len() as u64).to_le_bytes());
            set.iter().for_each(|contribution| hash_contribution(&mut hasher, contribution));
        }
        Deed::Rewind { from, to, reason } => {
            hasher.update(&[2]);
            hasher.update(&from.to_le_bytes());
            hasher.update(&to.to_le_bytes());
            hash_text(&mut hasher, reason);
        }
        Deed::Adopt { round, theta, tokens, samples, reason } => {
            hasher.update(&[3]);
            let known = theta.map(|theta| theta.0);
            hasher.update(&[u8::from(known.is_some())]);
            hasher.update(&known.unwrap_or_default());
            [round, tokens, samples].iter().for_each(|n| {
                hasher.update(&n.to_le_bytes());
            });
            hash_text(&mut hasher, reason);
        }
    }
    Digest(*hasher.finalize().as_bytes())
}

fn hash_contribution(hasher: &mut blake3::Hasher, contribution: &Contribution) {
    hash_text(hasher, &contribution.island);
    hasher.update(&contribution.epoch.to_le_bytes());
    hasher.update(&contribution.digest.0);
    hasher.update(&contribution.bytes.to_le_bytes());
    hasher.update(&contribution.tokens.to_le_bytes());
    hasher.update(&contribution.steps.to_le_bytes());
    hasher.update(&contribution.loss.to_bits().to_le_bytes());
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<Entry> {
        let contribution = Contribution {
            island: "a".into(),
            epoch: 1,
            digest: Digest([3; 32]),
            bytes: 10,
            tokens: 20,
            steps: 30,
            loss: 2.25,
        };
        let deeds = [
            Deed::Commit { round: 0, set: vec![contribution] },
            Deed::Commit { round: 1, set: vec![] },
            Deed::Rewind { from: 2, to: 1, reason: "power cut".into() },
        ];
        let mut previous = genesis("mini");
        let mut entries = Vec::new();
        for (index, deed) in (0..).zip(deeds) {
            let entry = Entry::new(index, previous, deed);
            previous = entry.hash;
            entries.push(entry);
        }
        entries
    }

    #[test]
    fn an_untouched_record_verifies_to_its_last_hash() {
        let record = record();
        assert_eq!(verify("mini", &record), Ok(record[2].hash));
        assert_eq!(verify("mini", &[]), Ok(genesis("mini")));
    }

    #[test]
    fn a_record_of_another_run_or_with_an_entry_missing_does_not_verify() {
        let record = record();
        assert_eq!(verify("other", &record), Err(Broken { index: 0 }));
        assert_eq!(verify("mini", [&record[0], &record[2]]), Err(Broken { index: 1 }));
    }

    #[test]
    fn every_changed_field_breaks_the_chain_where_it_was_changed() {
        type Spoil = fn(&mut Contribution);
        let spoils: [Spoil; 7] = [
            |c| c.island.push('x'),
            |c| c.epoch += 1,
            |c| c.digest.0[31] ^= 1,
            |c| c.bytes += 1,
            |c| c.tokens += 1,
            |c| c.steps += 1,
            |c| c.loss += 0.5,
        ];
        for spoil in spoils {
            let mut record = record();
            let Deed::Commit { set, .. } = &mut record[0].deed else { panic!("a commit") };
            spoil(&mut set[0]);
            assert_eq!(verify("mini", &record), Err(Broken { index: 0 }));
        }
        let mut record = record();
        record[2].deed = Deed::Rewind { from: 2, to: 1, reason: "none".into() };
        assert_eq!(verify("mini", &record), Err(Broken { index: 2 }));
    }
}
