//! Everything that a search may choose, each with what it cannot beat.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Search;
use super::arrange::Look;
use super::bound::Bound;
use crate::spec::PipelineCompression;

/// Stages that are tried.
const STAGES_MAX: usize = 256;
/// Most kinds of cards for which every set is tried; of more, those that a rule picks.
const KINDS_MAX: usize = 4;
/// Groups up to which every number of replicas is tried; of more, the least for each number of
/// micro-batches.
const FEW_GROUPS_MAX: usize = 64;

/// A choice that leaves open which group stands where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub bound: f64,
    pub cut: usize,
    /// Index of a selection of groups.
    pub selection: usize,
    pub stages: usize,
    pub replicas: usize,
    pub size: u32,
    /// Whether a node may have all of it.
    pub inside: bool,
    /// Whether it is one of the few that are tried whatever else there is.
    pub simple: bool,
}

/// Groups of some kinds, fastest first.
pub(crate) struct Selection {
    pub cut: usize,
    pub groups: Vec<usize>,
    /// Whether they are of one kind.
    pub alike: bool,
}

impl Search<'_, '_> {
    /// Sets of kinds, by cut, with all their groups.
    pub(crate) fn selections(&mut self) -> Vec<Selection> {
        let mut found = Vec::new();
        for cut in 0..self.estimator.cuts.len() {
            let order = self.by_speed(cut);
            let mut kinds: Vec<usize> = Vec::new();
            for group in &order {
                let kind = self.estimator.groups[cut][*group].kind;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            let memory = |kind: &usize| self.estimator.kinds[*kind].memory;
            for set in sets(&kinds, memory) {
                let groups = &self.estimator.groups[cut];
                let within = order.iter().filter(|group| set.contains(&groups[**group].kind));
                let groups = within.copied().collect();
                found.push(Selection { cut, groups, alike: set.len() == 1 });
            }
        }
        found
    }

    /// A cut's groups, fastest for what they cost first; those of nodes with many of them first.
    fn by_speed(&mut self, cut: usize) -> Vec<usize> {
        let groups = self.estimator.groups[cut].len();
        let mut beside: BTreeMap<Look, usize> = BTreeMap::new();
        for group in &self.estimator.groups[cut] {
            *beside.entry(group.look()).or_default() += 1;
        }
        let mut keyed: Vec<(f64, usize, usize, usize)> = (0..groups)
            .map(|index| {
                let each = self.estimator.pace(cut, index, 1).each();
                let group = &self.estimator.groups[cut][index];
                let burden = self.estimator.group_burden(cut, index);
                let many = usize::MAX - beside[&group.look()];
                (each * burden, many, group.node, index)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        keyed.into_iter().map(|(.., index)| index).collect()
    }

    /// Everything that may be chosen, best bound first.
    pub(crate) fn choices(
        &mut self,
        selections: &[Selection],
        compression: Option<PipelineCompression>,
    ) -> Vec<Choice> {
        let mut choices = Vec::new();
        let layers = self.estimator.planner.run.model.config().num_hidden_layers;
        for (index, selection) in selections.iter().enumerate() {
            for size in self.sizes(selection) {
                let rooms = self.rooms(selection, size);
                let sizes = self.stages(selection.groups.len());
                let replicas = sizes
                    .clone()
                    .map(|stages| self.replicas(selection.groups.len() / stages, size));
                let replicas: Vec<Vec<usize>> = replicas.collect();
                let groups = (selection.cut, &selection.groups[..]);
                let bound = Bound::new(self.estimator, groups, compression, size);
                for (stages, replicas) in sizes.zip(replicas) {
                    if stages == 1 && size != 1 {
                        continue;
                    }
                    for replicas in replicas {
                        if rooms[stages * replicas] < u64::from(layers) * replicas as u64 {
                            continue;
                        }
                        choices.push(Choice {
                            bound: bound.of(stages, replicas),
                            cut: selection.cut,
                            selection: index,
                            stages,
                            replicas,
                            size,
                            inside: stages * replicas <= bound.together,
                            simple: selection.alike
                                && size <= 2
                                && simple(stages, replicas, bound.together),
                        });
                    }
                }
            }
        }
        choices.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        choices
    }

    /// Layers that so many of the groups hold together at most, from none: those with the most room
    /// first, each as if it were in the middle of a pipeline and had one micro-batch at a time.
    fn rooms(&mut self, selection: &Selection, size: u32) -> Vec<u64> {
        let layers = self.estimator.planner.run.model.config().num_hidden_layers;
        let mut rooms: Vec<u64> = Vec::with_capacity(selection.groups.len());
        for group in &selection.groups {
            let kind = self.estimator.groups[selection.cut][*group].kind;
            let room = self.estimator.most_layers(selection.cut, kind, size);
            rooms.push(room.min(layers).into());
        }
        rooms.sort_unstable_by_key(|room| std::cmp::Reverse(*room));
        let mut sum = 0;
        let sums = rooms.into_iter().map(|room| {
            sum += room;
            sum
        });
        std::iter::once(0).chain(sums).collect()
    }

    /// Sizes of a micro-batch that divide the sequences of a step and are of use.
    fn sizes(&self, selection: &Selection) -> Vec<u32> {
        let run = self.estimator.planner.run;
        let groups = &self.estimator.groups[selection.cut];
        let kinds = selection.groups.iter().map(|group| groups[*group].kind);
        let most = kinds.map(|kind| self.estimator.useful_size(kind)).max().unwrap_or(1);
        (1..=most).filter(|size| run.sequences.is_multiple_of(*size)).collect()
    }

    /// Numbers of stages that so many groups can make.
    fn stages(&self, groups: usize) -> Range<usize> {
        let layers = self.estimator.planner.run.model.config().num_hidden_layers as usize;
        let most = groups.min(layers);
        match self.parallelism.pipeline.map(|stages| stages as usize) {
            Some(stages) if (1..=most).contains(&stages) => stages..stages + 1,
            Some(_) => 0..0,
            None => 1..most.min(STAGES_MAX) + 1,
        }
    }

    /// Numbers of replicas, of so many that there could be.
    fn replicas(&self, most: usize, size: u32) -> Vec<usize> {
        let micro_batches = (self.estimator.planner.run.sequences / size) as usize;
        let most = most.min(micro_batches);
        match self.parallelism.data {
            Some(data) if (1..=most).contains(&(data as usize)) => vec![data as usize],
            Some(_) => Vec::new(),
            None if most <= FEW_GROUPS_MAX => (1..=most).collect(),
            None => {
                let least = (1..=micro_batches).map(|each| micro_batches.div_ceil(each));
                let mut counts: Vec<usize> = least.filter(|count| *count <= most).collect();
                counts.push(most);
                counts.sort_unstable();
                counts.dedup();
                counts
            }
        }
    }
}

/// Replicas or stages alone, one group, two, four and so on, or all that a node has.
fn simple(stages: usize, replicas: usize, together: usize) -> bool {
    let cells = stages * replicas;
    let alone = stages == 1 || replicas == 1;
    alone && cells <= together && (cells.is_power_of_two() || cells == together)
}

/// Every set of few kinds; of many, the fastest and the largest in memory, each with all before.
fn sets(kinds: &[usize], memory: impl Fn(&usize) -> u64) -> Vec<Vec<usize>> {
    if kinds.len() <= KINDS_MAX {
        let masks = (1_usize..1 << kinds.len()).rev();
        let set = |mask: usize| {
            let inside = kinds.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
            inside.map(|(_, kind)| *kind).collect()
        };
        return masks.map(set).collect();
    }
    let mut large = kinds.to_vec();
    large.sort_by_key(|kind| std::cmp::Reverse(memory(kind)));
    let orders = [kinds.to_vec(), large];
    let mut sets: Vec<Vec<usize>> = orders
        .iter()
        .flat_map(|order| (1..=order.len()).map(|end| order[..end].to_vec()))
        .collect();
    sets.extend(kinds.iter().map(|kind| vec![*kind]));
    for set in &mut sets {
        set.sort_unstable();
    }
    sets.sort();
    sets.dedup();
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_kinds_every_set_is_tried_and_of_many_a_few_dozen() {
        assert_eq!(sets(&[2, 7], |_| 1), [vec![2, 7], vec![7], vec![2]]);
        let kinds: Vec<usize> = (0..12).collect();
        let many = sets(&kinds, |kind| *kind as u64);
        assert!(many.len() <= 3 * kinds.len() && many.contains(&kinds), "{}", many.len());
    }
}
