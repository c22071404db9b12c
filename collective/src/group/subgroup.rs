//! Groups of some of a group's ranks, with links of their own.

use super::{Group, GroupConfig, Transport};
use crate::in_memory::Worlds;
use crate::{CommError, Endpoint};

/// Longer lists of members stand in a subgroup's name by their checksum.
const MEMBERS_BYTES_MAX: usize = 128;

impl Group {
    /// Forms groups of some of this group's ranks. All ranks call it together, each with the ranks
    /// of the group that it belongs to (ascending, itself among them), or with none. The ranks of
    /// the new group are counted in that order. It has links and a runtime of its own, so that it
    /// can be used on another thread at the same time as this one, and this group's timeout.
    ///
    /// `listen` is `host:port` where the others reach this rank, port 0 for a free one; in memory
    /// nobody listens. `name` says what the group is for. Where what one rank asks for contradicts
    /// another, all get an error.
    pub fn subgroup(
        &mut self,
        listen: &str,
        name: &str,
        members: &[u32],
    ) -> Result<Option<Group>, CommError> {
        let formed = match self.transport.clone() {
            Transport::Grpc => self.over_grpc(listen, name, members),
            Transport::InMemory(worlds) => self.in_memory_among(worlds, name, members),
        };
        let mut formed = formed.map_err(|error| self.fail(error))?;
        if let Some(group) = &mut formed {
            group.members = Some(members.to_vec());
        }
        Ok(formed)
    }

    fn over_grpc(
        &mut self,
        listen: &str,
        name: &str,
        members: &[u32],
    ) -> Result<Option<Group>, CommError> {
        let Some(config) = self.config_of(name, members) else {
            return self.agree(name, members, "").map(|_| None);
        };
        let endpoint = Endpoint::bind(listen)?;
        let all = self.agree(name, members, &endpoint.address().to_string())?;
        let address = |member: &u32| all[*member as usize].clone();
        let addresses: Vec<_> = members.iter().map(address).collect();
        let joined = endpoint.connect(config, &addresses);
        joined.map(Some).map_err(|error| error.renumbered(members))
    }

    fn in_memory_among(
        &mut self,
        worlds: Worlds,
        name: &str,
        members: &[u32],
    ) -> Result<Option<Group>, CommError> {
        self.agree(name, members, "")?;
        let Some(config) = self.config_of(name, members) else { return Ok(None) };
        let links = worlds.take(&config.island, config.rank, config.world_size);
        Ok(Some(Self::of_memory(links, config, worlds)))
    }

    /// This rank's part in the subgroup; `None` when it has none.
    fn config_of(&self, name: &str, members: &[u32]) -> Option<GroupConfig> {
        let rank = members.iter().position(|member| *member == self.config.rank)?;
        Some(GroupConfig {
            // Groups of other names or members are other islands, which do not come together.
            island: format!("{}/{name}.{}", self.config.island, short(members)),
            rank: rank as u32,
            world_size: members.len() as u32,
            ..self.config.clone()
        })
    }

    /// Tells the others what this rank asks for, and where it listens; all ranks' addresses.
    fn agree(
        &mut self,
        name: &str,
        members: &[u32],
        address: &str,
    ) -> Result<Vec<String>, CommError> {
        let wish = format!("{address}\n{}\n{name}", text(members));
        let all = self.all_gather_bytes(wish.as_bytes())?;
        let fields = (0..).zip(&all).map(|(rank, wish)| {
            let fields = std::str::from_utf8(wish).ok().and_then(|wish| wish.split_once('\n'));
            let detail = || "what it asks for is no subgroup".to_owned();
            fields.ok_or_else(|| CommError::Protocol { rank, detail: detail() })
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let wishes: Vec<_> = fields.iter().map(|(_, wish)| *wish).collect();
        check(&wishes)?;
        Ok(fields.into_iter().map(|(address, _)| address.to_owned()).collect())
    }
}

/// Members as they travel.
fn text(members: &[u32]) -> String {
    members.iter().map(u32::to_string).collect::<Vec<_>>().join("-")
}

/// Members in a subgroup's name, which has to fit a hello: many are told apart by a checksum (FNV)
/// of them all.
fn short(members: &[u32]) -> String {
    let all = text(members);
    if all.len() <= MEMBERS_BYTES_MAX {
        return all;
    }
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = all.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    format!("{}-ranks-{hash:016x}", members.len())
}

/// All ranks see the same wishes and come to the same end.
fn check(wishes: &[&str]) -> Result<(), CommError> {
    for (rank, wish) in wishes.iter().enumerate() {
        let members = wish.split('\n').next().unwrap_or_default();
        if members.is_empty() {
            continue;
        }
        let config = |detail| Err(CommError::Config { detail });
        let members: Result<Vec<usize>, _> = members.split('-').map(str::parse).collect();
        let ascend = |members: &Vec<usize>| members.is_sorted_by(|a, b| a < b);
        let Some(members) = members.ok().filter(ascend).filter(|all| all.contains(&rank)) else {
            return config(format!(
                "the subgroup that rank {rank} asks for is not a list of ascending ranks with \
                 itself among them"
            ));
        };
        if let Some(other) = members.iter().find(|member| wishes.get(**member) != Some(wish)) {
            return config(format!("ranks {rank} and {other} ask for unlike subgroups"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
