//! The faults of a world, and their times: drawn from the seed before the run begins.

use crate::rng::Rng;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    /// An island's process dies; it comes back after so many milliseconds.
    Crash { island: usize, away: u64 },
    /// Its threads stand still.
    Freeze { island: usize, ms: u64 },
    /// Nothing reaches it or leaves it, and no connection breaks.
    CutOff { island: usize, ms: u64 },
    /// Its disk is empty when it comes back.
    LoseDisk { island: usize, away: u64 },
    /// Its θ is wrong after the next commit.
    FlipBit { island: usize },
    /// An island that was never there joins.
    Join { island: usize },
    /// The coordinator's process dies; what it was writing is lost.
    CrashCoordinator { away: u64 },
    /// It comes back with the store of some time ago,
    OlderStore { away: u64 },
    /// or with none.
    LoseStore { away: u64 },
}

/// The run and its faults that a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) islands: usize,
    pub(crate) late: usize,
    pub(crate) quorum_percent: u8,
    pub(crate) grace: u64,
    pub(crate) rounds: u64,
    pub(crate) checkpoint_every: u64,
    /// Milliseconds of a round, by island.
    pub(crate) round_ms: Vec<u64>,
    /// In 1,000 messages.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) delay: u64,
    pub(crate) mishaps: Vec<(u64, Mishap)>,
    /// After this nothing goes wrong any more.
    pub(crate) quiet_at: u64,
}

/// Milliseconds in which things go wrong.
const TROUBLE_MS: u64 = 12_000;

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Plan {
        let islands = usize::try_from(rng.between(1, 5)).unwrap_or(1);
        let late = usize::from(rng.chance(250));
        let all = islands + late;
        let lossy = rng.chance(500);
        let mut plan = Plan {
            islands,
            late,
            quorum_percent: [50, 60, 60, 100][rng.index(4)],
            grace: rng.between(100, 1_500),
            rounds: rng.between(4, 12),
            checkpoint_every: rng.between(1, 5),
            round_ms: (0..all).map(|_| rng.between(300, 1_200)).collect(),
            lost: if lossy { rng.between(1, 80) } else { 0 },
            doubled: if lossy { rng.between(1, 80) } else { 0 },
            delay: rng.between(2, 60),
            mishaps: Vec::new(),
            quiet_at: TROUBLE_MS,
        };
        // Without a store a coordinator knows only of the islands that it was told to expect.
        let stores = rng.chance(150) && late == 0;
        for _ in 0..rng.between(0, 9) {
            let at = rng.between(0, TROUBLE_MS);
            let mishap = plan.mishap(rng, stores);
            plan.mishaps.push((at, mishap));
        }
        if islands > 1 && rng.chance(100) {
            plan.one_is_left(rng);
        }
        if late > 0 {
            plan.mishaps.push((rng.between(0, TROUBLE_MS), Mishap::Join { island: islands }));
        }
        plan
    }

    /// All lose what they have but one, which is away for longer than the run waits.
    fn one_is_left(&mut self, rng: &mut Rng) {
        let (left, at) = (rng.index(self.islands), rng.between(2_000, TROUBLE_MS));
        let away = rng.between(9_000, 16_000);
        self.mishaps.push((at, Mishap::Crash { island: left, away }));
        for island in (0..self.islands).filter(|island| *island != left) {
            let (at, away) = (at + rng.between(0, 500), rng.between(10, 2_000));
            self.mishaps.push((at, Mishap::LoseDisk { island, away }));
        }
    }

    /// A run whose coordinator loses its store needs islands that keep theirs, and tell the truth:
    /// what both lose is lost.
    fn mishap(&self, rng: &mut Rng, stores: bool) -> Mishap {
        let island = rng.index(self.islands);
        // One in five is away for longer than the run waits before it goes back.
        let long = rng.chance(200);
        let away = if long { rng.between(8_000, 16_000) } else { rng.between(10, 5_000) };
        let ms = rng.between(100, 8_000);
        match rng.between(0, 12) {
            0..=2 => Mishap::Crash { island, away },
            3 | 4 => Mishap::Freeze { island, ms },
            5 | 6 => Mishap::CutOff { island, ms },
            7 | 8 => Mishap::CrashCoordinator { away: away.min(2_000) },
            9 if stores => Mishap::OlderStore { away: away.min(2_000) },
            10 if stores => Mishap::LoseStore { away: away.min(2_000) },
            9 if self.islands > 1 => Mishap::LoseDisk { island, away },
            _ if self.islands > 2 && !stores => Mishap::FlipBit { island },
            _ => Mishap::Crash { island, away },
        }
    }
}
