//! The connections of an island's devices: who sums with whom, and which lanes join the stages.

use std::time::Duration;

use collective::Group;
use plan::shard::{Grid, Position};

use super::{LaneIn, LaneOut, Meeting, PeerError, Reducer, Team, lane};

/// Where this rank stands among the island's devices.
#[derive(Clone, Debug)]
pub struct Place {
    /// All devices.
    pub grid: Grid,
    /// The rank that each device belongs to, in the order of the grid.
    pub owners: Vec<u32>,
    /// This rank.
    pub rank: u32,
    /// `host:port` to listen on for each connection; port 0 takes a free one.
    pub listen: String,
}

impl Place {
    /// The positions of this rank's devices.
    pub fn own(&self) -> impl Iterator<Item = Position> + '_ {
        self.of(self.rank)
    }

    /// The positions of a rank's devices.
    pub fn of(&self, rank: u32) -> impl Iterator<Item = Position> + '_ {
        let owned = (0..).zip(&self.owners).filter(move |(_, owner)| **owner == rank);
        owned.map(|(index, _)| self.grid.position(index))
    }

    /// The rank of a position.
    pub fn owner(&self, at: Position) -> u32 {
        self.owners[self.grid.index(at) as usize]
    }
}

/// One device's connections.
#[derive(Debug, Default)]
pub struct Links {
    /// With those that share its layers.
    pub tensor: Option<Team>,
    /// Between first and last stage, where both hold the embedding.
    pub tied: Option<Team>,
    /// With the same shard of other replicas.
    pub data: Option<Reducer>,
    /// With the stage before: activations come, their gradients go.
    pub before: Option<Side>,
    /// With the stage after: activations go, their gradients come.
    pub after: Option<Side>,
}

/// Both directions of a boundary.
#[derive(Debug)]
pub struct Side {
    /// To the other stage.
    pub out: LaneOut,
    /// From the other stage.
    pub into: LaneIn,
}

/// Connects this rank's devices, in their order. All ranks of the island call it together with the
/// same grid and owners; `tied` says whether first and last stage share the embedding.
///
/// # Errors
/// A rank that is gone, or that was told another plan.
pub fn build(group: &mut Group, place: &Place, tied: bool) -> Result<Vec<Links>, PeerError> {
    let mut mesh = Mesh { links: Vec::new(), wait: group.timeout(), group, place };
    mesh.links = place.own().map(|_| Links::default()).collect();
    let Grid { data, stages, tensor } = place.grid;
    for replica in 0..data {
        for stage in 0..stages {
            let at = |tensor| Position { data: replica, stage, tensor };
            mesh.team("tensor", (0..tensor).map(at), |links, team| links.tensor = Some(team))?;
        }
    }
    for tensor in 0..tensor {
        for replica in 0..if tied && stages > 1 { data } else { 0 } {
            let ends = [0, stages - 1].map(|stage| Position { data: replica, stage, tensor });
            mesh.team("tied", ends.into_iter(), |links, team| links.tied = Some(team))?;
        }
        for stage in 0..stages {
            let at = |data| Position { data, stage, tensor };
            mesh.reducers((0..data).map(at))?;
        }
        for replica in 0..data {
            for stage in 1..stages {
                let at = |stage| Position { data: replica, stage, tensor };
                mesh.boundary(at(stage - 1), at(stage))?;
            }
        }
    }
    Ok(mesh.links)
}

struct Mesh<'a> {
    links: Vec<Links>,
    wait: Duration,
    group: &'a mut Group,
    place: &'a Place,
}

impl Mesh<'_> {
    /// This rank's devices of a team, by their index among its devices and their place in the team.
    fn members(
        &mut self,
        kind: &str,
        positions: impl Iterator<Item = Position>,
    ) -> Result<Vec<(usize, Team)>, PeerError> {
        let positions: Vec<Position> = positions.collect();
        if positions.len() < 2 {
            return Ok(Vec::new());
        }
        let mut ranks: Vec<u32> = positions.iter().map(|at| self.place.owner(*at)).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let group = self.subgroup(kind, positions[0], &ranks)?;
        let own: Vec<Position> = self.place.own().collect();
        let local = positions
            .iter()
            .enumerate()
            .filter_map(|(position, at)| Some((own.iter().position(|mine| mine == at)?, position)));
        let local: Vec<(usize, usize)> = local.collect();
        let meeting = Meeting::new(local.len(), group, self.wait);
        let team = |(index, (device, position)): (usize, &(usize, usize))| {
            (*device, Team::new(&meeting, index, *position, positions.len()))
        };
        Ok(local.iter().enumerate().map(team).collect())
    }

    fn team(
        &mut self,
        kind: &str,
        positions: impl Iterator<Item = Position>,
        put: impl Fn(&mut Links, Team),
    ) -> Result<(), PeerError> {
        for (device, team) in self.members(kind, positions)? {
            put(&mut self.links[device], team);
        }
        Ok(())
    }

    fn reducers(&mut self, positions: impl Iterator<Item = Position>) -> Result<(), PeerError> {
        for (device, team) in self.members("data", positions)? {
            self.links[device].data = Some(Reducer::new(team, 2 * self.wait)?);
        }
        Ok(())
    }

    fn boundary(&mut self, first: Position, second: Position) -> Result<(), PeerError> {
        let (activations_out, activations_in) = self.lane("activations", (first, second))?;
        let (gradients_out, gradients_in) = self.lane("gradients", (second, first))?;
        if let (Some(device), Some(out), Some(into)) =
            (self.device(first), activations_out, gradients_in)
        {
            self.links[device].after = Some(Side { out, into });
        }
        if let (Some(device), Some(out), Some(into)) =
            (self.device(second), gradients_out, activations_in)
        {
            self.links[device].before = Some(Side { out, into });
        }
        Ok(())
    }

    /// This rank's ends of a lane.
    fn lane(
        &mut self,
        kind: &str,
        (from, to): (Position, Position),
    ) -> Result<(Option<LaneOut>, Option<LaneIn>), PeerError> {
        // As many micro-batches as the schedule has in flight.
        let waiting = self.place.grid.stages as usize;
        let (sender, receiver) = (self.place.owner(from), self.place.owner(to));
        if sender == receiver {
            let own = sender == self.place.rank;
            let ends = own.then(|| lane(waiting, self.wait));
            return Ok(ends.map_or((None, None), |(out, into)| (Some(out), Some(into))));
        }
        let mut ranks = [sender, receiver];
        ranks.sort_unstable();
        let Some(group) = self.subgroup(kind, from, &ranks)? else { return Ok((None, None)) };
        let peer = 1 - group.rank();
        if sender == self.place.rank {
            return Ok((Some(LaneOut::to(group, peer, waiting)?), None));
        }
        Ok((None, Some(LaneIn::from(group, peer)?)))
    }

    /// A group of several ranks; none for those that are not in it, and for one rank alone.
    fn subgroup(
        &mut self,
        kind: &str,
        at: Position,
        ranks: &[u32],
    ) -> Result<Option<Group>, PeerError> {
        if ranks.len() < 2 {
            return Ok(None);
        }
        let members = if ranks.contains(&self.place.rank) { ranks } else { &[] };
        let Position { data, stage, tensor } = at;
        let name = format!("{kind}-{data}-{stage}-{tensor}");
        self.group.subgroup(&self.place.listen, &name, members).map_err(PeerError::Group)
    }

    fn device(&self, at: Position) -> Option<usize> {
        self.place.own().position(|own| own == at)
    }
}
