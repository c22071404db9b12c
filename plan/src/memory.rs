//! Bytes a rank needs, by kind.

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On the card (or in the process, for a CPU rank): counted against the card's memory.
    Card,
    /// In the host's memory: said, not counted.
    Host,
}

/// One kind of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What for, as shown: `weights`, `gradients`, …
    pub kind: &'static str,
    /// Where.
    pub place: Place,
    /// How many.
    pub bytes: u64,
}

/// Bytes a rank needs, by kind, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The kinds.
    pub terms: Vec<Term>,
}

impl Memory {
    /// Bytes on the card.
    pub fn card(&self) -> u64 {
        self.sum(Place::Card)
    }

    /// Bytes on the host.
    pub fn host(&self) -> u64 {
        self.sum(Place::Host)
    }

    fn sum(&self, place: Place) -> u64 {
        self.terms.iter().filter(|term| term.place == place).map(|term| term.bytes).sum()
    }
}
